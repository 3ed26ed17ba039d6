"""Which CA of a list is asked, and what of the options is for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from acme_middleware import clock
from acme_middleware.authorities import Authority
from acme_middleware.issuance.ledger import HOSTS_APART, ledger_key, read
from acme_middleware.options import Options
from acme_middleware.stores.base import Store

REPEATED = 3
"""So many failures in a row, which another CA might not have had, send a certificate to the next CA of the list."""

GIVEN_UP = timedelta(days=1)
"""How long after the last of them a CA is not asked while there is another."""


def choose(store: Store, candidates: Sequence[Authority], options: Options, names: Sequence[str]) -> Authority:
    """
    The first CA of the list that has not failed these names repeatedly of late.

    A failed validation does not count: the next CA would see the same. Where all have failed, it is the one whose pause ends
    first.
    """
    if len(candidates) == 1:
        return candidates[0]
    now, failing = clock.now(), []
    for authority in candidates:
        record = read(store, ledger_key(authority.id, account_of(suited(options, candidates, authority)), names))
        if record is None or record.elsewhere < REPEATED or not now - GIVEN_UP < record.failed_at <= now + HOSTS_APART:
            return authority
        failing.append((record.next_try, authority))
    return min(failing, key=lambda pair: pair[0])[1]


def suited(options: Options, candidates: Sequence[Authority], authority: Authority) -> Options:
    """The options at one CA of a list: what was not set is what suits it, and what is for another is left out."""
    suited = replace(
        options,
        self_check=options.self_check or authority.self_check,
        ca_bundle=options.ca_bundle or authority.ca_bundle,
    )
    return replace(suited, eab_kid=None, eab_hmac_key=None) if len(candidates) > 1 and not authority.takes_eab else suited


def account_of(options: Options) -> str:
    """The id of the account that options lead to."""
    return options.eab_kid or "default"
