"""
Certificates from a site's own code, by its settings: issue, revoke, delete, and how they stand.

    from django_acme_middleware import issue

    issue("customer.example", allow=is_a_customer)

They are those of :mod:`acme_middleware.api`. Receivers of ``acme_event`` are told what happens.
"""

from __future__ import annotations

from typing import Any

from django.db import connections

from acme_middleware.api import Api
from acme_middleware.options import Options, read
from django_acme_middleware import conf, signals

__all__ = ["adelete", "aissue", "arevoke", "astatus", "astatuses", "delete", "issue", "revoke", "status", "statuses"]


def _options(given: dict[str, Any], secrets: bool) -> Options:
    return read(("argument", given), *conf.layers(secret_files=secrets), ("default", conf.DEFAULTS))


# What is awaited runs in a thread that no request ends in: connections that allow() has opened would stay, and go stale.
_here = Api(_options, signals.tell, after=connections.close_all)

issue, aissue = _here.issue, _here.aissue
revoke, arevoke = _here.revoke, _here.arevoke
delete, adelete = _here.delete, _here.adelete
status, astatus = _here.status, _here.astatus
statuses, astatuses = _here.statuses, _here.astatuses
