"""
kill -9 at any moment: whatever it leaves, the next run makes it good, at once and with the same order.

Over Pebble only: it is our command that dies, and a CA that runs beside it, not inside of the test, keeps the moments even.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from both_cas import CA
from killing import Victim, kill_again_and_again
from pebble_lab import FULL, Site, serving, site_app

KILLS = 200 if FULL else 40
DISTANCE = 0.25
"""Seconds that the CA's own fetches take: without, half of a run is Python starting and ending. A real CA takes longer."""


def test_killed_at_any_moment_the_successor_makes_it_good(
    pebble: Callable[..., CA], make_site: Callable[..., Site], capsys: pytest.CaptureFixture[str]
) -> None:
    site = make_site(pebble(), answers=False)
    answers = site_app(site.given["store"])

    def distant(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if "self-check" not in environ.get("HTTP_USER_AGENT", ""):
            time.sleep(DISTANCE)
        return answers(environ, start_response)

    victim = Victim(
        ca=site.ca,
        start=lambda name: site.start(name, f"www.{name}"),
        store=site.records(),
        tokens=site.tokens,
        live=site.store / "live",
    )
    with serving(distant, site.ca.http_port):
        report = kill_again_and_again(victim, kills=KILLS, seed=int(os.environ.get("SEED") or random.randrange(10**6)))
    with capsys.disabled():
        print(f"\n{report}")
    assert report.ordering >= KILLS / 2
    assert site.accounts() == 1
