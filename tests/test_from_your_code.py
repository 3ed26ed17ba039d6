"""issue(), revoke(), delete() and status() from a program's own code, called and awaited, against a real CA."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from pebble_lab import wait_until

import acme_middleware
from acme_middleware import _offload, events, options
from acme_middleware.errors import (
    ConfigurationError,
    LeaseHeld,
    NoSuchCertificate,
    NotAllowed,
    NotYet,
    ValidationFailed,
)
from acme_middleware.issuance.results import Action
from acme_middleware.lease import lease
from acme_middleware.local_ca import LocalCA
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.testing.clock import Clock
from acme_middleware.wsgi import AcmeMiddleware

pytest_plugins = ["acme_middleware.testing.plugin"]


def page(environ: Any, start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [("Content-Length", "0")])
    return [b""]


@dataclass
class App:
    """A program with customers' names, and how it calls us."""

    ca: LocalCA
    folder: Path
    call: Callable[..., Any]
    events: list[events.Event] = field(default_factory=list)

    @property
    def options(self) -> dict[str, Any]:
        return {
            "store": f"file:{self.folder / 'acme'}",
            "challenge_store": "memory:",
            "ca": self.ca.directory_url,
            "ca_bundle": self.ca.ca_bundle,
            "self_check": "skip",
        }

    def issue(self, *names: str, **given: Any) -> Any:
        return self.call("issue", names[0] if len(names) == 1 else names, **self.options, **given)

    def orders(self) -> int:
        return len(self.ca.state.orders)


def called(verb: str, *args: Any, **given: Any) -> Any:
    return getattr(acme_middleware, verb)(*args, **given)


def awaited(backend: str) -> Callable[..., Any]:
    return lambda verb, *args, **given: anyio.run(
        partial(getattr(acme_middleware, f"a{verb}"), *args, **given), backend=backend
    )


CALLS = {"called": called, "awaited under asyncio": awaited("asyncio"), "awaited under trio": awaited("trio")}


def made(ca: LocalCA, folder: Path, call: Callable[..., Any]) -> App:
    ca.resolve["*"] = AcmeMiddleware(page, store="memory:")
    return App(ca, folder, call)


@pytest.fixture(params=CALLS.values(), ids=CALLS)
def app(request: pytest.FixtureRequest, acme_ca: LocalCA, tmp_path: Path) -> App:
    return made(acme_ca, tmp_path, request.param)


@pytest.fixture
def plain(acme_ca: LocalCA, tmp_path: Path) -> App:
    return made(acme_ca, tmp_path, called)


def test_a_customers_name_from_its_first_day_to_its_last(app: App, acme_clock: Clock) -> None:
    assert app.call("status", "shop.example", **app.options).state == "missing"
    outcome = app.issue("shop.example", allow=lambda name: name == "shop.example", hourly_per_domain=5, hourly=300)
    assert (outcome.action, outcome.record.names) == (Action.ISSUED, ("shop.example",))
    stands = app.call("status", "Shop.example", **app.options)
    assert (stands.name, stands.state, stands.record.serial) == ("shop.example", "ok", outcome.record.serial)
    assert stands.renews == outcome.record.renew_after

    assert app.issue("shop.example").action is Action.NOT_DUE
    assert app.orders() == 1
    revoked = app.call("revoke", "shop.example", reason="superseded", **app.options)
    assert (revoked.names, revoked.by, revoked.due) == (("shop.example",), "account", ("shop.example",))
    assert app.call("status", "shop.example", **app.options).state == "overdue"
    assert app.issue("shop.example").action is Action.RENEWED

    acme_clock.travel(days=91)
    assert [one.state for one in app.call("statuses", **app.options)] == ["expired"]
    gone = app.call("delete", "shop.example", **app.options)
    assert gone.name == "shop.example"
    assert app.call("statuses", **app.options) == []
    with pytest.raises(NoSuchCertificate):
        app.call("delete", "shop.example", **app.options)


def test_a_name_that_is_not_allowed_costs_the_ca_nothing(app: App) -> None:
    with pytest.raises(NotAllowed) as error:
        app.issue("shop.example", "bank.example", allow=lambda name: name.startswith("shop"))
    assert error.value.name == "bank.example"
    assert app.ca.requests() == []
    assert app.call("statuses", **app.options) == []


