"""Slow, hung and failing sources: what a fetch ends with, when, and in how many calls."""

import itertools
import logging
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import anyio
import pytest

from acme_middleware import lookup
from acme_middleware.errors import StoreUnavailable
from acme_middleware.lookup import DOWN, Lookup

LOGGER = "acme_middleware.lookup"


class Source:
    """
    A source that may wait. Tokens: ``slow...`` take 50 ms, ``hang...`` wait for ``release`` (``hang-once`` the first time
    only), ``down...`` fail.
    """

    blocking = True

    def __init__(self):
        self.calls = []
        self.threads = set()
        self.release = threading.Event()

    def key_authorization(self, token):
        self.calls.append(token)
        self.threads.add(threading.current_thread())
        if token.startswith("hang") and (token != "hang-once" or self.calls.count(token) == 1):
            self.release.wait(30)
        if token.startswith("down"):
            raise StoreUnavailable("the database does not answer")
        if token.startswith("slow"):
            time.sleep(0.05)
        return f"{token}.thumbprint" if token != "unknown" else None


class Local(Source):
    """The same, in memory."""

    blocking = False


@pytest.fixture
def source():
    source = Source()
    yield source
    source.release.set()


@pytest.fixture(params=["sync", "asyncio", "trio"])
def fetch(request):
    """Fetch one token, by either way in."""
    if request.param == "sync":
        return lambda looker, token: looker.fetch(token)
    return lambda looker, token: anyio.run(looker.fetch_async, token, backend=request.param)


def warnings_of(caplog):
    return [record for record in caplog.records if record.name == LOGGER and record.levelno >= logging.WARNING]


def test_a_source_that_never_waits_is_called_where_we_are(fetch):
    source = Local()
    assert fetch(Lookup(source), "token") == "token.thumbprint"
    assert fetch(Lookup(source), "unknown") is None
    assert source.threads == {threading.current_thread()}


def test_a_blocking_source_is_called_in_a_thread_of_our_own(fetch, source):
    looker = Lookup(source)
    assert fetch(looker, "token") == "token.thumbprint"
    assert fetch(looker, "unknown") is None
    assert threading.current_thread() not in source.threads
    assert all(thread.daemon for thread in source.threads)


class Brief(Source):
    """A source that may wait, for a short while only."""

    brief = True


def test_a_source_that_waits_briefly_needs_a_thread_on_an_event_loop_only(fetch, request):
    source = Brief()
    looker = Lookup(source)
    assert fetch(looker, "token") == "token.thumbprint"
    assert fetch(looker, "unknown") is None
    on_a_loop = "sync" not in request.node.callspec.params.values()
    assert (threading.current_thread() not in source.threads) is on_a_loop


def test_a_source_that_waits_briefly_is_refused_at_once_after_a_failure_as_any_other(fetch, caplog):
    source = Brief()
    looker = Lookup(source)
    assert [fetch(looker, f"down-{number}") for number in range(20)] == [DOWN] * 20
    assert source.calls == ["down-0"]
    assert len(warnings_of(caplog)) == 1
    time.sleep(1.1)
    assert fetch(looker, "token") == "token.thumbprint"


def test_no_thread_is_started_before_the_first_fetch(source):
    before = threading.active_count()
    looker = Lookup(source)
    assert threading.active_count() == before
    looker.fetch("token")
    assert threading.active_count() == before + 1


@pytest.mark.anyio
async def test_a_hundred_fetches_at_once_take_less_than_a_second_and_leave_the_loop_free(source):
    looker, outcomes, ticks = Lookup(source), [], []

    async def one(number):
        outcomes.append(await looker.fetch_async(f"slow-{number}"))

    async def tick():
        while True:
            ticks.append(time.monotonic())
            await anyio.sleep(0.01)

    start = time.monotonic()
    async with anyio.create_task_group() as ticking:
        ticking.start_soon(tick)
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(one, number)
        took = time.monotonic() - start
        ticking.cancel_scope.cancel()
    assert sorted(outcomes) == sorted(f"slow-{number}.thumbprint" for number in range(100))
    assert took < 1
    assert len(source.threads) == 8
    assert max(later - earlier for earlier, later in itertools.pairwise(ticks)) < 0.3


