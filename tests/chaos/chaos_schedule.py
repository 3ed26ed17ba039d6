"""What is to go wrong, when, and where: drawn from a seed alone, so that a schedule can be named and tried again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaos_instruments import POINTS

FAULTS = (
    "kill -9",
    "SIGSTOP past the lease",
    "server restarted",
    "server frozen",
    "connection black-holed",
    "disk full",
    "read-only",
    "clocks an hour apart",
    "worker forked after connecting",
)
"""The rows of the table."""

STRIKES = {"kill -9": "kill", "SIGSTOP past the lease": "stop"}
"""Faults that hit a process itself, and what it does to itself at a point."""

STANDING = ("clocks an hour apart", "worker forked after connecting")
"""Faults that are a state of things, from the beginning of a schedule to its end."""

SPREAD = 1.2
"""Seconds from the beginning in which faults begin that wait for no point."""


@dataclass(frozen=True)
class Blow:
    """
    One fault of a schedule.

    Attributes:
        point: It happens when a command comes to that point; "": at a time.
        after: Seconds from the beginning, where there is no point, or where no command comes to it.
        host: Which host it is about, where it is about one.
        lasts: Seconds until it ends, where it does not end by itself.
        wide: A host that is cut off from the server is cut off from the CA as well.
    """

    fault: str
    point: str
    after: float
    host: int
    lasts: float
    wide: bool

    def __str__(self) -> str:
        cut = " (and from the CA)" if self.wide and self.fault == "connection black-holed" else ""
        return f"{self.fault}{cut} at {self.point or f'{self.after:.1f} s'}"


@dataclass(frozen=True)
class Schedule:
    """
    What happens to one name.

    Attributes:
        renewal: Whether a certificate that is there is renewed, or a first one is issued.
        answers: The host that the CA asks for the token.
        verbs: What each host runs, again and again.
    """

    engine: str
    seed: int
    number: int
    renewal: bool
    answers: int
    verbs: tuple[str, ...]
    blows: tuple[Blow, ...]

    def __str__(self) -> str:
        what = "renewal" if self.renewal else "first issuance"
        return f"{self.engine}, seed {self.seed}, schedule {self.number}: {what}; {'; '.join(map(str, self.blows))}"


def draw(
    engine: str, seed: int, *, hosts: int, faults: Sequence[str] = FAULTS, points: Sequence[str] = POINTS
) -> Iterator[Schedule]:
    """
    Schedules without end.

    Faults are dealt like cards: each comes once before any comes again, so that a short run has tried all of them.

    Args:
        hosts: How many there are.
        faults: The ones to draw from.
        points: The points to draw from.
    """
    rng = random.Random(f"{seed} {engine}")
    deck: list[str] = []
    number = 0
    while True:
        dealt: list[str] = []
        for _ in range(min(2 + (rng.random() < 0.25), len(faults))):
            if not deck:
                deck = rng.sample(faults, len(faults))
            # Not twice the same in one schedule: the last of one deck may be the first of the next.
            dealt.append(deck.pop(next((place for place, fault in enumerate(deck) if fault not in dealt), 0)))
        blows = tuple(_blow(fault, rng, hosts, points) for fault in dealt)
        renewal = number > 0 and rng.random() < 0.6
        verbs = tuple(rng.choice(("renew", "renew NAME", "issue NAME")) if renewal else "issue NAME" for _ in range(hosts))
        yield Schedule(engine, seed, number, renewal, rng.randrange(hosts), verbs, blows)
        number += 1


def _blow(fault: str, rng: random.Random, hosts: int, points: Sequence[str]) -> Blow:
    at_point = fault not in STANDING and rng.random() < 0.65
    return Blow(
        fault=fault,
        point=rng.choice(points) if at_point else "",
        after=rng.uniform(0.05, SPREAD),
        host=rng.randrange(hosts),
        lasts=rng.uniform(1.0, 2.5),
        wide=rng.random() < 0.4,
    )