def test_what_only_has_to_wait_or_is_not_allowed_is_no_error_in_the_log(app: App, caplog: pytest.LogCaptureFixture) -> None:
    app.issue("first.example", hourly=1)
    with pytest.raises(NotYet):
        app.issue("second.example", hourly=1)
    with pytest.raises(NotAllowed):
        app.issue("third.example", allow=lambda name: False)
    with lease(open_store(app.options["store"]), "fourth.example"), pytest.raises(LeaseHeld):
        app.issue("fourth.example", wait=0)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    del app.ca.resolve["*"]
    with pytest.raises(ValidationFailed):
        app.issue("fifth.example")
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


def test_where_there_is_nothing_to_ask_for_nobody_is_asked(app: App) -> None:
    app.issue("shop.example")
    asked: list[str] = []
    assert app.issue("shop.example", allow=asked.append).action is Action.NOT_DUE
    assert asked == []


def test_caps_are_kept_over_calls_and_end_with_the_hour(app: App, acme_clock: Clock) -> None:
    for word in ("a", "b"):
        app.issue(f"{word}.example.com", hourly_per_domain=2, hourly=3)
    before = len(app.ca.requests())
    with pytest.raises(NotYet) as early:
        app.issue("c.example.com", hourly_per_domain=2, hourly=3)
    assert timedelta(minutes=50) < early.value.allowed_at - acme_clock.now() <= timedelta(hours=1, seconds=1)
    app.issue("example.org", hourly_per_domain=2, hourly=3)
    with pytest.raises(NotYet, match="in all"):
        app.issue("example.net", hourly_per_domain=2, hourly=3)
    assert (len(app.ca.requests("new-order")), app.orders()) == (3, 3)
    assert len(app.ca.requests()) > before
    acme_clock.travel(hours=1.1)
    assert app.issue("c.example.com", hourly_per_domain=2, hourly=3).action is Action.ISSUED


def test_what_fails_counts_as_well_and_the_status_says_why(app: App) -> None:
    del app.ca.resolve["*"]
    with pytest.raises(ValidationFailed):
        app.issue("gone.example.com", hourly_per_domain=1)
    with pytest.raises(NotYet, match="hourly_per_domain allows 1 order"):
        app.issue("other.example.com", hourly_per_domain=1)
    stands = app.call("status", "gone.example.com", **app.options)
    assert stands.state == "failing"
    assert "gone.example.com" in stands.failure.error
    assert stands.needs_somebody


def test_the_pause_after_a_failure_is_for_programs_and_not_for_who_has_put_it_right(app: App) -> None:
    site = app.ca.resolve.pop("*")
    with pytest.raises(ValidationFailed):
        app.issue("shop.example")
    app.ca.resolve["*"] = site
    with pytest.raises(NotYet) as early:
        app.issue("shop.example")
    assert early.value.allowed_at == app.call("status", "shop.example", **app.options).failure.next_try
    assert app.issue("shop.example", by_hand=True).action is Action.ISSUED


