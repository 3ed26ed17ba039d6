"""gunicorn and uvicorn in front of a store that is slow, hangs or is down."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serving import get, gunicorn, uvicorn

PREFIX = "/.well-known/acme-challenge/"

SERVERS = {
    "gunicorn": lambda env: gunicorn("plain_apps:wsgi", "--threads", "16", env=env),
    "uvicorn": lambda env: uvicorn("plain_apps:asgi", env=env),
}


class Surface:
    def __init__(self, server, calls):
        self.server, self._calls = server, calls

    def get(self, target, **options):
        return get(self.server, target, **options)

    def calls(self):
        return self._calls.read_text().split() if self._calls.exists() else []

    def fetches(self):
        written = Path(f"{self._calls}.fetches")
        return written.read_text().splitlines() if written.exists() else []

    def warnings(self):
        return [line for line in self.server.log().splitlines() if "LOG WARNING" in line]


@pytest.fixture(params=SERVERS)
def surface(request, tmp_path):
    calls = tmp_path / "calls"
    with SERVERS[request.param]({"CHALLENGES": "counted", "CALLS": str(calls)}) as server:
        yield Surface(server, calls)


def test_other_requests_never_reach_the_store(surface):
    for target in ("/", "/page", PREFIX, PREFIX + "to/ken", PREFIX + "token%0A", "/." + PREFIX + "token"):
        assert surface.get(target).status == 200
    assert surface.get(PREFIX + "known", method="POST").status == 200
    assert surface.calls() == []


def test_a_store_that_is_down_is_503_at_once_with_one_line_and_touches_nothing_else(surface):
    start = time.monotonic()
    replies = [surface.get(f"{PREFIX}down-{number}") for number in range(10)]
    assert time.monotonic() - start < 1
    assert {reply.status for reply in replies} == {503}
    assert {reply.header("Retry-After") for reply in replies} == {"1"}
    assert surface.get("/page").status == 200
    assert len(surface.calls()) == 1
    (line,) = surface.warnings()
    assert line.endswith("challenge requests get 503: OSError: no route to the store")
    assert "Traceback" not in surface.server.log()
    time.sleep(1.1)
    assert surface.get(PREFIX + "known").body == b"known.thumbprint"


def test_a_store_that_hangs_is_503_in_time_and_the_app_answers_meanwhile(surface):
    with ThreadPoolExecutor(12) as pool:
        start = time.monotonic()
        hung = [pool.submit(surface.get, f"{PREFIX}hang-{number}") for number in range(10)]
        time.sleep(0.5)
        began = time.monotonic()
        assert surface.get("/page").status == 200
        assert time.monotonic() - began < 0.5
        assert {future.result().status for future in hung} == {503}
        assert time.monotonic() - start < 4
    began = time.monotonic()
    assert surface.get(PREFIX + "known").status == 503
    assert time.monotonic() - began < 0.5
    assert 1 <= len(surface.warnings()) <= 2


def test_a_hundred_fetches_at_once_leave_the_app_answering(surface):
    surface.get(PREFIX + "known-warm")
    with ThreadPoolExecutor(101) as pool:
        start = time.monotonic()
        fetches = [pool.submit(surface.get, f"{PREFIX}known-{number}") for number in range(100)]
        page = pool.submit(surface.get, "/page")
        assert {fetch.result().status for fetch in fetches} == {200}
        took = time.monotonic() - start
        assert page.result().status == 200
    # 100 calls of 50 ms in 8 threads take 0.65 s; one after the other they would take 5 s.
    assert took < 2


def test_fetches_are_recorded_after_the_answer(surface):
    assert surface.get(PREFIX + "known", headers={"User-Agent": "a CA"}).status == 200
    assert surface.get(PREFIX + "unknown", headers={"User-Agent": "a bot"}).status == 200
    deadline = time.monotonic() + 5
    while not surface.fetches():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert surface.fetches() == ["known 127.0.0.1 a CA"]
