"""When each host last looked after all certificates: from it ``status`` sees that nobody does any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from acme_middleware.errors import StoreMisconfigured
from acme_middleware.issuance.records import RenewalRecord, Stored
from acme_middleware.stores.base import Store, key

BY_HAND = timedelta(minutes=5)
"""Sweeps that come closer together than this are not those of a timer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRecord(Stored):
    """
    The last sweep of a host.

    Attributes:
        every: Seconds until the next one, where the caller knows; None for a timer, which knows by itself.
        counts: How many names each action was the end of.
        previous: When the sweep before this one began, None for the first.
    """

    host: str
    began: datetime
    ended: datetime
    every: float | None = None
    counts: Mapping[str, int]
    previous: datetime | None = None

    @property
    def pause(self) -> timedelta | None:
        """How often this host sweeps: as it has said, or as its last two were apart; None where that is not known."""
        if self.every is not None:
            return timedelta(seconds=self.every)
        if self.previous is not None and self.began > self.previous:
            return self.began - self.previous
        return None


def sweep_key(host: str) -> str:
    """The key of a host's record."""
    return key("sweep", host)


def last_of(store: Store, host: str) -> SweepRecord | None:
    """The last sweep of a host; one that cannot be read is none: it is about to be written again."""
    with suppress(StoreMisconfigured):
        return SweepRecord.read(store, sweep_key(host))
    return None


def previous_to(last: SweepRecord | None, began: datetime) -> datetime | None:
    """When the sweep before one began: one that a person runs by hand, just after the timer, tells nothing of the timer."""
    if last is None:
        return None
    return last.previous if timedelta(0) <= began - last.began < BY_HAND else last.began


def read_all(store: Store) -> list[SweepRecord]:
    """The last sweep of every host, the latest first. What is damaged is left out: the next sweep writes it again."""
    return sorted(_read(store), key=lambda record: record.ended, reverse=True)


def next_look(last: SweepRecord | None, began: datetime, every: float | None) -> datetime | None:
    """When the certificates are looked at next: as the caller says, else as long from now as the last sweep is ago."""
    if every is not None:
        return began + timedelta(seconds=every)
    return began + (began - last.began) if last is not None and last.began < began else None


def closes_before(record: RenewalRecord | None, now: datetime, look: datetime | None) -> str | None:
    """
    Why not to wait for the moment that was drawn: the CA's window is open now, and over at the next look. Else None.

    RFC 9773 section 4.2 asks for it. Outside of its window an order counts against the CA's limits.
    """
    window = record.ari if record is not None else None
    if record is None or window is None or look is None:
        return None
    fits = window.start <= now < window.end < look and window.end <= record.not_after
    return "the CA's window ends before the next look" if fits else None


def _read(store: Store) -> Iterator[SweepRecord]:
    for where, stored in store.scan("sweep/"):
        with suppress(StoreMisconfigured):
            yield SweepRecord.decode(where, stored.value, stored.version)