def test_an_order_that_a_stopped_run_has_placed_is_gone_on_with_and_not_counted_again(app: App) -> None:
    def leave(event: events.Event) -> None:
        if isinstance(event, events.OrderReady):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        called("issue", "shop.example", hourly=1, listener=leave, **app.options)
    assert app.issue("shop.example", hourly=1).action is Action.ISSUED
    assert app.orders() == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param({"hourly": 0}, "hourly is 0", id="a cap of none"),
        pytest.param({"key_typ": "ec256"}, "no option key_typ; did you mean key_type", id="a misspelt option"),
        pytest.param({"key_type": "dsa"}, "key_type is 'dsa'", id="a value that an option does not take"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(app: App, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        app.issue("shop.example", **given)
    assert app.ca.requests() == []


def test_a_reason_for_a_revocation_that_there_is_not_names_those_that_there_are(app: App) -> None:
    app.issue("shop.example")
    with pytest.raises(ConfigurationError, match="'boredom' is no reason") as error:
        app.call("revoke", "shop.example", reason="boredom", **app.options)
    assert "superseded" in error.value.hint


def test_twenty_calls_at_once_for_one_name_place_one_order(plain: App) -> None:
    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(lambda _: plain.issue("shop.example", hourly=1), range(20)))
    assert {outcome.record.serial for outcome in outcomes} == {outcomes[0].record.serial}
    assert plain.orders() == 1


def test_an_order_of_another_call_for_the_same_name_is_waited_for_though_the_cap_is_reached(plain: App) -> None:
    """Between two looks of this call the other one has taken what the cap allows, and nothing else of it is seen yet."""
    plain.ca.fault("slow", seconds=0.5)
    store = open_store(plain.options["store"])
    with ThreadPoolExecutor(1) as pool:
        others = []

        def meanwhile(name: str) -> bool:
            others.append(pool.submit(plain.issue, name, hourly=1))
            wait_until(lambda: store.get("budget/caps/all"), "the other call counts its order")
            return True

        outcome = plain.issue("shop.example", hourly=1, allow=meanwhile)
        assert outcome.action is Action.BY_ANOTHER
        assert outcome.record.serial == others[0].result().record.serial
    assert plain.orders() == 1


def test_a_certificate_that_another_call_has_just_finished_is_taken_though_the_cap_is_reached(plain: App) -> None:
    def meanwhile(name: str) -> bool:
        plain.issue(name, hourly=1)
        return True

    assert plain.issue("shop.example", hourly=1, allow=meanwhile).action is Action.BY_ANOTHER
    assert plain.orders() == 1


def test_status_of_one_name_among_declared_and_damaged_ones(plain: App) -> None:
    plain.issue("shop.example")
    declared = {
        "certificates": {"shop.example": {"names": ["shop.example", "www.shop.example"]}, "new": {"names": ["n.example"]}}
    }
    shop = acme_middleware.status("shop.example", **plain.options, **declared)
    assert (shop.state, shop.why) == ("due", "names were added")
    assert acme_middleware.status("new", **plain.options, **declared).item.names == ("n.example",)
    store = open_store(plain.options["store"])
    store.put("renewal/shop.example", b"garbage")
    assert acme_middleware.status("shop.example", **plain.options).state == "damaged"
    assert acme_middleware.status("*.example", **plain.options).state == "missing"
    with pytest.raises(ConfigurationError, match="no store is set"):
        acme_middleware.status("shop.example", chosen=options.Options())


@pytest.mark.anyio
async def test_the_loop_goes_on_while_a_certificate_is_awaited_and_its_own_threads_are_free(plain: App) -> None:
    plain.ca.fault("slow", seconds=1.0)
    beats, names = 0, set()

    async def beat() -> None:
        nonlocal beats
        while True:
            names.add(await anyio.to_thread.run_sync(lambda: threading.current_thread().name))
            await anyio.sleep(0.01)
            beats += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beat)
        await acme_middleware.aissue("shop.example", listener=lambda _: names.add("!"), **plain.options)
        tasks.cancel_scope.cancel()
    assert beats >= 10
    assert "acme-middleware" not in names


@pytest.mark.anyio
async def test_where_no_thread_can_be_started_the_call_says_so_and_the_next_one_is_done(
    plain: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_offload, "_of_this_process", None)
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name == "acme-middleware":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await acme_middleware.astatuses(**plain.options)
    assert await acme_middleware.astatuses(**plain.options) == []
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refused)
        async with anyio.create_task_group() as tasks:  # the one thread that is there does them one after the other
            for number in range(4):
                tasks.start_soon(partial(acme_middleware.aissue, f"c{number}.example", **plain.options))
    assert plain.orders() == 4


@pytest.mark.anyio
async def test_forty_awaited_at_once_are_done_by_sixteen_threads_at_most(plain: App) -> None:
    threads, busiest = set(), 0
    under_way: list[str] = []

    def listener(event: events.Event) -> None:
        nonlocal busiest
        threads.add(threading.get_ident())
        if isinstance(event, events.AccountReady):
            under_way.append(event.name)
            busiest = max(busiest, len(under_way))
        elif isinstance(event, events.Issued):
            under_way.remove(event.name)

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(partial(acme_middleware.aissue, f"c{number}.example", listener=listener, **plain.options))
    assert plain.orders() == 40
    assert 2 <= busiest <= _offload.THREADS
    assert len(threads) <= _offload.THREADS


@pytest.mark.anyio
async def test_cancelled_it_comes_back_at_once_and_leaves_no_token_no_lease_and_an_order_to_go_on_with(plain: App) -> None:
    answer, seen, site = threading.Event(), [], plain.ca.resolve["*"]

    def slow(environ: Any, start_response: Any) -> Any:
        seen.append(environ["PATH_INFO"])
        answer.wait(30)
        return site(environ, start_response)  # type: ignore[operator]

    plain.ca.resolve["*"] = slow
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(acme_middleware.aissue, "shop.example", **plain.options))
        with anyio.fail_after(20):
            while not seen:
                await anyio.sleep(0.01)
        began = time.monotonic()
        tasks.cancel_scope.cancel()
    assert time.monotonic() - began < 2
    answer.set()
    store = open_store(plain.options["store"])
    with lease(store, "shop.example", wait=20):
        assert open_challenges("memory:").key_authorization(seen[0].rpartition("/")[2]) is None
    plain.ca.resolve["*"] = site
    assert (await acme_middleware.aissue("shop.example", **plain.options)).action is Action.ISSUED
    assert plain.orders() == 1


