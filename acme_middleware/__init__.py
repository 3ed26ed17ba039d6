"""
Your web app answers its own ACME challenges and gets its own certificate.

The middleware is in :mod:`acme_middleware.wsgi` and :mod:`acme_middleware.asgi`; :func:`issue`, :func:`revoke`,
:func:`delete`, :func:`status` and :func:`statuses` are for a program's own code, and with an ``a`` before their names to be
awaited. This package imports none of them before it is asked for, so that a web worker loads only what it serves with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acme_middleware.api import (
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

__version__ = "0.1.0"

__all__ = ["adelete", "aissue", "arevoke", "astatus", "astatuses", "delete", "issue", "revoke", "status", "statuses"]

if not TYPE_CHECKING:  # a type checker would take any name for one that is here

    def __getattr__(name: str) -> Any:
        if name in __all__:
            from acme_middleware import api

            return getattr(api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
