"""Real servers, as docs/tls.md has them, under load while their certificate is renewed again and again."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest
import tls_page
from pebble_lab import wait_until
from tls_lab import certificate, der, published
from tls_load import Load, peer

FULL = os.environ.get("SCALE") == "full"
RENEWALS = 200 if FULL else 20
FEW = 20 if FULL else 4

PAGE = tls_page.sections()
LOADED = ["gunicorn", "uvicorn under gunicorn", "uvicorn", "hypercorn", "Tornado"]
LINES = [(title, line) for title, section in PAGE.items() for line in section.commands if title != "daphne"]


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return tmp_path / "live"


@pytest.mark.parametrize(("title", "line"), LINES, ids=[f"{title}: {line}" for title, line in LINES])
def test_under_load_each_renewal_is_followed_and_no_handshake_fails(
    title: str, line: str, tmp_path: Path, live: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    renewals = RENEWALS if title in LOADED else FEW
    versions, slowest = {published(live, certificate())}, 0.0
    with tls_page.running(PAGE[title], line, tmp_path, live) as server, Load(server.port, h2=title == "hypercorn") as load:
        for number in range(renewals):
            pems = certificate(kind="ec" if number % 2 else "rsa")
            versions.add(der(pems))
            published(live, pems)
            began = time.monotonic()
            wait_until(partial(_serves, server.port, der(pems)), "the new certificate is served", limit=10)
            slowest = max(slowest, time.monotonic() - began)
            load.goes_on()
            assert load.failures == []
        # Each worker by itself: then every connection sees the last one.
        wait_until(lambda: all(_serves(server.port, der(pems)) for _ in range(10)), "all workers follow", limit=20)
    assert load.failures == []
    with capsys.disabled():
        print(f"\n{title}: {renewals} renewals, {load.handshakes} handshakes, 0 failed, slowest followed in {slowest:.2f} s")
    assert set(load.seen) <= versions
    assert len(load.seen) >= renewals / 2
    assert "Traceback" not in server.log()


def _serves(port: int, expected: bytes) -> bool:
    return peer(port) == expected
