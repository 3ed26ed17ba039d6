"""
A simulated fleet: hosts with timers, a CA with renewal windows (RFC 9773), failures of both, an incident, outages.

Every decision is the product's own: when to renew, which moment of the CA's window, whether a record is due, how long to wait
after a failure. Nothing couples two certificates but the hour they are counted in, so each lives through its days by itself,
from event to event, and memory does not grow with the fleet. benchmarks/fleet.py says what is to come out.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from acme_middleware import renewer
from acme_middleware.issuance.ledger import back_off
from acme_middleware.issuance.renewal import draw, due, is_emergency, renew_after
from acme_middleware.issuance.sweeps import closes_before
from acme_middleware.protocol.renewal_info import RenewalInfo

SEED = 20270101
DAYS = 400
BEGIN = datetime(2027, 1, 1, tzinfo=UTC)
HOUR, DAY = 3600.0, 86400.0

WIDTH, MIDDLE = 0.02, 2 / 3
"""The CA's window as fractions of the lifetime, as Let's Encrypt has it."""
ASK = 6 * HOUR
"""Its Retry-After with renewal information."""
NO_ARI = 0.01
"""How often renewal information is not to be had after issuing; the next refresh brings it."""
FLAKY = 0.02
"""The part of attempts that fail for a reason that is gone by the next one."""
FAILURES: Sequence[tuple[str, float | None]] = (("validation", None), ("validation", None), ("silent", None), ("limit", HOUR))
"""What fails then, and the Retry-After that comes with it."""
BROKEN, BROKEN_FOR = 0.002, 6 * HOUR
"""The part of renewals at which the site answers no challenge, for up to so long."""
OWN_FAILURES = 3
"""A lapse after so many failures of its own, in one renewal, is the site's. (At 2 % each that happens.)"""
OUTAGES = ((60, 1 / 24), (110, 1 / 4), (160, 1), (220, 2), (280, 3), (340, 5))
"""The day on which the CA falls silent, and for how many days."""
INCIDENT, HIT = 190, 0.03
"""The day on which the CA revokes, and which part of the certificates."""


def timer(lifetime: int) -> float:
    """How often a host looks, as the product advises and its own loop does: every 6 hours, every hour at 6 days."""
    return renewer.interval([timedelta(days=lifetime)]).total_seconds()


