"""Renewal from within a Flask app, by its config: in the server's process, or from a job of a task queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask

from acme_middleware.renewer import Renewer
from flask_acme_middleware.extension import options_of

if TYPE_CHECKING:
    from acme_middleware.issuance.sweep import Result

__all__ = ["renew", "renewer"]


def renewer(app: Flask, **how: Any) -> Renewer:
    """
    A renewer with the options of an app's config. Start it where the app is served, and only there::

        if __name__ == "__main__":
            app = create_app()
            with renewer(app):
                waitress.serve(app)

    Not in the app factory: that runs for every command and in the parent of the reloader as well. gunicorn has
    :mod:`flask_acme_middleware.gunicorn`.

    Args:
        app: The app, with its ``Acme``.
        how: ``every``, ``jobs``, ``listener``, ``first`` and ``ttl`` of :class:`acme_middleware.renewer.Renewer`.

    Raises:
        ConfigurationError: the app has no ``Acme``, or a key of its config is wrong.
        StoreMisconfigured: no store is known by that URL, or its driver is missing.
    """
    return Renewer(options_of(app), **how)


def renew(app: Flask, **how: Any) -> list[Result]:
    """
    Renew what is due now, as ``flask acme renew`` does, and come back: for celery beat, APScheduler and the like.

    Args:
        app: The app, with its ``Acme``.
        how: ``names``, ``jobs``, ``force``, ``listener``, ``stop`` and ``every`` of :func:`acme_middleware.renewing.renew`.

    Returns:
        What became of each certificate.

    Raises:
        ConfigurationError: the app has no ``Acme``, or a key of its config is wrong.
        StoreMisconfigured, StoreUnavailable: from the store.
    """
    from acme_middleware.renewing import renew as renew_by_options

    return renew_by_options(options_of(app), **how)
