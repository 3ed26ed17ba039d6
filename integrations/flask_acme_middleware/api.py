"""
Certificates from an app's own code, by its config: issue, revoke, delete, and how they stand.

    from flask_acme_middleware import issue

    issue("customer.example", allow=is_a_customer)

They are those of :mod:`acme_middleware.api`, for the app whose context is active, or for the one given as ``app``.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, current_app

from acme_middleware.api import Api
from acme_middleware.errors import ConfigurationError
from acme_middleware.options import Options
from flask_acme_middleware.extension import options_of

__all__ = ["adelete", "aissue", "arevoke", "astatus", "astatuses", "delete", "issue", "revoke", "status", "statuses"]


def _options(given: dict[str, Any], secrets: bool) -> Options:
    chosen = {name: value for name, value in given.items() if name != "app"}
    app: Flask | None = given.get("app")
    if app is None and not current_app:
        raise ConfigurationError(
            "no app's context is active here, so it is not known whose options hold",
            hint="pass app=..., or call it under `with app.app_context():`",
        )
    return options_of(app or current_app, chosen, secret_files=secrets)


_here = Api(_options)

issue, aissue = _here.issue, _here.aissue
revoke, arevoke = _here.revoke, _here.arevoke
delete, adelete = _here.delete, _here.adelete
status, astatus = _here.status, _here.astatus
statuses, astatuses = _here.statuses, _here.astatuses