@pytest.mark.anyio
async def test_simultaneous_fetches_of_a_token_join_in_one_call(source):
    looker, outcomes = Lookup(source), []

    async def one():
        outcomes.append(await looker.fetch_async("slow"))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(one)
    assert outcomes == ["slow.thumbprint"] * 50
    assert source.calls == ["slow"]
    assert await looker.fetch_async("slow") == "slow.thumbprint"
    assert source.calls == ["slow", "slow"], "a finished fetch must not be remembered"


class Late:
    """A source that looks, and is slow to tell; what is presented meanwhile it has not seen."""

    blocking = True

    def __init__(self):
        self.presented = {}
        self.has_looked = threading.Event()
        self.may_tell = threading.Event()

    def key_authorization(self, token):
        seen = self.presented.get(token)
        self.has_looked.set()
        self.may_tell.wait(30)
        return seen


def test_who_joined_a_fetch_that_looked_too_early_asks_again(fetch):
    source = Late()
    looker, outcomes = Lookup(source), {}
    early = threading.Thread(target=lambda: outcomes.update(early=looker.fetch("token")))
    early.start()
    source.has_looked.wait(30)
    source.presented["token"] = "token.thumbprint"
    late = threading.Thread(target=lambda: outcomes.update(late=fetch(looker, "token")))
    late.start()
    time.sleep(0.2)
    source.may_tell.set()
    early.join()
    late.join()
    assert outcomes == {"early": None, "late": "token.thumbprint"}


@pytest.mark.anyio
async def test_a_client_that_goes_away_does_not_take_the_answer_from_those_who_joined(source):
    looker, outcomes = Lookup(source), []

    async def impatient():
        with anyio.move_on_after(0.01):
            outcomes.append(("impatient", await looker.fetch_async("slow")))

    async def patient():
        outcomes.append(("patient", await looker.fetch_async("slow")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(impatient)
        tasks.start_soon(patient)
    assert outcomes == [("patient", "slow.thumbprint")]
    assert source.calls == ["slow"]


def test_a_call_that_ends_after_its_event_loop_is_no_error(fetch, source, monkeypatch, caplog):
    monkeypatch.setattr(lookup, "TIME_LIMIT", 0.1)
    looker = Lookup(source)
    assert fetch(looker, "hang") is DOWN
    (thread,) = source.threads
    source.release.set()
    time.sleep(lookup.REFUSED_FOR + 0.1)
    assert looker.fetch("token") == "token.thumbprint"
    assert source.threads == {thread}, "the thread that hung was lost"
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_hung_source_is_given_up_after_two_seconds_and_then_refused_at_once(fetch, source, caplog):
    looker = Lookup(source)
    start = time.monotonic()
    assert fetch(looker, "hang-once") is DOWN
    assert 1.9 < time.monotonic() - start < 3
    start = time.monotonic()
    assert fetch(looker, "other") is DOWN
    assert time.monotonic() - start < 0.5
    assert source.calls == ["hang-once"]
    time.sleep(1.1)
    assert fetch(looker, "other") == "other.thumbprint"
    assert fetch(looker, "hang-once") == "hang-once.thumbprint", "the fetch joined the one that was given up"
    assert [record.getMessage() for record in warnings_of(caplog)] == [
        "the challenge store failed, challenge requests get 503: no answer in 2 s"
    ]


def test_a_failure_is_refused_at_once_for_a_second_and_said_once(fetch, source, caplog):
    looker = Lookup(source)
    assert [fetch(looker, f"down-{number}") for number in range(20)] == [DOWN] * 20
    assert source.calls == ["down-0"]
    (line,) = warnings_of(caplog)
    assert "StoreUnavailable: the database does not answer" in line.getMessage()
    assert (line.levelno, line.exc_info) == (logging.WARNING, None)
    time.sleep(1.1)
    assert fetch(looker, "token") == "token.thumbprint"


def test_a_local_source_that_fails_for_one_token_answers_the_others(fetch, caplog):
    looker = Lookup(Local())
    assert [fetch(looker, token) for token in ("down-1", "token", "down-2")] == [DOWN, "token.thumbprint", DOWN]
    assert len(warnings_of(caplog)) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(b"token.thumbprint", "key_authorization() returned bytes, not ASCII text", id="bytes"),
        pytest.param(["token.thumbprint"], "key_authorization() returned list, not ASCII text", id="a list"),
        pytest.param("tok\u0117n.thumbprint", "key_authorization() returned text that is not ASCII", id="other letters"),
        pytest.param("\ud800", "key_authorization() returned text that is not ASCII", id="half a letter"),
    ],
)
@pytest.mark.parametrize("kind", [Source, Local])
def test_what_no_answer_can_be_made_of_is_a_failure_of_the_source(fetch, kind, answer, said, caplog):
    source = kind()
    source.key_authorization = lambda token: answer
    assert fetch(Lookup(source), "token") is DOWN
    (line,) = warnings_of(caplog)
    assert said in line.getMessage()


