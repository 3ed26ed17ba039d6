"""
A hundred thousand requests for each surface (SCALE=full: a million): no exception, no unexpected status, memory flat.

They follow from a seed, which a failure prints with the bytes that were sent: FUZZ_SEED=... repeats a run, FUZZ_COUNT=...
shortens it. Most are near the path of tokens. Those for plain ASGI and Tornado go over real sockets, pipelined. gunicorn takes
about two thousand a second, and frameworks under uvicorn not many more: of theirs ten thousand go over sockets, and the rest
straight into the same app by its WSGI or ASGI interface, in two processes at the same time.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from fuzz_grammar import ANSWER, TOKEN, Request, requests
from fuzz_oracle import Verdicts, resident
from fuzz_wire import Reply, exchange
from serving import PROJECT, Server, gunicorn, serve, uvicorn

from acme_middleware.stores.challenges import WebrootChallengeStore

FULL = os.environ.get("SCALE") == "full"
COUNT = int(os.environ.get("FUZZ_COUNT") or (1_000_000 if FULL else 100_000))
SEED = os.environ.get("FUZZ_SEED") or str(random.SystemRandom().randrange(10**9))
HERE = Path(__file__).resolve().parent

LIMIT = 3600 if FULL else 600
"""Seconds that a surface may take."""

PIPED: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}

GROWTH = 2_000_000
"""Bytes that a process may be bigger at the end than after a quarter of its requests: 60 lost with each would be more."""


@dataclass(frozen=True)
class Surface:
    """
    How an app is served.

    ``over_sockets``: the share of requests that goes through the server. ``pipelined``: how many go over a connection before
    their replies are read; gunicorn waits for a socket to be readable while the next request is in its buffer already.
    ``app``: the statuses that the app, or the router of its framework, has for what is not ours.
    """

    over_sockets: float
    app: frozenset[int]
    pipelined: int = 64

    def start(self, name: str, env: dict[str, str]) -> AbstractContextManager[Server]:
        if name == "tornado":
            return serve([sys.executable, "-m", "fuzz_apps", "{fd}"], env=env)
        if name in ("plain_wsgi", "django_wsgi", "flask"):
            return gunicorn(f"fuzz_apps:{name}()", "--threads", "4", "--keep-alive", "60", env=env)
        return uvicorn(
            f"fuzz_apps:{name}", "--factory", "--http", "httptools", "--no-access-log", "--log-level", "error", env=env
        )


ROUTED = frozenset({200, 404, 405})
SURFACES = {
    "plain_wsgi": Surface(0.1, frozenset({200}), pipelined=1),
    "plain_asgi": Surface(1.0, frozenset({200})),
    "django_wsgi": Surface(0.1, frozenset({200}), pipelined=1),
    "django_asgi": Surface(0.1, frozenset({200})),
    "flask": Surface(0.1, ROUTED | {308}, pipelined=1),
    "starlette": Surface(0.1, ROUTED | {307}),
    "fastapi": Surface(0.1, ROUTED | {307}),
    # It takes any form's content type for a form, and answers conditional requests.
    "tornado": Surface(1.0, ROUTED | {304, 400}),
}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    store = WebrootChallengeStore(tmp_path / "challenges", make_root=True)
    store.present(TOKEN.decode(), ANSWER.decode(), ttl=3600 * 5)
    paths = [PROJECT, PROJECT / "integrations", HERE]
    return {"FUZZ_STORE": f"file:{tmp_path}", "PYTHONPATH": os.pathsep.join(map(str, paths))}


def worker(server: Server) -> int:
    """The process that answers: gunicorn's only worker, or the server itself."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def over_sockets(server: Server, surface: Surface, seed: str, count: int) -> tuple[Verdicts, int]:
    """Send them, and return what came back, and by how many bytes the worker has grown since a quarter of them."""
    verdicts = Verdicts(surface.app)
    pid = worker(server)
    warm = 0

    def got(request: Request, reply: Reply) -> None:
        verdicts.judge(request, reply.status, reply.body)

    def sent() -> Iterator[Request]:
        nonlocal warm
        for number, request in enumerate(islice(requests(seed), count)):
            if number == count // 4:
                warm = resident(pid)
            yield request

    exchange(server.port, sent(), got, pipelined=surface.pipelined, connections=4 if surface.pipelined == 1 else 2)
    return verdicts, resident(pid) - warm


def check_log(log: str, seconds: float) -> None:
    """Nothing went wrong, and unknown tokens drew one line at once and then one a minute."""
    for trace in ("Traceback", "LOG ERROR", "[ERROR]", "ERROR:", "Exception"):
        assert trace not in log, log[-5000:]
    lines = [line for line in log.splitlines() if "acme_middleware" in line]
    assert lines, "not one unknown token was reported"
    assert all(
        "LOG WARNING acme_middleware.responder" in line and "of unknown token" in line.replace("an unk", "unk")
        for line in lines
    )
    assert len(lines) <= 2 + seconds / 60, lines


@pytest.mark.parametrize("name", SURFACES)
def test_a_hundred_thousand_hostile_requests_do_no_harm(name: str, env: dict[str, str]) -> None:
    surface = SURFACES[name]
    print(f"FUZZ_SEED={SEED}")
    seed = f"{SEED} {name}"
    sent = round(COUNT * surface.over_sockets)
    began = time.monotonic()
    inside = []
    try:
        for half in range(2 if sent < COUNT else 0):
            count = (COUNT - sent) // 2
            command = ["-m", "fuzz_inside", name, f"{seed} {half}", str(count), *map(str, sorted(surface.app))]
            inside.append(subprocess.Popen([sys.executable, *command], env={**os.environ, **env}, **PIPED))
        with surface.start(name, env) as server:
            verdicts, grown = over_sockets(server, surface, seed, sent)
            log = server.log()
        for process in inside:
            output, errors = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, errors[-5000:]
            print(f"inside: {output}")
            check_log(errors, time.monotonic() - began)
            result = json.loads(output)
            assert result["wrong"] == []
            assert result["grown"] < GROWTH
    finally:
        for process in inside:
            process.kill()
            process.wait()
    print(f"over sockets: {dict(verdicts.counts)}, grown by {grown}, {time.monotonic() - began:.0f} s")
    check_log(log, time.monotonic() - began)
    assert verdicts.wrong == []
    assert sum(verdicts.counts.values()) == sent
    assert verdicts.counts["answered"] > sent / 10
    assert verdicts.counts["the app's"] > sent / 10
    assert grown < GROWTH