@pytest.mark.anyio
async def test_what_was_cancelled_before_its_turn_is_never_begun(plain: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_offload, "THREADS", 1)
    monkeypatch.setattr(_offload, "_of_this_process", None)
    plain.ca.fault("slow", seconds=1.0)
    began: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            partial(acme_middleware.aissue, "first.example", listener=lambda e: began.append(e.name), **plain.options)
        )
        with anyio.fail_after(20):
            while not began:
                await anyio.sleep(0.01)
        with anyio.move_on_after(0.1):
            await acme_middleware.aissue("second.example", listener=lambda e: began.append(e.name), **plain.options)
    assert set(began) == {"first.example"}
    assert (await acme_middleware.aissue("third.example", **plain.options)).action is Action.ISSUED


ENDING = """
import asyncio, json, os, sys
from acme_middleware import aissue, events

options = json.loads(sys.argv[1])


def listener(event):
    if isinstance(event, events.Presented):
        print("presented", flush=True)


async def main():
    task = asyncio.create_task(aissue("shop.example", listener=listener, **options))
    await asyncio.to_thread(sys.stdin.readline)
    task.cancel()


asyncio.run(main())
"""


def test_a_program_that_ends_meanwhile_leaves_no_lease_that_others_would_have_to_wait_for(plain: App) -> None:
    options = {name: str(value) for name, value in plain.options.items()} | {"challenge_store": plain.options["store"]}
    answer, site = threading.Event(), AcmeMiddleware(page, store=options["store"])
    plain.ca.resolve["*"] = lambda environ, start_response: answer.wait(30) and site(environ, start_response)
    with subprocess.Popen(
        [sys.executable, "-c", ENDING, json.dumps(options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "presented\n"
        program.stdin.write("end\n")
        program.stdin.flush()
        threading.Timer(0.5, answer.set).start()
        assert program.wait(20) == 0
    tokens = plain.folder / "acme/challenges/.well-known/acme-challenge"
    assert [path.name for path in tokens.iterdir() if not path.name.startswith(".")] == []
    store = open_store(options["store"])
    assert store.get("certificate/shop.example") is None, "it went on, though nobody waited for it"
    held = store.get("lock/shop.example")
    assert held is not None
    assert json.loads(held.value)["state"] == "free"


FORKING = """
import asyncio, json, os, sys
from acme_middleware import aissue, astatus

options = json.loads(sys.argv[1])
asyncio.run(aissue("parent.example", **options))
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(asyncio.run(astatus("parent.example", **options)).state)
"""


def test_a_child_after_a_fork_has_threads_of_its_own(plain: App) -> None:
    options = {name: str(value) for name, value in plain.options.items()} | {"challenge_store": plain.options["store"]}
    plain.ca.resolve["*"] = AcmeMiddleware(page, store=options["store"])
    ended = subprocess.run(
        [sys.executable, "-c", FORKING, json.dumps(options)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "ok\n"), ended.stderr


@pytest.mark.anyio
async def test_a_thread_that_waits_for_work_keeps_nothing_of_the_work_before() -> None:
    class Result:
        pass

    seen = weakref.ref(await _offload.awaitable(Result)())
    with anyio.fail_after(10):
        while seen() is not None:
            gc.collect()  # asyncio's own futures are in circles
            await anyio.sleep(0.01)


def test_what_hands_work_on_to_a_queue_loads_neither_client_nor_store() -> None:
    script = """
import json, sys
from acme_middleware import aissue, issue, status
print(json.dumps(sorted(sys.modules)))
"""
    loaded = set(json.loads(subprocess.check_output([sys.executable, "-c", script], timeout=60)))
    assert not loaded & {
        "acme",
        "josepy",
        "requests",
        "cryptography",
        "click",
        "rich",
        "asyncio",
        "sqlalchemy",
        "publicsuffixlist",
    }
    assert not any(name.startswith(("acme_middleware.issuance", "acme_middleware.protocol")) for name in loaded)


def test_the_package_has_what_it_says_and_nothing_else() -> None:
    for name in acme_middleware.__all__:
        assert callable(getattr(acme_middleware, name))
    with pytest.raises(AttributeError, match="has no attribute 'issues'"):
        _ = acme_middleware.issues  # type: ignore[attr-defined]
    assert acme_middleware.aissue.__name__ == "aissue"
