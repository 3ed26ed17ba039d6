"""The thread that renews: how often it looks, that there is one per process, that it ends, and what it loads."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pebble_lab import environment, fresh, serving, site_app, wait_until
from renewing_lab import RenewingSite, renewing_site, seconds

from acme_middleware.errors import ConfigurationError, StoreMisconfigured
from acme_middleware.lease import lease
from acme_middleware.renewer import Renewer, interval
from acme_middleware.renewing import renew
from acme_middleware.stores.base import key


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RenewingSite]:
    """A site that answers in this process."""
    import local_ports

    with (
        local_ports.reserve(1) as [port],
        renewing_site(tmp_path, ca={"validation_timeout": 60}) as site,
        serving(site_app(site.given["store"]), port),
    ):
        site.answered_by(port)
        yield site


@pytest.mark.parametrize(
    ("days", "hours"),
    [
        pytest.param([], 6, id="no certificate yet"),
        pytest.param([90, 64, 45], 6, id="90, 64 and 45 days"),
        pytest.param([90, 6], 1, id="one of 6 days among others"),
        pytest.param([2], 1 / 3, id="2 days"),
        pytest.param([0.001], 1 / 60, id="a lifetime of seconds, in a test"),
    ],
)
def test_how_often_it_looks_follows_from_the_shortest_lifetime(days: list[float], hours: float) -> None:
    assert interval(timedelta(days=number) for number in days) == timedelta(hours=hours)


def test_what_is_due_is_renewed_and_what_is_not_is_left_alone(site: RenewingSite) -> None:
    due, other = fresh(), fresh()
    site.issue(due, other)
    before = site.make_due(due)
    with Renewer(**site.renewing) as renewer:
        assert renewer.running
        site.wait_until_renewed(due, before)
        wait_until(lambda: site.record(due).ari, "the CA's advice has come as well")
        # Several looks later.
        asked = len(site.ca.requests())
        time.sleep(2)
        assert len(site.ca.requests()) == asked, "nothing is due, so nothing is asked"
    assert not renewer.running
    assert site.certificates() == {due: 2, other: 1}


def test_the_leader_gives_its_lease_back_and_the_next_takes_it_at_once(site: RenewingSite) -> None:
    renewer = Renewer(**site.renewing)
    renewer.start()
    wait_until(lambda: site.leader() == os.getpid(), "it leads")
    assert seconds(renewer.stop) < 2
    assert site.leader() is None
    with lease(site.store, site.lease):
        pass


def test_two_in_one_process_for_one_store_are_one(site: RenewingSite) -> None:
    def running() -> int:
        return sum(thread.name == "acme-middleware renewer" for thread in threading.enumerate())

    first, second = Renewer(**site.renewing), Renewer(**site.renewing)
    other = Renewer(**{**site.renewing, "store": f"file:{site.folder / 'other'}"})
    try:
        assert (first.start(), first.start(), second.start(), other.start()) == (True, False, False, True)
        assert running() == 2
        assert (first.running, second.running, other.running) == (True, False, True)
        second.stop()
        assert first.running, "who did not start it does not stop it"
        first.stop()
        assert second.start(), "it may take the place of one that was stopped"
        assert first.start() is False
    finally:
        assert [renewer.stop() for renewer in (first, second, other)] == [True] * 3
    assert running() == 0


def test_a_stand_by_takes_over_from_a_leader_on_another_host_when_its_lease_has_lapsed(site: RenewingSite) -> None:
    name = fresh()
    site.issue(name)
    before = site.make_due(name)
    elsewhere = {"host": "web-2", "boot": "of another machine", "namespace": "pid:[1]", "pid": 1, "started": "1"}
    facts = {"schema": 1, "state": "held", "lease": "0" * 32, "ttl": 3.0, "holder": elsewhere}
    site.store.put(key("lock", site.lease), json.dumps(facts).encode())
    with Renewer(**{**site.renewing, "ttl": 3.0, "first": 0.01}):
        start = time.monotonic()
        site.wait_until_renewed(name, before)
        assert 3 <= time.monotonic() - start < 12
    assert site.certificates() == {name: 2}


def test_where_files_are_written_each_host_has_a_leader_of_its_own(site: RenewingSite) -> None:
    """Files are each host's own: the renewal by another host is not all that is to be done."""
    name = fresh()
    site.issue(name)
    before = site.make_due(name)
    places = [site.folder / "files of web-1", site.folder / "files of web-2"]
    script = """
    import json, os, signal, socket, sys, threading
    socket.gethostname = lambda: os.environ["HOST"]
    from acme_middleware.renewer import Renewer
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    with Renewer(**json.loads(os.environ["RENEWING"])):
        over.wait()
    """
    running = []
    try:
        for host, place in zip(("web-1", "web-2"), places, strict=True):
            renewing = json.dumps({**site.renewing, "publish_dir": str(place)})
            env = environment({"RENEWING": renewing, "HOST": host})
            running.append(subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=env))
        site.wait_until_renewed(name, before)
        files = [place / name / "current" / "cert.pem" for place in places]
        wait_until(lambda: all(path.exists() for path in files), "both hosts have the files", limit=90)
        wait_until(lambda: files[0].read_bytes() == files[1].read_bytes(), "they are the same")
        for host in ("web-1", "web-2"):
            site.lease = f"renewing on {host}"
            assert site.leader() == running[("web-1", "web-2").index(host)].pid
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(30)
    assert site.certificates() == {name: 2}


