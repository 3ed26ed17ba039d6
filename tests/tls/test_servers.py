"""Real servers, as docs/tls.md has them, under load while their certificate is renewed again and again."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import tls_page
from pebble_lab import wait_until
from tls_lab import NAME, certificate, der, published
from tls_load import Load, peer

from acme_middleware.clock import now
from acme_middleware.deploy.deployer import Deployment
from acme_middleware.deploy.exports import Files
from acme_middleware.deploy.publish import Pems, publish

FULL = os.environ.get("SCALE") == "full"
RENEWALS = 200 if FULL else 20
FEW = 20 if FULL else 4

PAGE = tls_page.sections()
LOADED = ["gunicorn", "uvicorn under gunicorn", "uvicorn", "hypercorn", "Tornado"]
LINES = [(title, line) for title, section in PAGE.items() for line in section.commands if title not in ("daphne", "granian")]


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
        log = server.log()
    assert load.failures == []
    with capsys.disabled():
        print(f"\n{title}: {renewals} renewals, {load.handshakes} handshakes, 0 failed, slowest followed in {slowest:.2f} s")
    assert set(load.seen) <= versions
    assert len(load.seen) >= renewals / 2
    # Sanic alone, in plain HTTP, has tracebacks of its own pipes in one of a few ends by a signal.
    assert "Traceback" not in (log if title == "Sanic" else server.log())


def _serves(port: int, expected: bytes) -> bool:
    return peer(port) == expected


STARTED = [(title, line) for title, line in LINES if title != "cheroot"]


@pytest.mark.parametrize(("title", "line"), STARTED, ids=[f"{title}: {line}" for title, line in STARTED])
def test_it_starts_without_a_certificate_and_serves_the_first_one(title: str, line: str, tmp_path: Path, live: Path) -> None:
    with tls_page.running(PAGE[title], line, tmp_path, live, ready=False) as server:
        wait_until(lambda: _refused(server.port), "it says that it has none", limit=20)
        expected = published(live, certificate())
        wait_until(lambda: all(_has(server.port, expected) for _ in range(5)), "all workers have it", limit=20)
        log = server.log()
    assert "there is no certificate yet" in log, "it says why"
    assert "Exception ignored" not in log


def test_daphne_serves_the_published_files_with_their_chain_and_after_a_restart_the_new_ones(
    tmp_path: Path, live: Path
) -> None:
    for kind in ("ec", "rsa"):
        expected = certificate(kind=kind)
        published(live, expected)
        with tls_page.running(PAGE["daphne"], PAGE["daphne"].commands[0], tmp_path, live) as server:
            sent = chain(server.port)
        assert sent == [expected.cert, expected.chain]


def test_granian_serves_exported_files_and_after_a_reload_the_new_ones(tmp_path: Path, live: Path) -> None:
    export(tmp_path / "exported", live, certificate())
    with tls_page.running(PAGE["granian"], PAGE["granian"].commands[0], tmp_path, live) as server:
        for kind in ("rsa", "ec"):
            pems = certificate(kind=kind)
            export(tmp_path / "exported", live, pems)
            os.kill(server.process.process.pid, signal.SIGHUP)
            wait_until(partial(_serves, server.port, der(pems)), "the new one is served", limit=20)


def export(folder: Path, live: Path, pems: Pems) -> None:
    """What DEPLOY = ["files:/etc/granian"] does after a renewal."""
    folder.mkdir(exist_ok=True)
    made = publish(live, NAME, lambda: pems)
    deployment = Deployment(
        name=NAME,
        names=(NAME,),
        directory=made.directory,
        current=made.current,
        previous=None,
        serial="00",
        not_after=now(),
        previous_serial="",
    )
    Files(f"files:{folder}").deploy(deployment)


def chain(port: int) -> list[bytes]:
    """All certificates that a server sends, as openssl prints them."""
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", NAME, "-showcerts"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=True,
    ).stdout
    return re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", shown, flags=re.DOTALL)


def _has(port: int, expected: bytes) -> bool:
    """Whether the worker that takes this connection serves it; each looks for itself, and one may have none yet."""
    try:
        return _serves(port, expected)
    except (ssl.SSLError, ConnectionResetError):
        return False


def _refused(port: int) -> bool:
    """Whether the server ends handshakes because it has no certificate: by an alert, or as asyncio does, before it is sent."""
    try:
        peer(port)
    except (ssl.SSLError, ConnectionResetError):
        return True
    return False
