"""
Flask's side of acme-middleware: the extension, and its commands.

    acme = Acme()


    def create_app():
        app = Flask(__name__)
        acme.init_app(app)
        return app

then ``flask acme issue example.com``. From the app's own code: :func:`issue` and the others of
:mod:`flask_acme_middleware.api`, which are loaded when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acme_middleware._extras import extra

with extra("flask", "flask", "werkzeug"):
    from flask_acme_middleware.extension import Acme

if TYPE_CHECKING:
    from flask_acme_middleware.api import (
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

__all__ = [
    "Acme",
    "adelete",
    "aissue",
    "arevoke",
    "astatus",
    "astatuses",
    "delete",
    "issue",
    "revoke",
    "status",
    "statuses",
]

if not TYPE_CHECKING:  # a type checker would take any name for one that is here

    def __getattr__(name: str) -> Any:
        if name in __all__:
            from flask_acme_middleware import api

            return getattr(api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
