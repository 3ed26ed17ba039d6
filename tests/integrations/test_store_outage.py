"""
A store that is stopped, and one that freezes, below a web server that is busy with other things.

Four sync workers of gunicorn: the worst case, since a worker that waits for the store does nothing else meanwhile.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mariadb_server import MariaDB
from postgresql_server import PostgreSQL
from redis_server import Redis
from serving import Server, get, gunicorn

from acme_middleware.stores import open_challenges, open_store

PREFIX = "/.well-known/acme-challenge/"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ANSWER = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"

FULL = os.environ.get("SCALE") == "full"
REQUESTS = 10_000 if FULL else 2_000
PER_SECOND = 150
TOKENS_PER_SECOND = 20
WORKERS = 4
P99, CHALLENGE_LIMIT = 2.5, 2.0

SERVERS = {"Redis": Redis, "PostgreSQL": PostgreSQL, "MariaDB": MariaDB}


@pytest.fixture(params=SERVERS)
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A server of its own, with our tables where it has such."""
    with SERVERS[request.param]() as server:
        opened = open_store(server.url)
        if hasattr(opened, "make_tables"):
            opened.make_tables()
        yield server


@dataclass(frozen=True)
class Sample:
    due: float
    took: float
    status: int
    body: bytes


@dataclass
class Load:
    """Requests for one path at a steady pace, however long each takes; the time of each counts from when it was due."""

    server: Server
    path: str
    per_second: float
    samples: list[Sample] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        # Enough threads for the slowest: a client that waits must not hold back the next.
        self._pool = ThreadPoolExecutor(200)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._pool.submit(self._one, due)
            due += 1 / self.per_second

    def _one(self, due: float) -> None:
        try:
            reply = get(self.server, self.path, limit=20)
            status, body = reply.status, reply.body
        except OSError as error:
            status, body = 0, repr(error).encode()
        self.samples.append(Sample(due, time.monotonic() - due, status, body))

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._pool.shutdown(wait=True)

    def between(self, start: float, end: float) -> list[Sample]:
        return [sample for sample in self.samples if start <= sample.due < end]


def percentile(samples: list[Sample], share: float) -> float:
    took = sorted(sample.took for sample in samples)
    return took[min(len(took) - 1, int(len(took) * share))]


def answers(server: Server) -> bool:
    return get(server, PREFIX + TOKEN, limit=20).body == ANSWER.encode()


def wait_until(ready: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.05)


def outage(begin: Callable[[], None], end: Callable[[], None], tokens: Load, seconds: float) -> tuple[float, float]:
    """Let the store be away for a while; returns when that was, without the moment in which it went."""
    begin()
    start = time.monotonic() + 0.5
    time.sleep(seconds)
    finish = time.monotonic()
    end()
    wait_until(lambda: answers(tokens.server), 6)
    return start, finish


def test_a_store_that_is_stopped_and_one_that_freezes_leave_the_app_alone(
    store: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    open_challenges(store.url).present(TOKEN, ANSWER, ttl=3600)
    away = REQUESTS / PER_SECOND * 0.4
    with gunicorn("plain_apps:wsgi", "-w", str(WORKERS), env={"CHALLENGES": store.url}) as web:
        wait_until(lambda: all(answers(web) for _ in range(4 * WORKERS)), 20)
        with Load(web, "/page", PER_SECOND) as pages, Load(web, PREFIX + TOKEN, TOKENS_PER_SECOND) as tokens:
            stopped = outage(store.kill, store.restart, tokens, away)
            frozen = outage(store.freeze, store.thaw, tokens, away)
            wait_until(lambda: len(pages.samples) >= REQUESTS, 120)
            back = time.monotonic()
            wait_until(lambda: len(tokens.between(back, float("inf"))) >= 20, 20)
        log = web.log()
    slowest = {
        name: max(sample.took for sample in tokens.between(*when)) for name, when in (("stopped", stopped), ("frozen", frozen))
    }
    with capsys.disabled():
        print(
            f"\n{type(store).__name__}: {len(pages.samples)} pages, p50 {percentile(pages.samples, 0.5) * 1000:.0f} ms, "
            f"p99 {percentile(pages.samples, 0.99):.2f} s; {len(tokens.samples)} token requests, slowest "
            + ", ".join(f"{seconds:.2f} s {name}" for name, seconds in slowest.items())
        )
    assert len(pages.samples) >= REQUESTS
    assert [sample for sample in pages.samples if sample.status != 200] == []
    assert percentile(pages.samples, 0.99) < P99
    for when in (stopped, frozen):
        # One that was due just before the end may have waited until the store was back.
        during = [sample for sample in tokens.between(*when) if sample.due + sample.took < when[1]]
        assert len(during) >= (when[1] - when[0]) * TOKENS_PER_SECOND * 0.5
        assert {sample.status for sample in during} == {503}
        # A token request waits its turn at a worker, as pages do, and then for the store.
        assert percentile(during, 0.95) < CHALLENGE_LIMIT
    assert {(sample.status, sample.body) for sample in tokens.between(back, float("inf"))} == {(200, ANSWER.encode())}
    assert log.count("Booting worker") == WORKERS, "a worker was started again"
    assert "Traceback" not in log
    failures = [line for line in log.splitlines() if "challenge requests get 503" in line]
    assert 1 <= len(failures) <= WORKERS * (2 * away + 12), "more than a line a second from each worker"
    assert store.url.split(":")[2].split("@")[0] not in log


def test_a_web_server_starts_while_its_store_is_down_and_needs_no_other_start(store: Any) -> None:
    open_challenges(store.url).present(TOKEN, ANSWER, ttl=3600)
    store.kill()
    with gunicorn("plain_apps:wsgi", "-w", "2", env={"CHALLENGES": store.url}) as web:
        assert get(web, "/page").status == 200
        start = time.monotonic()
        assert get(web, PREFIX + TOKEN).status == 503
        assert time.monotonic() - start < CHALLENGE_LIMIT
        assert get(web, "/page").status == 200
        store.restart()
        wait_until(lambda: all(answers(web) for _ in range(4)), 10)
        assert web.log().count("Booting worker") == 2


@pytest.mark.parametrize(
    ("url", "hidden", "said"),
    [
        pytest.param("rediz://user:secret@127.0.0.1/0", "", "there is no store for rediz:", id="a wrong scheme"),
        pytest.param("redis://user:secret@127.0.0.1/0", "redis", "pip install 'acme-middleware[redis]'", id="a missing driver"),
        pytest.param("mysql://user:secret@127.0.0.1/x", "pymysql", "pip install 'acme-middleware[sql]'", id="another one"),
    ],
)
def test_a_web_server_refuses_to_start_for_a_wrong_scheme_and_a_missing_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, hidden: str, said: str
) -> None:
    if hidden:
        (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{hidden!r}] = None\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(RuntimeError) as caught, gunicorn("plain_apps:wsgi", "-w", "1", env={"CHALLENGES": url}):
        pass
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