def test_an_error_is_logged_and_the_next_look_comes(site: RenewingSite, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = fresh(), fresh()
    site.issue(good, bad)
    before = site.make_due(good)
    record = key("renewal", bad)
    site.store.put(record, b"{")
    raised: list[str] = []

    def listener(event: Any) -> None:
        if not raised:
            raised.append(type(event).__name__)
            raise RuntimeError("a listener with a bug")

    with caplog.at_level(logging.INFO, "acme_middleware.renewer"), Renewer(**site.renewing, listener=listener) as renewer:
        site.wait_until_renewed(good, before)
        assert renewer.running
    assert raised == ["SweepBegan"]
    [failure] = [entry for entry in caplog.records if entry.exc_info]
    assert "a listener with a bug" in str(failure.exc_info)
    [damaged] = site.store.scan(record)
    assert damaged[1].value == b"{", "what cannot be read is left as it is"


def test_a_store_that_is_down_at_the_start_is_used_when_it_is_back(site: RenewingSite) -> None:
    name = fresh()
    site.issue(name)
    before = site.make_due(name)
    folder = site.folder / "store"
    folder.rename(site.folder / "moved")
    folder.write_text("no folder")
    with Renewer(**{**site.renewing, "ttl": 1.0}) as renewer:
        time.sleep(1.5)
        assert renewer.running
        folder.unlink()
        (site.folder / "moved").rename(folder)
        site.wait_until_renewed(name, before)


@pytest.mark.parametrize("count", [1, 3], ids=["one name under way", "three names under way"])
def test_a_stop_in_the_middle_of_a_sweep_ends_soon_and_the_next_process_goes_on(site: RenewingSite, count: int) -> None:
    names = [fresh() for _ in range(count)]
    site.issue(*names)
    # So that validations have to be made, and take long.
    for account in site.ca.state.accounts.values():
        account.authorizations.clear()
    before = {name: site.make_due(name) for name in names}
    asked = site.orders()
    object.__setattr__(site.ca.settings, "validation_delay", 30.0)
    script = f"""
    import json, sys
    from acme_middleware.renewer import Renewer
    import signal, threading
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    with Renewer(**json.loads({json.dumps(json.dumps(site.renewing))})):
        over.wait()
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=environment())
    try:
        wait_until(lambda: (site.orders() - asked).total() == count, "all orders are open", limit=60)
        wait_until(lambda: len(list((site.folder / "store").glob("challenges/**/*"))) > count, "tokens are presented")
        process.send_signal(signal.SIGTERM)
        assert seconds(lambda: process.wait(60)) < 10
    finally:
        process.kill()
        process.wait()
    assert site.certificates() == dict.fromkeys(names, 1)
    object.__setattr__(site.ca.settings, "validation_delay", 0.0)
    with Renewer(**site.renewing):
        for name in names:
            site.wait_until_renewed(name, before[name], limit=90)
    assert site.certificates() == dict.fromkeys(names, 2)
    assert (site.orders() - asked) == dict.fromkeys(names, 1), "the orders of the one that was stopped"


def in_process(script: str, site: RenewingSite) -> dict[str, Any]:
    """What a program prints as JSON at its end."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment({"RENEWING": json.dumps(site.renewing)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_child_knows_that_it_does_not_run_there_and_may_start_its_own(site: RenewingSite) -> None:
    script = """
    import json, os, threading, time, warnings
    warnings.simplefilter("ignore")  # of forks where threads are
    from acme_middleware.renewer import Renewer
    renewer = Renewer(**json.loads(os.environ["RENEWING"]))
    seen = {"started": renewer.start()}
    out, into = os.pipe()
    if os.fork() == 0:
        child = {"inherited": renewer.running, "stopped": renewer.stop(), "started": renewer.start()}
        child["running"] = renewer.running
        child["ended"] = renewer.stop()
        os.write(into, json.dumps(child).encode())
        os._exit(0)
    seen["child"] = json.loads(os.read(out, 1000))
    os.wait()
    seen["running"] = renewer.running
    seen["ended"] = renewer.stop()
    print(json.dumps(seen))
    """
    assert in_process(script, site) == {
        "started": True,
        "child": {"inherited": False, "stopped": True, "started": True, "running": True, "ended": True},
        "running": True,
        "ended": True,
    }


HEAVY = ("acme", "josepy", "requests", "cryptography", "click", "rich")


def test_neither_a_stand_by_nor_a_leader_with_nothing_to_do_loads_the_acme_client(site: RenewingSite) -> None:
    name = fresh()
    site.issue(name)
    script = f"""
    import json, os, sys, time
    from acme_middleware.renewer import Renewer
    from acme_middleware.lease import lease
    from acme_middleware.stores import open_store
    given = json.loads(os.environ["RENEWING"])
    renewer, store = Renewer(**given), open_store(given["store"])

    def loaded():
        return sorted({{name.partition(".")[0] for name in sys.modules}} & set({HEAVY!r}))

    with lease(store, {site.lease!r}):
        renewer.start()
        time.sleep(1.5)
        seen = {{"stand-by": loaded(), "sweep": "acme_middleware.issuance.sweep" in sys.modules}}
    while not list(store.scan("sweep/")):
        time.sleep(0.05)
    time.sleep(1)
    seen["leader"] = loaded()
    renewer.stop()
    print(json.dumps(seen))
    """
    assert in_process(script, site) == {"stand-by": [], "sweep": False, "leader": []}


def test_importing_starts_nothing() -> None:
    script = """
    import threading
    import acme_middleware.asgi_renewal, acme_middleware.gunicorn, acme_middleware.renewer, acme_middleware.renewing
    import starlette_acme_middleware.renewal, tornado_acme_middleware.renewal, flask_acme_middleware.renewal
    import flask_acme_middleware.gunicorn, django_acme_middleware.gunicorn
    assert threading.active_count() == 1
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment(), timeout=60, check=False)
    assert done.returncode == 0


def test_who_only_answers_loads_nothing_of_it() -> None:
    script = """
    import sys
    import acme_middleware.asgi, acme_middleware.wsgi, aiohttp_acme_middleware, django_acme_middleware.middleware
    import flask_acme_middleware, starlette_acme_middleware, tornado_acme_middleware
    assert not {name for name in sys.modules if "renew" in name and "acme_middleware" in name}
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment(), timeout=60, check=False)
    assert done.returncode == 0


