"""
The CA's advice on when to renew (ARI, RFC 9773), asked for again when it is time to.

A refresh reads and writes ``renewal/*`` only, never a key, and needs no account. Of several hosts one asks: the one that has
moved the time of the next asking on.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
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
from acme_middleware.issuance.records import RenewalRecord, RenewalWindow, renewal_key
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
    try:
        return _swap(store, record, renewal.advised(record, window, clock.now()))
    except Conflict:
        return RenewalRecord.read(store, renewal_key(record.name)) or record


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

    def refresh(self, record: RenewalRecord, authority: Authority, ca_bundle: Path | None) -> RenewalRecord:
        """
        Ask the CA that issued a certificate when to renew it, unless another process does so at this moment.

        Returns:
            The record as it is stored now.

        Raises:
            StoreUnavailable, StoreMisconfigured: from the store.
        """
        with self._lock:
            if self._failures.get(authority.id, 0) >= FAILURES:
                return record
        now = clock.now()
        try:
            # Before the request, so that no other host asks, and neither does the next run if this one is killed.
            claimed = _swap(self.store, record, replace(record, ask_after=renewal.ask_in_vain(record, now)))
        except Conflict:
            return RenewalRecord.read(self.store, renewal_key(record.name)) or record
        try:
            conversation = self.conversations.open(authority, ca_bundle)
            window = conversation.renewal_window(claimed.ari_id, claimed.not_after, claimed.ari)
        except (CAUnreachable, CARefused, UnexpectedAnswer, ClockOff, ConfigurationError) as error:
            return self._without(claimed, authority, error)
        with self._lock:
            self._failures[authority.id] = 0
        if window is None:  # this CA gives no advice at all
            later = replace(claimed, ask_after=now + NO_ADVICE)
            with suppress(Conflict):
                claimed = _swap(self.store, claimed, later)
            return claimed
        return keep(self.store, claimed, window)

    def _without(self, record: RenewalRecord, authority: Authority, error: AcmeMiddlewareError) -> RenewalRecord:
        with self._lock:
            failures = self._failures[authority.id] = self._failures.get(authority.id, 0) + 1
        more = f"; {authority.title} is not asked about others in this run" if failures == FAILURES else ""
        self.emit(events.Warned(name=record.name, message=f"no renewal information: {error}{more}"))
        seconds = getattr(error, "retry_after", None)
        if seconds is None:
            return record
        asked = min(max(timedelta(seconds=seconds), renewal.ASK_LATER), LONGEST)
        with suppress(Conflict):
            return _swap(self.store, record, replace(record, ask_after=clock.now() + asked))
        return record


def _swap(store: Store, record: RenewalRecord, fresh: RenewalRecord) -> RenewalRecord:
    return replace(fresh, version=fresh.write(store, renewal_key(record.name), expect=record.version))
