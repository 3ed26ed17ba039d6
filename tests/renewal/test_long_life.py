"""More than a year of a site in simulated time, by lifetimes of today and of years to come; and a CA that is away for days."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from long_life import LongLife, long_life

from acme_middleware.issuance.ledger import back_off
from acme_middleware.issuance.sweep import Result

FULL = os.environ.get("SCALE", "ci") == "full"
DAYS = dict.fromkeys((90, 64, 45, 6), 400) if FULL else {90: 200, 64: 150, 45: 110, 6: 40}
"""How long each lifetime is tried for: 400 days, or three renewals and more."""

DAY = 86400
"""Of Retry-After: the most that is believed. It makes no difference to the renewals."""

TWO = {"example.com": {"names": ["example.com", "www.example.com"]}, "shop.example": {"names": ["shop.example"]}}

FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("server-error", {"where": "new-order"}),
    ("rate-limited", {"retry_after": 3600}),
    ("secondary-validation-fails", {}),
    ("reset-after", {"where": "finalize"}),
    ("ari-inverted", {}),
    ("already-replaced", {}),
    ("bad-csr", {}),
)
"""What goes wrong at every third renewal, one after the other."""


class Lives:
    """Starts lives for the length of a test."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
        self.folder, self.patch, self.stack = folder, patch, stack

    def start(self, days: float, *, certificates: dict[str, Any] | None = None, **habits: Any) -> LongLife:
        life = self.stack.enter_context(long_life(self.folder, self.patch, timedelta(days=days), **habits))
        life.given["certificates"] = TWO if certificates is None else certificates
        return life


@pytest.fixture
def lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lives]:
    with ExitStack() as stack:
        yield Lives(tmp_path, monkeypatch, stack)


def no_gap(life: LongLife) -> None:
    """At every moment since the first issuance there was a valid certificate of each name."""
    for names in TWO.values():
        of_name = [entry for entry in life.certificates() if entry.identifiers[0].value == names["names"][0]]
        for old, new in pairwise(of_name):
            assert new.leaf.not_valid_before_utc < old.leaf.not_valid_after_utc
        assert life.clock.now() < of_name[-1].leaf.not_valid_after_utc


@pytest.mark.parametrize("days", [90, 64, 45, 6])
def test_a_year_of_renewals_in_their_windows(lives: Lives, days: int) -> None:
    life = lives.start(days, renewal_retry_after=DAY)
    assert {result.action for result in life.sweep()} == {"issued"}
    begin = life.clock.now()
    life.until(begin + timedelta(days=DAYS[days]))
    no_gap(life)
    for name in TWO:
        renewals = life.renewals[name]
        assert len(renewals) == pytest.approx(DAYS[days] / (days * 2 / 3), abs=1)
        assert [renewal for renewal in renewals if not renewal.in_window] == []
        assert all(renewal.order.replaces for renewal in renewals)
    assert life.warnings() == []
    with life.ca.state.lock:
        assert len(life.ca.state.orders) == len(TWO) + sum(map(len, life.renewals.values()))
        assert len(life.ca.state.accounts) == 1


def test_faults_delay_renewals_and_lapse_nothing(lives: Lives) -> None:
    life = lives.start(6, renewal_retry_after=DAY)
    life.sweep()
    end = life.clock.now() + timedelta(days=400 if FULL else 72)
    troubled: set[tuple[str, int]] = set()
    left, last = [*FAULTS, *FAULTS], 0

    def trouble(results: list[Result]) -> None:
        nonlocal last
        done = sum(map(len, life.renewals.values()))
        # The last days are for meeting what was scripted last.
        if done >= last + 3 and left and life.clock.now() < end - timedelta(days=10):
            name, how = left.pop(0)
            life.ca.fault(name, **how)
            last = done
            # What is renewed next, of either name, may meet it.
            troubled.update((name, len(life.renewals.get(name, []))) for name in TWO)
        for result in results:
            if result.action in ("failed", "must wait"):
                troubled.add((result.name, len(life.renewals.get(result.name, []))))

    life.until(end, trouble)
    life.ca.check()
    assert len(left) <= len(FAULTS), "too few renewals to meet them"
    no_gap(life)
    outside = {
        (name, number) for name, renewals in life.renewals.items() for number, one in enumerate(renewals) if not one.in_window
    }
    assert outside <= troubled
    # "Already replaced" and a 500 are answered by an order that replaces nothing, and so is the order after one that was given
    # up for its CSR, which the CA counts as the replacement; every other one is taken as a replacement.
    unreplaced = [one for renewals in life.renewals.values() for one in renewals if not one.order.replaces]
    refused = [warning for warning in life.warnings() if "as a replacement" in warning]
    assert len(unreplaced) == len(refused) <= 6, refused


@pytest.mark.parametrize("age", [2.0, 2.7])
def test_a_ca_that_is_down_for_three_days_of_six(lives: Lives, age: float) -> None:
    life = lives.start(6)
    life.sweep()
    life.clock.travel(days=age)
    life.sweep()
    down, back = life.clock.now(), life.clock.now() + timedelta(days=3)
    life.ca.fault("reset-before", times=None, where="*")
    tries: dict[str, list[float]] = {name: [] for name in TWO}
    heard: list[int] = []
    """What the CA was asked at each turn since every name is due: of those it is not asked for advice any more."""
    while life.next_event() < back:
        before = len(life.ca.requests())
        for result in life.turn():
            if result.action == "failed":
                tries[result.name].append((life.clock.now() - down).total_seconds())
        if all(tries.values()):
            heard.append(len(life.ca.requests()) - before)
    assert life.renewals == {}
    schedule_allows(tries)
    # One directory for an attempt, or for all of a turn: there is nothing else that a silent CA can be asked.
    assert sum(heard) <= sum(map(len, tries.values()))
    assert life.ca.requests("new-order")[len(TWO) :] == []
    life.ca.faults.clear()
    life.clock.move_to(max(back, life.clock.now()))
    life.until(back + timedelta(days=3 - age))
    assert {name: len(renewals) for name, renewals in life.renewals.items()} == dict.fromkeys(TWO, 1)
    no_gap(life)


def schedule_allows(tries: dict[str, list[float]]) -> None:
    """No two attempts were closer together than the back-off for a silent CA asks for, and there were attempts."""
    for moments in tries.values():
        assert len(moments) > 3
        for number, (before, after) in enumerate(pairwise(moments), start=1):
            least = back_off("silent", number, timedelta(days=6), uniform=lambda low, high: low).total_seconds()
            assert after - before >= least - 1
