"""Leases between processes: killed, stopped and interrupted holders, a store that fails, clocks that jump."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from acme_middleware._holder import this_process
from acme_middleware.errors import Conflict, LeaseHeld, LeaseLost, StoreUnavailable
from acme_middleware.lease import lease
from acme_middleware.stores.base import Expect, key
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.stores.memory import MemoryStore

NAME = "example.com"
LOCK = key("lock", NAME)
CERTIFICATE = key("certificate", NAME)
SCALE = os.environ.get("SCALE", "ci")

IMPORTS = """
import json, os, sys, time
from acme_middleware.errors import Conflict, LeaseHeld, LeaseLost
from acme_middleware.lease import lease
from acme_middleware.stores.directory import DirectoryStore
store = DirectoryStore(sys.argv[1])
"""


@pytest.fixture
def store(tmp_path):
    return DirectoryStore(tmp_path / "state")


@pytest.fixture
def run(store):
    """Start a Python program beside the test; its `store` is the test's."""
    started = []

    def start(program, *options):
        process = subprocess.Popen(
            [sys.executable, *options, "-c", IMPORTS + textwrap.dedent(program), str(store.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


HOLD = """
with lease(store, "example.com", ttl=600) as held:
    print("held", flush=True)
    sys.stdin.readline()
    held.check()
"""


@pytest.mark.parametrize("reaped", [True, False], ids=["the process is gone", "its parent has not noticed yet"])
def test_a_killed_holder_on_this_host_costs_nothing(store, run, reaped):
    holder = run(HOLD)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LeaseHeld) as caught, lease(store, NAME, ttl=600):
        raise AssertionError("two hold the lease")
    assert caught.value.holder == f"process {holder.pid} on {socket.gethostname()}"
    os.kill(holder.pid, signal.SIGKILL)
    if reaped:
        holder.wait()
    else:
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    start = time.monotonic()
    with lease(store, NAME, ttl=600) as held:
        held.check()
    assert time.monotonic() - start < 5


def test_ctrl_c_gives_the_lease_back(store, run):
    holder = run("import contextlib\nwith contextlib.suppress(KeyboardInterrupt):\n" + textwrap.indent(HOLD, "    "))
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGINT)
    assert holder.wait(timeout=30) == 0
    assert json.loads(store.get(LOCK).value)["state"] == "free"


def test_ctrl_c_while_waiting_leaves_the_holder_alone(store, run):
    waiting = """
    try:
        print("waiting", flush=True)
        with lease(store, "example.com", ttl=600, wait=600):
            print("held", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    """
    with lease(store, NAME, ttl=600) as held:
        contender = run(waiting)
        assert contender.stdout.readline() == "waiting\n"
        contender.send_signal(signal.SIGINT)
        assert contender.stdout.readline() == "interrupted\n"
        assert contender.wait(timeout=30) == 0
        held.check()


def test_a_holder_stopped_past_its_ttl_can_do_no_harm_when_it_wakes(store, run):
    store.put(CERTIFICATE, b"old")
    holder = run(
        """
        outcome = {}
        try:
            with lease(store, "example.com", ttl=0.6) as held:
                read = store.get("certificate/example.com")
                print("held", flush=True)
                sys.stdin.readline()
                try:
                    held.check()
                except LeaseLost as error:
                    outcome["check"] = error.name
                try:
                    store.put("certificate/example.com", b"of the sleeper", expect=read.version)
                except Conflict as error:
                    outcome["put"] = error.key
        except LeaseLost as error:
            outcome["end"] = error.name
        print(json.dumps(outcome), flush=True)
        """
    )
    assert holder.stdout.readline() == "held\n"
    stop_outside_the_store(holder.pid, store)
    with lease(store, NAME, ttl=0.6, wait=30) as held:
        read = store.get(CERTIFICATE)
        held.check()
        store.put(CERTIFICATE, b"new", expect=read.version)
        os.kill(holder.pid, signal.SIGCONT)
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert json.loads(holder.stdout.readline()) == {"check": NAME, "put": CERTIFICATE, "end": NAME}
        held.check()
    assert store.get(CERTIFICATE).value == b"new"


def stop_outside_the_store(pid, store):
    """Stop a process, but not while it holds the store's own lock, which would stop everybody."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.05)
        record = store.get(LOCK)
        try:
            store.put(LOCK, record.value, expect=record.version)
        except StoreUnavailable:
            os.kill(pid, signal.SIGCONT)
        else:
            return


def test_many_processes_hold_it_one_at_a_time(store, run, tmp_path):
    rounds = 10 if SCALE == "full" else 2
    contend = f"""
    marker = {str(tmp_path / "inside")!r}
    for _ in range({rounds}):
        with lease(store, "example.com", ttl=30, wait=300) as held:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            time.sleep(0.002)
            held.check()
            os.unlink(marker)
            print("done", flush=True)
    """
    contenders = [run(contend) for _ in range(20)]
    outputs = [contender.communicate(timeout=300)[0] for contender in contenders]
    assert outputs == ["done\n" * rounds] * 20
    assert [contender.returncode for contender in contenders] == [0] * 20


def test_a_forked_child_neither_uses_nor_ends_its_parents_lease(store, run):
    holder = run(
        """
        with lease(store, "example.com", ttl=600) as held:
            child = os.fork()
            if child == 0:
                try:
                    held.check()
                except LeaseLost:
                    raise SystemExit(7)
            status = os.waitpid(child, 0)[1]
            state = json.loads(store.get("lock/example.com").value)["state"]
            held.check()
            print(os.waitstatus_to_exitcode(status), state, flush=True)
        """,
        "-Wignore::DeprecationWarning",  # for forking a process with threads, which is what is tried here
    )
    assert holder.stdout.readline() == "7 held\n"
    assert holder.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def ended():
    """The pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


HERE = this_process().facts()


@pytest.mark.parametrize(
    ("changes", "at_once"),
    [
        pytest.param({}, True, id="the process has ended"),
        pytest.param({"pid": os.getpid(), "started": HERE["started"]}, False, id="the process lives"),
        pytest.param({"pid": os.getpid(), "started": "1"}, True, id="another process has its pid now"),
        pytest.param({"pid": 1, "started": ""}, False, id="it lives, and when it started is not known"),
        pytest.param({"boot": "another"}, False, id="another machine, or before it was restarted"),
        pytest.param({"namespace": "pid:[1]"}, False, id="another container"),
        pytest.param({"host": "another"}, False, id="a machine cloned from one snapshot"),
        pytest.param({"boot": "", "namespace": ""}, False, id="a system that does not tell"),
        pytest.param({"pid": -1}, False, id="no pid, but all processes"),
        pytest.param({"pid": "1"}, False, id="no number"),
    ],
)
def test_only_a_process_that_has_certainly_ended_is_succeeded_at_once(ended, changes, at_once):
    store = MemoryStore()
    facts = {
        "schema": 1,
        "state": "held",
        "lease": "x",
        "ttl": 0.4,
        "holder": {**HERE, "pid": ended, "started": "5", **changes},
    }
    store.put(LOCK, json.dumps(facts).encode())
    if at_once:
        with lease(store, NAME) as held:
            held.check()
        return
    with pytest.raises(LeaseHeld), lease(store, NAME, wait=0.1):
        raise AssertionError("two hold the lease")
    with lease(store, NAME, wait=30) as held:
        held.check()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"\xff", id="no text"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"state": "held", "ttl": "long", "holder": 5}', id="no numbers"),
        pytest.param(b'{"state": "held", "ttl": -1}', id="a time before now"),
        pytest.param(b'{"state": "held", "ttl": NaN}', id="no time at all"),
        pytest.param(b'{"state": "held", "ttl": Infinity}', id="for ever"),
    ],
)
def test_a_record_that_makes_no_sense_is_held_for_one_ttl(value):
    store = MemoryStore()
    store.put(LOCK, value)
    with pytest.raises(LeaseHeld) as caught, lease(store, NAME, ttl=0.3):
        raise AssertionError("two hold the lease")
    assert caught.value.holder == "another process"
    with lease(store, NAME, ttl=0.3, wait=30) as held:
        held.check()


