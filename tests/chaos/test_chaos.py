"""
Anything may be killed, paused, cut off or restarted at any moment: what is promised holds, over real servers and several hosts.

What is promised, and what is counted apart: docs/guarantees.md. `make chaos MINUTES=60` goes on for longer.
"""

from __future__ import annotations

import itertools
import os
import sys

import chaos_run
import pytest
from chaos_all import ENOUGH, run_all
from chaos_schedule import FAULTS, draw

SCHEDULES = 100 if os.environ.get("SCALE") == "full" else 20
"""Of each engine."""


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        pytest.skip("several hosts are network namespaces, which only root may make: run this as root")


@pytest.mark.usefixtures("root")
def test_whatever_dies_the_promise_holds(capsys: pytest.CaptureFixture[str]) -> None:
    seed = os.environ.get("SEED")
    report = run_all("--schedules", str(SCHEDULES), "--enough", str(ENOUGH), seed=int(seed) if seed else None)
    with capsys.disabled():
        print(f"\n{report}")
    assert set(report.codes.values()) == {0}, report.said
    assert report.wrong == [], "\n".join(report.said.values())
    assert len(report.schedules) >= 3 * SCHEDULES
    assert report.too_few() == []
    assert report.loads > 100 * SCHEDULES


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("broken", "points", "caught"),
    [
        pytest.param(
            "lease", ["lease held", "placing"], "after process", id="a lease that compares nothing when it is written"
        ),
        pytest.param(
            "publish", ["publishing", "published"], "cannot be loaded", id="files that are published one after the other"
        ),
        pytest.param(
            "fence", ["placing", "saving certificate"], "written over", id="a certificate that is saved over any other"
        ),
    ],
)
def test_a_product_that_is_broken_is_caught(broken: str, points: list[str], caught: str) -> None:
    fault = "SIGSTOP past the lease"
    report = run_all(
        *("--schedules", "8", "--first", "--broken", broken, "--faults", fault, "disk full", "--points", *points),
        seed=5,
        engines=["Redis"],
    )
    assert set(report.codes.values()) == {0}, report.said
    assert any(caught in what for what in report.wrong), f"{report}\n{report.wrong}"


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["chaos_run.py", "--engine", "Redis"])
    assert chaos_run.main() == 2
    assert "only root" in capsys.readouterr().err


def test_a_seed_names_its_schedules() -> None:
    first, again = (list(itertools.islice(draw("Redis", 7, hosts=3), 30)) for _ in range(2))
    assert first == again
    assert first != list(itertools.islice(draw("Redis", 8, hosts=3), 30))


@pytest.mark.parametrize("seed", range(20))
def test_twenty_schedules_deal_each_fault_four_times(seed: int) -> None:
    drawn = [blow.fault for schedule in itertools.islice(draw("MariaDB", seed, hosts=3), 20) for blow in schedule.blows]
    assert min(drawn.count(fault) for fault in FAULTS) >= 4


def test_a_schedule_has_two_faults_or_more_and_none_twice() -> None:
    for schedule in itertools.islice(draw("PostgreSQL", 3, hosts=3), 200):
        faults = [blow.fault for blow in schedule.blows]
        assert len(faults) >= 2
        assert len(set(faults)) == len(faults)
