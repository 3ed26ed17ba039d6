"""A site in simulated time: the local CA, a movable clock, and sweeps as a timer would begin them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from pebble_lab import site_app

from acme_middleware import clock as clocks
from acme_middleware import events, options, renewer
from acme_middleware.issuance import ledger
from acme_middleware.issuance.records import RenewalRecord
from acme_middleware.issuance.renewal import EMERGENCY, renews_at
from acme_middleware.issuance.sweep import Result, sweep
from acme_middleware.local_ca import LocalCA
from acme_middleware.local_ca.certificates import renewal_window
from acme_middleware.local_ca.model import Certificate, Order
from acme_middleware.protocol import network
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.testing.clock import Clock

ALMOST = timedelta(seconds=1)


class Renewal(NamedTuple):
    """A renewal: when it was, the window that the CA had for the certificate before, and the order."""

    at: datetime
    window: tuple[datetime, datetime]
    order: Order

    @property
    def in_window(self) -> bool:
        return self.window[0] <= self.at <= self.window[1]


@dataclass
class LongLife:
    """
    A site whose certificates are renewed by sweeps.

    Attributes:
        every: What the timer's interval is, as the product advises for the lifetime.
        begin: From when on it runs. Its turns do not drift, however long a sweep takes.
        told: What the sweeps have told.
        renewals: Every renewal, by the name of the certificate.
    """

    ca: LocalCA
    clock: Clock
    store: DirectoryStore
    given: dict[str, Any]
    every: timedelta
    begin: datetime
    told: list[events.Event]
    renewals: dict[str, list[Renewal]]

    def sweep(self, *, again: bool = True) -> list[Result]:
        """What the timer does."""
        before = {record.name: record for record in self.records()}
        with self.ca.state.lock:
            windows = {name: self._window(record) for name, record in before.items()}
        results = sweep(
            options.read(("test", self.given)),
            listener=self.told.append,
            every=self.every.total_seconds() if again else None,
        )
        now = self.clock.now()
        for result in results:
            if result.action == "renewed" and result.name in before:
                [order] = [
                    one for one in self._orders() if one.certificate and _serial(one.certificate) == self._now(result.name)
                ]
                self.renewals.setdefault(result.name, []).append(Renewal(now, windows[result.name], order))
        return results

    def turn(self) -> list[Result]:
        """
        Let the time pass until the timer's next turn at which something may be due, and sweep.

        At the turns between, a sweep would find nothing: every time that it decides by is in the records.
        """
        wanted = max(self.next_event(), self.clock.now() + ALMOST)
        turns = -((self.begin - wanted) // self.every)  # rounded up
        self.clock.move_to(self.begin + turns * self.every)
        return self.sweep()

    def next_event(self) -> datetime:
        """The earliest time at which a sweep has something to do; now where it has."""
        now = self.clock.now()
        waiting = ledger.read_all(self.store)
        found: list[datetime] = []
        for record in self.records():
            due = min(renews_at(record), record.not_after - (record.not_after - record.not_before) * EMERGENCY)
            window = record.ari
            if window is not None:  # the last turn in the window does not wait for a moment that comes before the next one
                due = min(due, max(window.start, window.end - self.every))
            failed = waiting.get(record.name)
            found.append(max(due, failed.next_try) if failed else due)
            found += [record.ask_after] if record.ask_after and now < due else []  # of what is due nothing is asked any more
        return max(now, min(found))

    def until(self, end: datetime, each: Callable[[list[Result]], None] = lambda results: None) -> None:
        """Take turns until then. A certificate that has expired fails the test."""
        while self.next_event() < end:
            results = self.turn()
            for record in self.records():
                assert self.clock.now() < record.not_after, f"{record.name} has expired"
            each(results)
        self.clock.move_to(max(end, self.clock.now()))

    def records(self) -> list[RenewalRecord]:
        return [RenewalRecord.decode(where, stored.value, stored.version) for where, stored in self.store.scan("renewal/")]

    def certificates(self) -> list[Certificate]:
        """Those that the CA has issued, in order."""
        with self.ca.state.lock:
            return list(self.ca.state.certificates.values())

    def warnings(self) -> list[str]:
        return [event.message for event in self.told if isinstance(event, events.Warned)]

    def _orders(self) -> list[Order]:
        with self.ca.state.lock:
            return list(self.ca.state.orders.values())

    def _now(self, name: str) -> str:
        return next(record.serial for record in self.records() if record.name == name)

    def _window(self, record: RenewalRecord) -> tuple[datetime, datetime]:
        return renewal_window(self.ca.state.certificates[record.ari_id], self.ca.desk)


def _serial(certificate: Certificate) -> str:
    return f"{certificate.leaf.serial_number:x}"


@contextmanager
def long_life(folder: Path, patch: pytest.MonkeyPatch, lifetime: timedelta, **habits: Any) -> Iterator[LongLife]:
    """
    A site with certificates of one lifetime, whose first sweep is still to come.

    Args:
        habits: Of the CA.
    """
    clock = Clock()
    # What a request pauses before it is sent again is simulated time as well.
    patch.setattr(network, "time", SimpleNamespace(sleep=lambda seconds: clock.travel(seconds=seconds)))
    patch.setattr(network, "FAULT_TRIES", 1)  # what is tried again within seconds is tested elsewhere
    store = DirectoryStore(folder / "store")
    settings: dict[str, Any] = {"terms": False, "perspectives": 1, "profiles": {"default": lifetime}, **habits}
    with clocks.replaced(clock.now), LocalCA(clock=clock.now, state=folder / "ca", **settings) as ca:
        ca.resolve["*"] = site_app(f"file:{store.path}")
        given = {
            "store": f"file:{store.path}",
            "ca": ca.directory_url,
            "ca_bundle": str(ca.ca_bundle),
            "self_check": "skip",
        }
        yield LongLife(ca, clock, store, given, renewer.interval([lifetime]), clock.now(), [], {})