def test_wrong_options_are_refused_when_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acme_middleware.options.CONFIG_FILE", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigurationError, match="no store is set"):
        Renewer()
    with pytest.raises(ConfigurationError, match=r"there is no option stor; did you mean store\?"):
        Renewer(stor="file:state")
    with pytest.raises(StoreMisconfigured, match="there is no store for nowhere:"):
        Renewer(store="nowhere:state")
    with pytest.raises(ConfigurationError, match="every is 0"):
        Renewer(store="file:state", every=0)
    monkeypatch.setenv("ACME_STORE", f"file:{tmp_path}/state")
    assert Renewer().options.store == f"file:{tmp_path}/state"


def test_the_first_looks_of_many_workers_are_spread(site: RenewingSite, monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[float] = []

    def note(self: Renewer, event: threading.Event) -> None:
        class Noting(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                starts.append(timeout or 0)
                return True

        run(self, Noting())

    run: Callable[[Renewer, threading.Event], None] = Renewer._run
    for _ in range(50):
        note(Renewer(**{**site.renewing, "first": 60}), threading.Event())
    assert len(starts) == 50
    assert all(0 <= start <= 60 for start in starts)
    assert max(starts) - min(starts) > 30


def test_a_function_call_renews_once_and_says_what_became_of_each(site: RenewingSite) -> None:
    due, other = fresh(), fresh()
    site.issue(due, other)
    site.make_due(due)
    results = {result.name: result.action for result in renew(**site.given)}
    assert results == {due: "renewed", other: "not due"}
    assert {result.action for result in renew(**site.given)} == {"not due"}
    assert [result.action for result in renew(**site.given, names=[other], force=True)] == ["renewed"]
    assert site.certificates() == {due: 2, other: 2}