def test_the_holders_own_time_to_live_counts_and_not_the_contenders():
    store = MemoryStore()
    with lease(store, NAME, ttl=30) as held:
        with pytest.raises(LeaseHeld), lease(store, NAME, ttl=0.1, wait=0.6):
            raise AssertionError("two hold the lease")
        held.check()


def test_a_contender_waits_as_long_as_it_was_told():
    store = MemoryStore()
    with lease(store, NAME):
        start = time.monotonic()
        with pytest.raises(LeaseHeld), lease(store, NAME, wait=0.7):
            raise AssertionError("two hold the lease")
        assert 0.7 <= time.monotonic() - start < 5


def test_a_clock_that_jumps_hours_at_each_reading_changes_nothing(monkeypatch):
    hours = itertools.count(0, 3600)
    monkeypatch.setattr(time, "time", lambda: float(next(hours)))
    store = MemoryStore()
    with lease(store, NAME, ttl=0.6) as held:
        with pytest.raises(LeaseHeld), lease(store, NAME, ttl=0.6, wait=1.0):
            raise AssertionError("two hold the lease")
        held.check()


class FailingStore(MemoryStore):
    """A store whose server can go down: before a write, or when it has written and not answered."""

    down = False
    silent = 0

    def put(self, key, value, *, expect=Expect.ANY):
        if self.down:
            raise StoreUnavailable("connection refused")
        version = super().put(key, value, expect=expect)
        if self.silent:
            self.silent -= 1
            raise StoreUnavailable("no answer in time")
        return version


def test_a_store_that_is_down_is_borne_for_one_ttl(caplog):
    store = FailingStore()

    def work():
        with lease(store, NAME, ttl=0.6) as held:
            store.down = True
            held.check()
            time.sleep(0.7)
            held.check()

    with pytest.raises(LeaseLost, match="connection refused"):
        work()
    assert "not given back" in caplog.text