def test_fetches_that_waited_in_the_queue_until_nobody_wanted_them_are_not_made(source, monkeypatch):
    monkeypatch.setattr(lookup, "TIME_LIMIT", 0.2)
    looker = Lookup(source)
    # Threads, since a refusal for one must not keep the others from getting as far as the queue.
    callers = [threading.Thread(target=looker.fetch, args=(f"hang-{number}",)) for number in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(source.calls) == 8
    source.release.set()
    time.sleep(lookup.REFUSED_FOR + 0.1)
    assert looker.fetch("token") == "token.thumbprint"
    assert len(source.calls) == 9


@contextmanager
def no_more_threads():
    """A system that allows us no more threads; those that there are run on."""
    start = threading.Thread.start

    def refused(thread):
        if thread.name == "acme-middleware":
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        yield


def test_where_no_thread_can_be_started_fetches_are_refused_until_one_can(fetch, source, caplog, monkeypatch):
    monkeypatch.setattr(lookup, "REFUSED_FOR", 0.1)
    looker = Lookup(source)
    with no_more_threads():
        for number in range(lookup.THREADS + 1):
            assert fetch(looker, f"early-{number}") is DOWN
            assert not looker.later(lambda: None)
            looker._current().refuse_until = 0.0
    assert "no thread can be started" in warnings_of(caplog)[0].getMessage()
    assert fetch(looker, "early-0") == "early-0.thumbprint"
    time.sleep(0.1)
    assert fetch(looker, "token") == "token.thumbprint"
    assert source.calls == ["early-0", "token"], "what had been refused was done later"


def test_where_no_further_thread_can_be_started_the_one_that_is_there_goes_on(source):
    looker, outcomes = Lookup(source), []
    assert looker.fetch("token") == "token.thumbprint"
    callers = [threading.Thread(target=lambda n=n: outcomes.append(looker.fetch(f"slow-{n}"))) for n in range(4)]
    with no_more_threads():
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert sorted(outcomes) == [f"slow-{number}.thumbprint" for number in range(4)]
    assert len(source.threads) == 1


def test_background_calls_are_bounded(source):
    looker = Lookup(source)
    taken = [looker.later(lambda: source.release.wait(30)) for _ in range(lookup.WAITING_LATER + 10)]
    assert taken == [True] * lookup.WAITING_LATER + [False] * 10
    source.release.set()
    done = threading.Event()
    deadline = time.monotonic() + 5
    while not looker.later(done.set):
        assert time.monotonic() < deadline, "the waiting calls were never made"
        time.sleep(0.01)
    assert done.wait(5)


def test_a_child_of_a_fork_fetches_in_threads_of_its_own():
    # In a process of its own: forking this one, with the threads of other tests, is what Python 3.12 warns about.
    script = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from acme_middleware.lookup import Lookup

class Slow:
    blocking = True
    def key_authorization(self, token):
        time.sleep(0.3)
        return token + "." + str(os.getpid())

looker = Lookup(Slow())
assert looker.fetch("token") == f"token.{os.getpid()}"
threading.Thread(target=looker.fetch, args=("joined",)).start()
time.sleep(0.1)
# The worst moment: a fetch of the same token is under way in the parent, and the lock that guards them is held.
looker._current().lock.acquire()
child = os.fork()
if not child:
    os._exit(0 if looker.fetch("joined") == f"joined.{os.getpid()}" else 1)
looker._current().lock.release()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_a_hung_call_does_not_keep_the_server_from_ending():
    script = """
import time
from acme_middleware import lookup
lookup.TIME_LIMIT = 0.1
class Hung:
    blocking = True
    def key_authorization(self, token):
        time.sleep(60)
assert lookup.Lookup(Hung()).fetch("token") is lookup.DOWN
"""
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    assert time.monotonic() - start < 10
