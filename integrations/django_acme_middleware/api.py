"""
Certificates from a site's own code, by its settings: issue, revoke, delete, and how they stand.

    from django_acme_middleware import issue

    issue("customer.example", allow=is_a_customer)

They are those of :mod:`acme_middleware.api`. Receivers of ``acme_event`` are told what happens.
"""

from __future__ import annotations

from typing import Any

from acme_middleware.api import Api
from acme_middleware.options import Options, read
from django_acme_middleware import conf, signals

__all__ = ["adelete", "aissue", "arevoke", "astatus", "astatuses", "delete", "issue", "revoke", "status", "statuses"]


def _options(**given: Any) -> Options:
    return read(("argument", given), *conf.layers(), ("default", conf.DEFAULTS))


_here = Api(_options, signals.tell)

issue, aissue = _here.issue, _here.aissue
revoke, arevoke = _here.revoke, _here.arevoke
delete, adelete = _here.delete, _here.adelete
status, astatus = _here.status, _here.astatus
statuses, astatuses = _here.statuses, _here.astatuses
