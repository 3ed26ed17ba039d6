"""
Renewal from within a Django site, by its settings: in an ASGI server, or from a job of a task queue.

Nothing here starts by itself. In ``asgi.py``::

    application = renewing(get_asgi_application())

gunicorn has :mod:`django_acme_middleware.gunicorn`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acme_middleware.asgi_renewal import App, RenewingApp
from acme_middleware.renewer import Renewer
from django_acme_middleware import conf, signals

if TYPE_CHECKING:
    from acme_middleware.issuance.sweep import Result

__all__ = ["renew", "renewer", "renewing"]


def renewing(app: App, **how: Any) -> RenewingApp:
    """
    Wrap an ASGI application so that the site's certificates are renewed for as long as a server runs it.

        application = renewing(get_asgi_application())

    Under ``manage.py`` commands nothing happens, under runserver neither: it serves no lifespan.

    Args:
        app: What ``get_asgi_application()`` gave.
        how: ``every``, ``jobs``, ``first`` and ``ttl`` of :class:`acme_middleware.renewer.Renewer`.

    Raises:
        ConfigurationError, StoreMisconfigured: a setting is wrong.
    """
    return RenewingApp(app, renewer=renewer(**how))


def renewer(**how: Any) -> Renewer:
    """
    A renewer with the options of this site's settings; receivers of ``acme_event`` are told what happens.

    Args:
        how: ``every``, ``jobs``, ``first`` and ``ttl`` of :class:`acme_middleware.renewer.Renewer`.

    Raises:
        ConfigurationError, StoreMisconfigured: a setting is wrong.
    """
    return Renewer(conf.options(), listener=signals.tell, **how)


def renew(**how: Any) -> list[Result]:
    """
    Renew what is due now, as ``manage.py acme renew`` does, and come back: for celery beat, APScheduler, Django Tasks.

    Args:
        how: ``names``, ``jobs``, ``force``, ``stop`` and ``every`` of :func:`acme_middleware.renewing.renew`.

    Returns:
        What became of each certificate.

    Raises:
        ConfigurationError: a setting is wrong.
        StoreMisconfigured, StoreUnavailable: from the store.
    """
    from acme_middleware.renewing import renew as renew_by_options

    return renew_by_options(conf.options(), listener=signals.tell, **how)
