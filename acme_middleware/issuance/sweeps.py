"""When each host last looked after all certificates: from it ``status`` sees that nobody does any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from acme_middleware.errors import StoreMisconfigured
from acme_middleware.issuance.records import Stored
from acme_middleware.stores.base import Store, key


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


def read_all(store: Store) -> list[SweepRecord]:
    """The last sweep of every host, the latest first. What is damaged is left out: the next sweep writes it again."""
    return sorted(_read(store), key=lambda record: record.ended, reverse=True)


def _read(store: Store) -> Iterator[SweepRecord]:
    for where, stored in store.scan("sweep/"):
        with suppress(StoreMisconfigured):
            yield SweepRecord.decode(where, stored.value, stored.version)
