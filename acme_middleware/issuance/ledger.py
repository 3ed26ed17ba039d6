"""
What failed, how often in a row, and when the next try is allowed: one record per CA, account and set of names.

It is kept in the store, so that neither a restart nor another host begins to count anew. Let's Encrypt asks its clients to wait
1, 10 and 100 minutes and then a day (https://letsencrypt.org/docs/integration-guide/#retrying-failures).
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from acme_middleware import clock
from acme_middleware._text import printable
from acme_middleware.errors import AcmeMiddlewareError, CARefused, NotYet, StoreMisconfigured
from acme_middleware.issuance.blame import kind_of, unpause_url
from acme_middleware.issuance.records import Stored
from acme_middleware.stores.base import Store, key

logger = logging.getLogger(__name__)

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
RESOLUTION = timedelta(microseconds=1)
SCHEDULE = (MINUTE, 10 * MINUTE, 100 * MINUTE, DAY)
SCHEDULES = {"silent": (MINUTE, 10 * MINUTE, 100 * MINUTE, timedelta(hours=2))}
"""A CA that does not answer is asked more often than one that says no: it is not the one that has to be spared."""

JITTER = 0.1
"""The tenth by which a pause may be longer: names that failed together must not come back together."""
SHARE_OF_LIFETIME = 20
"""A pause is at most this part of the lifetime: a certificate of six days is tried every eight hours."""

FREE_BY_HAND = 2
"""So many failures in a row do not keep a person from trying again: who has just put something right need not wait."""

HOSTS_APART = 5 * MINUTE
"""A failure so little in the future is one of a host whose clock is ahead; a later one is of a clock that was wrong."""
LONGEST = DAY * (1 + JITTER) + HOSTS_APART
"""A pause that is to last longer is of a clock that was wrong as well."""

LONGEST_ERROR = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRecord(Stored):
    """
    The failures in a row of one set of names, at one CA and account.

    Attributes:
        name: The certificate's name.
        failures: How many, in a row.
        elsewhere: How many of the last ones another CA might not have had: a failed validation begins to count anew.
        kind: "validation", "limit" (the CA said when to come back, or that it was too much), "silent" (no answer, or a 5xx),
            "other".
        error: The last one, in one line.
        next_try: When the pause is over; drawn once, so that every host sees the same time.
        paused: Where the CA says that the account is unpaused, "" if it is not paused.
    """

    name: str
    ca: str
    account: str
    names: tuple[str, ...]
    failures: int
    kind: str
    error: str
    failed_at: datetime
    next_try: datetime
    paused: str = ""
    elsewhere: int = 0

    def waits(self, now: datetime, *, by_hand: bool = False) -> bool:
        """
        Whether the next try must wait.

        Args:
            by_hand: A person asks, who may have put right what failed.
        """
        # Times that no pause can have are those of a clock that was wrong, and must not stop renewals for a year.
        if not now < self.next_try <= now + LONGEST or self.failed_at > now + HOSTS_APART:
            return False
        return not (by_hand and self.kind != "limit" and self.failures <= FREE_BY_HAND)


def ledger_key(ca: str, account: str, names: Sequence[str]) -> str:
    """The key of the record of a set of names."""
    digest = hashlib.sha256("\n".join([account, *sorted(set(names))]).encode()).hexdigest()[:32]
    return key("ledger", ca, digest)


def read(store: Store, where: str, warn: Callable[[str], None] = logger.warning) -> LedgerRecord | None:
    """The record at a key, None where there is none or one that cannot be understood, which ``warn`` is told."""
    stored = store.get(where)
    return None if stored is None else _decoded(where, stored.value, stored.version, warn)


def read_all(store: Store) -> dict[str, LedgerRecord]:
    """
    Every certificate that failed when it was last tried -> its newest record. One scan; what is damaged is logged, and left.
    """
    newest: dict[str, LedgerRecord] = {}
    for where, stored in store.scan("ledger/"):
        record = _decoded(where, stored.value, stored.version, logger.warning)
        if record is not None and (record.name not in newest or newest[record.name].failed_at < record.failed_at):
            newest[record.name] = record
    return newest


def forget(store: Store, name: str) -> None:
    """Forget every failure of a certificate, at whatever CA and with whatever names."""
    for where, stored in list(store.scan("ledger/")):
        record = _decoded(where, stored.value, stored.version, logger.warning)
        if record is not None and record.name == name:
            store.delete(where)


def back_off(
    kind: str,
    failures: int,
    lifetime: timedelta | None,
    *,
    uniform: Callable[[float, float], float] = random.uniform,
    retry_after: float | None = None,
) -> timedelta:
    """
    How long to wait after so many failures in a row.

    Args:
        kind: As in :class:`LedgerRecord`.
        failures: 1 or more.
        lifetime: How long the certificate lives, None where there is none yet: a pause is at most a twentieth of it.
        uniform: Draws the jitter.
        retry_after: Seconds that the CA asked to wait. It is obeyed up to a day, whatever the lifetime is.
    """
    schedule = SCHEDULES.get(kind, SCHEDULE)
    pause = schedule[min(failures, len(schedule)) - 1]
    if lifetime is not None:
        pause = min(pause, lifetime / SHARE_OF_LIFETIME / (1 + JITTER))
    if retry_after is not None:
        pause = max(pause, min(timedelta(seconds=retry_after), DAY))
    return pause * uniform(1, 1 + JITTER)


class Ledger:
    """
    The record of one set of names.

    Args:
        authority_id: The CA's id.
        account: The account's id there: its EAB key id, or "default".
        names: The names of the certificate.
        name: What it is known by.
        warn: Is told of a record that cannot be understood, which counts as none, and of a pause that is not heeded.
    """

    def __init__(
        self,
        store: Store,
        authority_id: str,
        account: str,
        names: Sequence[str],
        name: str,
        *,
        warn: Callable[[str], None] = logger.warning,
    ) -> None:
        self.store, self.ca, self.account, self.names, self.name, self.warn = store, authority_id, account, names, name, warn
        self.where = ledger_key(authority_id, account, names)
        self._told = False

    def read(self) -> LedgerRecord | None:
        """What is recorded, None where the last try was a success or there was none."""
        return read(self.store, self.where, self.warn)

    def refuse(self, now: datetime, *, force: bool = False, by_hand: bool = False) -> None:
        """
        Refuse a try that comes too early.

        Args:
            force: Try now, whatever there is; of a pause by the CA it is told.
            by_hand: As in :meth:`LedgerRecord.waits`.

        Raises:
            NotYet: it says when the next try is allowed, and what the last error was.
        """
        record = self.read()
        if record is None or not record.waits(now, by_hand=by_hand):
            return
        if not force:
            raise too_early(record)
        if record.paused and not self._told:
            self._told = True
            self.warn(f"the CA had paused the account; if it is not unpaused by now, this try is in vain: {record.paused}")

    def failed(
        self, error: AcmeMiddlewareError, lifetime: timedelta | None = None, *, kind: str | None = None
    ) -> LedgerRecord | None:
        """
        Record a failure.

        Args:
            lifetime: How long the certificate in use lives, None where there is none.
            kind: What kind of failure it is, where the error itself does not say so.

        Returns:
            The record; None for an error that is not the CA's, which is not recorded.
        """
        kind, now = kind or kind_of(error), clock.now()
        if kind is None:
            return None
        before, paused = self.read(), unpause_url(error)
        failures = (before.failures if before else 0) + 1
        asked = error.retry_after if isinstance(error, CARefused) else None
        pause = back_off(kind, failures, lifetime, retry_after=DAY.total_seconds() if paused else asked)
        record = LedgerRecord(
            name=self.name,
            ca=self.ca,
            account=self.account,
            names=tuple(self.names),
            failures=failures,
            kind=kind,
            error=printable(error, LONGEST_ERROR),
            failed_at=now,
            next_try=now + pause,
            paused=paused,
            elsewhere=0 if kind == "validation" else (before.elsewhere if before else 0) + 1,
        )
        return replace(record, version=record.write(self.store, self.where))

    def succeeded(self) -> None:
        """Forget the failures."""
        if self.store.get(self.where) is not None:
            self.store.delete(self.where)


def too_early(record: LedgerRecord) -> NotYet:
    """The refusal of a try while the pause of a record runs."""
    lines = [f"last error: {record.error} ({ordinal(record.failures)} failure, {when(record.failed_at)})"]
    if record.paused:
        lines.append(f"the CA has paused the account, which no waiting ends: visit {record.paused}")
    lines.append(f"next try from {when(record.next_try, up=True)} on; --force tries now" + (", once" if record.paused else ""))
    return NotYet(
        f"{record.name} must wait: it may be tried again from {when(record.next_try, up=True)} on",
        hint="\n".join(lines),
        name=record.name,
        allowed_at=record.next_try,
        failures=record.failures,
        paused=record.paused,
    )


def when(moment: datetime, *, up: bool = False) -> str:
    """A time for people, in UTC; ``up`` to the next full minute, for what is allowed from then on."""
    return f"{moment.astimezone(UTC) + (MINUTE - RESOLUTION if up else timedelta()):%Y-%m-%d %H:%M} UTC"


def ordinal(number: int) -> str:
    """1 -> 1st"""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _decoded(where: str, value: bytes, version: str, warn: Callable[[str], None]) -> LedgerRecord | None:
    try:
        record = LedgerRecord.decode(where, value, version)
        if not (type(record.failures) is type(record.elsewhere) is int and record.failures > 0):
            raise StoreMisconfigured(f"the record {where} is damaged: it counts {record.failures!r} failures")
    except StoreMisconfigured as error:
        warn(f"{error}; it counts as none")
        return None
    return record
