"""The leader is killed among four workers, again and again: another leads within one lease, and no name is renewed twice."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from pebble_lab import FULL, fresh, wait_until
from renewing_lab import HERE, TTL, RenewingSite, children, renewing_site
from serving import Server, gunicorn, uvicorn

KILLS = 20 if FULL else 3
WORKERS = 4

Serve = Callable[[RenewingSite], AbstractContextManager[Server]]


def gunicorn_workers(site: RenewingSite) -> AbstractContextManager[Server]:
    return gunicorn(
        "renewing_apps:plain", "-w", str(WORKERS), "--chdir", str(HERE), "-c", str(HERE / "gunicorn_renewing.py"), env=site.env
    )


def uvicorn_workers(site: RenewingSite) -> AbstractContextManager[Server]:
    return uvicorn("renewing_apps:starlette", "--factory", "--workers", str(WORKERS), "--app-dir", str(HERE), env=site.env)


@pytest.mark.parametrize("serve", [gunicorn_workers, uvicorn_workers], ids=["gunicorn", "uvicorn"])
def test_another_leads_within_one_lease_and_no_name_is_renewed_twice(serve: Serve, tmp_path: Path) -> None:
    seed = random.randrange(10_000)
    dice = random.Random(seed)
    took = []
    with renewing_site(tmp_path, ca={"validation_delay": 0.3}) as site, serve(site) as server:
        site.answered_by(server.port)
        names = [fresh() for _ in range(KILLS)]
        site.issue(*names)
        leader = site.wait_for_leader()
        for name in names:
            before = site.make_due(name)
            # Anywhere between "has not looked yet" and "has just renewed it".
            time.sleep(dice.uniform(0, 2.5))
            os.kill(leader, signal.SIGKILL)
            start = time.monotonic()
            following = site.wait_for_leader(other_than=leader)
            took.append(time.monotonic() - start)
            site.wait_until_renewed(name, before)
            assert following in children(server.process.pid), "the leader is one of the workers"
            leader = following
        assert site.certificates() == dict.fromkeys(names, 2), f"seed {seed}: one at first, and one renewal"
        wait_until(lambda: len(leaders(server)) > KILLS, "all leaders are in the log")
    print(f"{KILLS} kills (seed {seed}): the next leader after {min(took):.2f} to {max(took):.2f} s; lease {TTL:g} s")
    assert max(took) <= TTL, f"seed {seed}: {took}"


def test_a_leader_that_was_frozen_past_its_lease_stands_by_when_it_wakes(tmp_path: Path) -> None:
    with renewing_site(tmp_path, ttl=2.0) as site, uvicorn_workers(site) as server:
        site.answered_by(server.port)
        name = fresh()
        site.issue(name)
        frozen = site.wait_for_leader()
        os.kill(frozen, signal.SIGSTOP)
        try:
            # uvicorn kills a worker that does not answer for some seconds: the lease is shorter.
            following = site.wait_for_leader(other_than=frozen, limit=30)
            before = site.make_due(name)
            site.wait_until_renewed(name, before)
        finally:
            os.kill(frozen, signal.SIGCONT)
        wait_until(lambda: "another process leads now" in server.log() or not Path(f"/proc/{frozen}").exists(), "it notices")
        assert site.leader() == following
        assert site.certificates() == {name: 2}


def leaders(server: Server) -> list[int]:
    """Who has led, in order, by the log."""
    return [int(pid) for pid in re.findall(r"process (\d+) leads", server.log())]
