"""
Django's side of acme-middleware: the middleware, stores in the site's own database, checks, the admin and the commands.

    INSTALLED_APPS += ["django_acme_middleware"]
    MIDDLEWARE = ["django_acme_middleware.middleware.AcmeMiddleware", *MIDDLEWARE]  # first

then ``manage.py migrate`` and ``manage.py issuecert example.com``. From the site's own code: :func:`issue` and the others of
:mod:`django_acme_middleware.api`, which are loaded when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acme_middleware._extras import extra

with extra("django", "django", "asgiref"):
    import django  # noqa: F401  # so that it is missed here, whatever of this is imported first

if TYPE_CHECKING:
    from django_acme_middleware.api import (
        adelete,
        aissue,
        arevoke,
        astatus,
        astatuses,
        delete,
        issue,
        revoke,
        status,
        statuses,
    )

__all__ = ["adelete", "aissue", "arevoke", "astatus", "astatuses", "delete", "issue", "revoke", "status", "statuses"]

if not TYPE_CHECKING:  # a type checker would take any name for one that is here

    def __getattr__(name: str) -> Any:
        if name in __all__:
            from django_acme_middleware import api

            return getattr(api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