def moment(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


class Certificate:
    """What the product reads of a RenewalRecord; one that may be changed, which is four times as fast."""

    __slots__ = ("ari", "names", "not_after", "not_before", "renew_after", "revoked", "trusted")

    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    renew_after: datetime
    revoked: str
    trusted: bool
    ari: Any


class Decisions:
    """The product's functions, as the simulation calls them: for one certificate after the other of one site."""

    def __init__(self, lifetime: int, rng: random.Random) -> None:
        self.lifetime, self.uniform = timedelta(days=lifetime), rng.uniform
        self.start, self.end = self.lifetime * (MIDDLE - WIDTH / 2), self.lifetime * (MIDDLE + WIDTH / 2)
        self.record: Any = Certificate()
        self.record.names, self.record.trusted, self.record.revoked = ("example.com",), True, ""

    def issued(self, now: datetime, *, asked: bool) -> float:
        """A new certificate; returns the time to renew it, by the CA's window where that was asked for."""
        record = self.record
        record.not_before, record.not_after, record.ari = now, now + self.lifetime, None
        if asked:
            return self.told(now + self.start, now + self.end)
        return self._renew_after()

    def told(self, start: datetime, end: datetime) -> float:
        """The CA names a window, the first one or another; returns the time to renew."""
        record = self.record
        record.ari = draw(RenewalInfo(start, end, "", record.not_before), record.ari, uniform=self.uniform)
        return self._renew_after()

    def is_due(self, now: datetime, next_look: datetime | None = None) -> bool:
        why = due(self.record, self.record.names, trusted=True, now=now) or closes_before(self.record, now, next_look)
        return why is not None

    def is_emergency(self, now: datetime) -> bool:
        return is_emergency(self.record, now)

    def wait(self, kind: str, failures: int, retry_after: float | None) -> float:
        return back_off(kind, failures, self.lifetime, uniform=self.uniform, retry_after=retry_after).total_seconds()

    def _renew_after(self) -> float:
        record = self.record
        record.renew_after = renew_after(record.not_before, record.not_after, record.ari)
        return float((record.renew_after - BEGIN).total_seconds())


@dataclass(frozen=True)
class World:
    """What happens to everybody: ``edges`` are the beginnings and ends of outages, in turn."""

    days: int = DAYS
    outages: tuple[tuple[float, float], ...] = OUTAGES
    incident: float | None = INCIDENT
    ari: bool = True
    edges: list[float] = field(init=False)

    def __post_init__(self) -> None:
        edges = [edge for day, length in self.outages for edge in (day * DAY, (day + length) * DAY)]
        object.__setattr__(self, "edges", edges)

    def outage_between(self, start: float, end: float) -> int | None:
        """The number of the last outage that lies, in part, between two times."""
        for number in reversed(range(len(self.outages))):
            if self.edges[2 * number] < end and self.edges[2 * number + 1] > start:
                return number
        return None


@dataclass
class Tally:
    """What is counted, for all certificates of a fleet."""

    certificates: int = 0
    renewals: int = 0
    late: int = 0
    """Renewals after the end of the CA's window, without a failure."""
    early: int = 0
    """Sweeps that found a certificate due before its time, or none at its time: the decisions contradict each other."""
    lapses: Counter[tuple[int, int | None]] = field(default_factory=Counter)
    """By lifetime and number of the outage; None: none was near."""
    emergencies: int = 0
    """Renewals in the last twentieth of the lifetime."""
    own: int = 0
    """Lapses of sites that failed often enough by themselves."""
    most_tries: int = 0
    """Most attempts of one certificate while the CA was silent."""
    slowest: float = 0.0
    """Longest time from an incident to the renewal that it asks for."""
    orders: Counter[int] = field(default_factory=Counter)
    """By the hour."""
    silence: Counter[int] = field(default_factory=Counter)
    """Attempts that met a silent CA, by the hour."""
    cycles: dict[int, Counter[int]] = field(default_factory=dict)
    """Orders by the hour, apart for the first, second ... renewal of each certificate; for bursts only."""


def live(lifetime: int, issued: float, every: float, world: World, rng: random.Random, tally: Tally, by_cycle: bool) -> None:
    """One certificate, from its issuance to the end of time."""
    life, last, chance, edges = lifetime * DAY, world.days * DAY, rng.random, world.edges
    decide, window_end = Decisions(lifetime, rng), life * (MIDDLE + WIDTH / 2)
    phase, now, cycle, interval = 0.0, moment(issued), 0, timedelta(seconds=every)

    def sweep(at: float) -> float:
        """The first time from then on that the host's timer comes around."""
        return phase + math.ceil((at - phase) / every) * every

    tally.certificates += 1
    while True:
        expiry, recalled = issued + life, 0.0
        # Pauses are jittered: in days the phase becomes any. With a fixed one, 6 days would be a whole number of pauses.
        phase = chance() * every
        after = decide.issued(now, asked=world.ari and chance() >= NO_ARI)
        if world.ari and decide.record.ari is None:
            after = decide.told(now + decide.start, now + decide.end)
        at = sweep(after)
        # The last look in the window does not wait for a moment that comes before the next one.
        if at > issued + window_end and at - every > issued and decide.is_due(moment(at - every), moment(at)):
            at -= every
        if world.incident is not None and world.ari and issued < world.incident * DAY < at and chance() < HIT:
            recalled = world.incident * DAY
            after = decide.told(moment(recalled - HOUR), moment(recalled - 1))
            at = sweep(issued + math.ceil((recalled - issued) / ASK) * ASK)
        broken_until = at + chance() * BROKEN_FOR if chance() < BROKEN else 0.0
        failures = own = silent = 0
        while at < last:
            now = moment(at)
            tally.early += not decide.is_due(now, now + interval)
            if bisect_right(edges, at) % 2:
                kind, retry_after = "silent", None
                silent += 1
                tally.silence[int(at / HOUR)] += 1
            elif at < broken_until or chance() < FLAKY:
                own += 1
                kind, retry_after = ("validation", None) if at < broken_until else rng.choice(FAILURES)
                tally.orders[int(at / HOUR)] += kind == "validation"
            else:
                break
            failures += 1
            at = sweep(at + decide.wait(kind, failures, retry_after))
        if expiry < min(at, last):
            if own >= OWN_FAILURES:
                tally.own += 1
            else:
                tally.lapses[lifetime, world.outage_between(after, expiry)] += 1
        tally.most_tries = max(tally.most_tries, silent)
        if at >= last:
            return
        tally.renewals += 1
        if failures:
            tally.emergencies += decide.is_emergency(now)
        elif recalled:
            tally.slowest = max(tally.slowest, at - recalled)
        else:
            tally.late += at > issued + window_end
        cycle += 1
        tally.orders[int(at / HOUR)] += 1
        if by_cycle:
            tally.cycles.setdefault(cycle, Counter())[int(at / HOUR)] += 1
        issued = at


def run(parts: dict[int, int], world: World, *, every: float | None = None, burst: bool = False) -> Tally:
    """
    A fleet.

    Args:
        parts: How many certificates of each lifetime, in days.
        every: How often hosts look; None: as :func:`timer` says.
        burst: All are issued in the first hour; otherwise they are there, and of every age.
    """
    rng, tally = random.Random(SEED), Tally()
    for lifetime, count in parts.items():
        for _ in range(count):
            issued = rng.random() * HOUR if burst else -rng.random() * lifetime * DAY * MIDDLE
            live(lifetime, issued, every or timer(lifetime), world, rng, tally, burst)
    return tally
