"""
The CA's advice on when to renew (ARI, RFC 9773), asked for again when it is time to.

A refresh reads and writes ``renewal/*`` only, never a key, and needs no account. Of several hosts one asks: the one that has
moved the time of the next asking on.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from acme_middleware import clock, events
from acme_middleware.authorities import Authority
from acme_middleware.errors import (
    AcmeMiddlewareError,
    CARefused,
    CAUnreachable,
    ClockOff,
    ConfigurationError,
    Conflict,
    UnexpectedAnswer,
)
from acme_middleware.issuance import renewal
from acme_middleware.issuance.records import CertificateRecord, RenewalRecord, RenewalWindow, certificate_key, renewal_key
from acme_middleware.stores.base import Store

if TYPE_CHECKING:  # it brings the ACME client
    from acme_middleware.issuance.conversation import Conversations

FAILURES = 3
"""So many refusals in a row, and a CA is not asked for advice again in this sweep."""

NO_ADVICE, LONGEST = timedelta(days=7), timedelta(days=1)


def keep(store: Store, record: RenewalRecord, window: RenewalWindow | None) -> RenewalRecord:
    """
    Write into a record what the CA advises, None for nothing.

    Returns:
        The record as it is stored now: where another process was faster, what that wrote.
    """
    return _swap(store, record, renewal.advised(record, window, clock.now()))


class Advice:
    """
    Asks CAs for advice, for the names of one sweep; :meth:`refresh` may be called by several threads.

    Args:
        emit: Is told of what goes wrong: no failure here stops a renewal.
    """

    def __init__(self, store: Store, conversations: Conversations, emit: events.Listener) -> None:
        self.store, self.conversations, self.emit = store, conversations, emit
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}

    def identify(self, record: RenewalRecord) -> RenewalRecord:
        """Give a record of before the id that the CA knows the certificate by: the only look into a private record, once."""
        made = CertificateRecord.read(self.store, certificate_key(record.name))
        same = None if made is None or made.issued_at != record.issued_at else renewal.record_of(made)
        found = same.ari_id if same is not None else ""
        # Without one, it is not looked for again.
        return self._swap(record, replace(record, ari_id=found, ask_after=None if found else record.not_after))

    def refresh(self, record: RenewalRecord, authority: Authority | None, ca_bundle: Path | None) -> RenewalRecord:
        """
        Ask the CA that issued a certificate when to renew it, unless another process does so at this moment.

        Args:
            authority: That CA, None where it is not known.
            ca_bundle: The roots to trust for its HTTPS, where those are not what suits it.

        Returns:
            The record as it is stored now.

        Raises:
            StoreUnavailable, StoreMisconfigured: from the store.
        """
        now = clock.now()
        if authority is None:
            return self._swap(record, replace(record, ask_after=now + NO_ADVICE))
        with self._lock:
            if self._failures.get(authority.id, 0) >= FAILURES:
                return record
        # Before the request, so that no other host asks, and neither does the next run if this one is killed.
        soon = renewal.ask_in_vain(record, now)
        claimed = self._swap(record, replace(record, ask_after=soon))
        if claimed.ask_after != soon:
            return claimed
        try:
            conversation = self.conversations.open(authority, ca_bundle or authority.ca_bundle)
            window = conversation.renewal_window(claimed.ari_id, claimed.not_after, claimed.ari)
        except (CAUnreachable, CARefused, UnexpectedAnswer, ClockOff, ConfigurationError) as error:
            return self._without(claimed, authority, error, record.ask_after)
        with self._lock:
            self._failures[authority.id] = 0
        if window is None:  # this CA gives no advice at all
            return self._swap(claimed, replace(claimed, ask_after=now + NO_ADVICE))
        return keep(self.store, claimed, window)

    def _without(
        self, record: RenewalRecord, authority: Authority, error: AcmeMiddlewareError, before: datetime | None
    ) -> RenewalRecord:
        with self._lock:
            failures = self._failures[authority.id] = self._failures.get(authority.id, 0) + 1
        more = f"; {authority.title} is not asked about others in this run" if failures == FAILURES else ""
        self.emit(events.Warned(name=record.name, message=f"no renewal information: {error}{more}"))
        if isinstance(error, ClockOff):  # what was noted as the time to ask again is as wrong as this clock
            return self._swap(record, replace(record, ask_after=before))
        seconds = getattr(error, "retry_after", None)
        if seconds is None:
            return record
        asked = min(max(timedelta(seconds=seconds), renewal.ASK_LATER), LONGEST)
        return self._swap(record, replace(record, ask_after=clock.now() + asked))

    def _swap(self, record: RenewalRecord, fresh: RenewalRecord) -> RenewalRecord:
        return _swap(self.store, record, fresh)


def _swap(store: Store, record: RenewalRecord, fresh: RenewalRecord) -> RenewalRecord:
    """Write ``fresh`` in the place of ``record``; returns what is stored then, by whomever."""
    where = renewal_key(record.name)
    try:
        return replace(fresh, version=fresh.write(store, where, expect=record.version))
    except Conflict:
        return RenewalRecord.read(store, where) or record