def test_a_store_that_comes_back_in_time_costs_nothing():
    store = FailingStore()
    with lease(store, NAME, ttl=0.9) as held:
        store.down = True
        time.sleep(0.5)
        store.down = False
        time.sleep(0.6)
        with pytest.raises(LeaseHeld), lease(store, NAME):
            raise AssertionError("two hold the lease")
        held.check()


def test_a_rewrite_that_got_through_without_an_answer_is_still_ours():
    store = FailingStore()
    with lease(store, NAME, ttl=600) as held:
        store.silent = 1
        held.check()
        held.check()
    assert json.loads(store.get(LOCK).value)["state"] == "free"


class OvertakenStore(FailingStore):
    """Another takes the lease right after its holder has read that it is still its own."""

    reading = False

    def get(self, key):
        record = super().get(key)
        if self.reading:
            self.reading = False
            overtake(self)
        return record


def test_a_lease_that_is_taken_while_the_holder_makes_sure_of_it_is_lost():
    store = OvertakenStore()

    def work():
        with lease(store, NAME, ttl=600) as held:
            store.silent = 1
            held.check()
            store.reading = True
            held.check()

    with pytest.raises(LeaseLost, match="taken over by another process"):
        work()
    assert json.loads(store.get(LOCK).value)["lease"] == "of another"


def test_a_lease_taken_without_an_answer_is_given_back():
    store = FailingStore()
    store.silent = 1
    with pytest.raises(StoreUnavailable, match="no answer"), lease(store, NAME, ttl=600):
        raise AssertionError("held without an answer")
    with lease(store, NAME) as held:
        held.check()


def overtake(store):
    store.put(LOCK, b'{"schema": 1, "state": "held", "lease": "of another", "ttl": 600}')


def test_losing_the_lease_does_not_hide_what_went_wrong_in_the_work(caplog):
    store = MemoryStore()

    def work():
        with lease(store, NAME):
            overtake(store)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert "taken over" in caplog.text
    assert b"of another" in store.get(LOCK).value


def test_work_that_ended_well_is_told_that_it_was_not_alone():
    store = MemoryStore()
    with pytest.raises(LeaseLost, match="taken over"), lease(store, NAME):
        overtake(store)
    assert b"of another" in store.get(LOCK).value


def test_the_heartbeat_ends_when_the_lease_is_lost():
    store = MemoryStore()
    before = set(threading.enumerate())

    def work():
        with lease(store, NAME, ttl=0.15):
            overtake(store)
            deadline = time.monotonic() + 10
            while set(threading.enumerate()) - before and time.monotonic() < deadline:
                time.sleep(0.01)
            assert set(threading.enumerate()) <= before

    with pytest.raises(LeaseLost):
        work()


def test_a_lease_is_worth_nothing_after_its_block():
    store = MemoryStore()
    with lease(store, NAME) as held:
        held.check()
    with pytest.raises(LeaseLost, match="given back"):
        held.check()
    assert json.loads(store.get(LOCK).value)["state"] == "free"


@pytest.mark.parametrize("ttl", [0, -1, float("inf"), float("nan")], ids=str)
def test_a_time_to_live_must_be_one(ttl):
    with pytest.raises(ValueError, match="positive number of seconds"), lease(MemoryStore(), NAME, ttl=ttl):
        raise AssertionError("held")


def test_the_record_names_its_holder_and_no_secret(store):
    with lease(store, NAME, ttl=5):
        facts = json.loads(store.get(LOCK).value)
    assert facts["holder"] == HERE
    assert set(facts) == {"schema", "state", "lease", "ttl", "holder", "since", "seen"}
    assert (facts["schema"], facts["state"], facts["ttl"]) == (1, "held", 5)


def test_a_conflict_while_taking_it_is_another_try():
    class Racing(MemoryStore):
        conflicts = 3

        def put(self, key, value, *, expect=Expect.ANY):
            if self.conflicts:
                self.conflicts -= 1
                raise Conflict("another was faster", key=key)
            return super().put(key, value, expect=expect)

    with lease(Racing(), NAME, wait=30) as held:
        held.check()


class Counting(MemoryStore):
    """Counts how often it is read."""

    def __init__(self):
        super().__init__()
        self.reads = 0

    def get(self, key):
        self.reads += 1
        return super().get(key)


def test_a_stand_by_asks_as_rarely_as_it_is_told_and_ends_when_it_is_told():
    store, stop, outcome = Counting(), threading.Event(), []

    def stand_by():
        try:
            with lease(store, NAME, ttl=600, wait=float("inf"), poll=30, stop=stop):
                outcome.append("took it")
        except LeaseHeld as error:
            outcome.append(error.name)

    with lease(store, NAME, ttl=600):
        before = store.reads
        thread = threading.Thread(target=stand_by)
        thread.start()
        time.sleep(3)
        # 0.05 s first, then half as long again each time: some eight in three seconds, and 30 s between two in the end.
        assert 2 <= store.reads - before <= 10
        start = time.monotonic()
        stop.set()
        thread.join(10)
        assert time.monotonic() - start < 2
    assert outcome == [NAME]
