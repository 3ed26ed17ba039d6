"""A store that is slow, that is down, and that hangs: each framework, and each kind of server, behind such a store."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from matrix_requests import HOST, HTTPS, PREFIX
from matrix_surfaces import FAULTY, SURFACES, Fleet
from serving import get

STORE = '__import__("faulty_store").FaultyStore()'
AT_ONCE = 100
# 100 calls of 50 ms in our eight threads take 0.65 s, without blocking the loop. A synchronous server is as quick as it has
# workers and threads.
LIMITS = {"asgi": 1.0, "tornado": 1.0, "aiohttp": 1.0, "wsgi": 3.0}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    surfaces = [SURFACES[name] for name in FAULTY]
    fleet = Fleet(tmp_path_factory.mktemp("faulty"), surfaces, ahead=len(surfaces), store=STORE)
    for surface in surfaces:
        fleet.running(surface)  # all of them before the first is timed: starting takes both processors
    yield fleet
    fleet.close()


@pytest.fixture(params=FAULTY)
def running(request, fleet):
    return fleet.running(SURFACES[request.param])


@pytest.fixture(scope="module")
def hung(fleet):
    """What comes of a fetch that hangs, and of a page meanwhile, with the time that each took: everywhere at the same time."""

    def timed(call, *arguments):
        began = time.monotonic()
        return call(*arguments).status, time.monotonic() - began

    everything = [fleet.running(surface) for surface in fleet.surfaces]
    with ThreadPoolExecutor(2 * len(everything)) as pool:
        fetches = [pool.submit(timed, fetch, running, "hang") for running in everything]
        time.sleep(0.2)
        pages = [pool.submit(timed, page, running) for running in everything]
        return {
            running.surface.id: (hanging.result(), other.result())
            for running, hanging, other in zip(everything, fetches, pages, strict=True)
        }


def calls(fleet):
    return fleet.calls.read_text().split() if fleet.calls.exists() else []


def fetch(running, token):
    return get(running.servers[0], f"{running.base}{PREFIX}{token}", host=HOST, headers=HTTPS)


def page(running):
    return get(running.servers[0], f"{running.base}/page", host=HOST, headers=HTTPS)


def test_a_hundred_fetches_at_once_from_a_slow_store_wait_for_each_other_no_longer_than_they_must(running):
    times = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for attempt in range(5):  # other work of this machine may slow one down, not all of them
            tokens = [f"slow-{attempt}-{number}" for number in range(AT_ONCE)]
            began = time.monotonic()
            replies = list(pool.map(lambda token: fetch(running, token), tokens))
            times.append(time.monotonic() - began)
            assert [reply.body.decode() for reply in replies] == [f"{token}.thumbprint" for token in tokens]
            if times[-1] < LIMITS[running.surface.server.runs]:
                break
    assert min(times) < LIMITS[running.surface.server.runs]


def test_no_other_request_reaches_the_store(fleet, running):
    before = calls(fleet)
    for target in ("/", "/page", PREFIX, f"{PREFIX}to%2Fken", f"{PREFIX}token%0A", f"/en{PREFIX}token"):
        assert get(running.servers[0], running.base + target, host=HOST, headers=HTTPS).status < 500
    assert get(running.servers[0], f"{running.base}{PREFIX}token", method="POST", host=HOST, headers=HTTPS).status < 500
    assert calls(fleet) == before


def test_a_store_that_hangs_is_503_within_its_limit_and_every_other_page_is_served_meanwhile(hung, running):
    (status, took), (other, other_took) = hung[running.surface.id]
    assert (status, other) == (503, 200)
    assert 1.5 < took < 4
    assert other_took < 1.5


def test_a_store_that_is_back_is_asked_again(running):
    wait_until_asked(running)
    assert fetch(running, "slow-again").body == b"slow-again.thumbprint"


def test_a_store_that_is_down_is_503_at_once_and_every_other_page_is_served(running):
    wait_until_asked(running)
    began = time.monotonic()
    replies = [fetch(running, f"down-{number}") for number in range(8)]
    assert {(reply.status, reply.header("Retry-After")) for reply in replies} == {(503, "1")}
    assert page(running).status == 200
    assert time.monotonic() - began < 2
    assert "Traceback" not in running.log()


def wait_until_asked(running):
    """For a second after a failure, a process does not ask the store: until each of them does again."""
    deadline = time.monotonic() + 10
    while {fetch(running, f"slow-{number}").status for number in range(8)} != {200}:
        assert time.monotonic() < deadline
        time.sleep(0.2)
