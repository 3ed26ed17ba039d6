"""Renewal inside of real servers: it renews, in the processes that serve and only there, and ends with them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from django_sites import Site as DjangoSite
from pebble_lab import fresh, wait_until
from renewing_lab import HERE, TTL, RenewingSite, children, renewing_site, seconds
from serving import PROJECT, Server, get, gunicorn, serve, uvicorn

IN_TIME = 8.0
"""Seconds in which a server that is told to ends: the five that renewal has, and its own."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RenewingSite]:
    with renewing_site(tmp_path, ca={"validation_timeout": 60}) as site:
        yield site


def gunicorn_plain(site: RenewingSite, *options: str) -> AbstractContextManager[Server]:
    conf = str(HERE / "gunicorn_renewing.py")
    return gunicorn("renewing_apps:plain", "--chdir", str(HERE), "-c", conf, *options, env=site.env)


def uvicorn_factory(name: str) -> Callable[..., AbstractContextManager[Server]]:
    def start(site: RenewingSite, *options: str) -> AbstractContextManager[Server]:
        return uvicorn(f"renewing_apps:{name}", "--factory", "--app-dir", str(HERE), *options, env=site.env)

    return start


def hypercorn_trio(site: RenewingSite) -> AbstractContextManager[Server]:
    command = [sys.executable, "-m", "hypercorn", "renewing_apps:without_lifespan()", "-k", "trio", "--bind", "fd://{fd}"]
    env = {**site.env, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "integrations"), str(HERE)])}
    return serve([*command, "--graceful-timeout", "3"], env=env)


def granian(site: RenewingSite) -> AbstractContextManager[Server]:
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--factory", "--port", "{port}"]
    paths = os.pathsep.join([str(PROJECT), str(PROJECT / "integrations"), str(HERE)])
    env = {**site.env, "PYTHONPATH": paths}
    return serve([*command, "renewing_apps:without_lifespan"], env=env, inherit=False)


def gunicorn_flask(site: RenewingSite) -> AbstractContextManager[Server]:
    conf = str(HERE / "gunicorn_flask.py")
    return gunicorn("flask_renewing:create_app()", "--chdir", str(HERE), "-c", conf, env=site.env)


def tornado(site: RenewingSite, **env: str) -> AbstractContextManager[Server]:
    return serve([sys.executable, str(HERE / "run_tornado.py"), "{fd}"], env={**site.env, **env})


SERVERS = {
    "gunicorn, two workers": lambda site: gunicorn_plain(site, "-w", "2"),
    "gunicorn, preloaded": lambda site: gunicorn_plain(site, "-w", "2", "--preload"),
    "gunicorn, threads": lambda site: gunicorn_plain(site, "--threads", "4"),
    "gunicorn, Flask": gunicorn_flask,
    "uvicorn, Starlette around a lifespan": uvicorn_factory("starlette"),
    "uvicorn, Starlette without one": uvicorn_factory("starlette_alone"),
    "uvicorn, two workers": lambda site: uvicorn_factory("starlette")(site, "--workers", "2"),
    "uvicorn, a wrapped app with a lifespan": uvicorn_factory("wrapped"),
    "uvicorn, a wrapped app without one": uvicorn_factory("without_lifespan"),
    "hypercorn on trio, a wrapped app without one": hypercorn_trio,
    "granian, a wrapped app without one": granian,
    "Tornado, two processes": tornado,
    "aiohttp": lambda site: serve([sys.executable, str(HERE / "run_aiohttp_renewing.py"), "{fd}"], env=site.env),
}


def takers(server: Server) -> list[int]:
    """The processes that take part in renewing, in the order in which they began."""
    return [int(pid) for pid in re.findall(r"process (\d+) takes part", server.log())]


def end(server: Server) -> float:
    """Stop a server as an operator does; returns how long that took."""
    if "run_tornado" in str(server.process.args):  # its parent only waits for its children
        own = children(server.process.pid)
        return seconds(lambda: [[os.kill(pid, signal.SIGTERM) for pid in own], server.process.wait(60)])
    server.process.send_signal(signal.SIGTERM)
    return seconds(lambda: server.process.wait(60))


@pytest.mark.parametrize("name", SERVERS)
def test_it_renews_in_each_process_that_serves_and_gives_the_lease_back(name: str, site: RenewingSite) -> None:
    with SERVERS[name](site) as server:
        site.answered_by(server.port)
        certificate = fresh()
        site.issue(certificate)
        before = site.make_due(certificate)
        site.wait_until_renewed(certificate, before)
        count = 2 if "two" in name or "preloaded" in name else 1
        wait_until(lambda: len(takers(server)) == count, "all serving processes take part")
        serving = children(server.process.pid) if count > 1 or "gunicorn" in name else {server.process.pid}
        if "hypercorn" in name or "granian" in name:
            serving = {*children(server.process.pid), server.process.pid}
        assert set(takers(server)) <= serving, server.log()
        assert len(set(takers(server))) == count
        assert site.leader() in takers(server)
        took = end(server)
        log = server.log()
    assert took < IN_TIME, log
    assert site.leader() is None, "the lease was given back"
    assert site.certificates() == {certificate: 2}
    assert "Traceback" not in log
    assert " ERROR " not in log


@pytest.mark.parametrize("name", ["gunicorn, two workers", "uvicorn, Starlette around a lifespan", "Tornado, two processes"])
def test_a_server_that_is_stopped_in_the_middle_of_renewing_ends_in_time(name: str, site: RenewingSite) -> None:
    names = [fresh() for _ in range(3)]
    with SERVERS[name](site) as server:
        site.answered_by(server.port)
        site.issue(*names)
        for account in site.ca.state.accounts.values():
            account.authorizations.clear()  # else nothing would have to be validated again
        object.__setattr__(site.ca.settings, "validation_delay", 30.0)
        asked = site.orders()
        for certificate in names:
            site.make_due(certificate)
        # One or all three: a look may have come when only the first was due.
        wait_until(lambda: (site.orders() - asked).total() > 0, "orders are under way", limit=60)
        took = end(server)
        log = server.log()
    # gunicorn's workers have their own time to end, 30 s: what is left then is killed.
    assert took < IN_TIME + 2, log
    assert site.certificates() == dict.fromkeys(names, 1)
    assert "Traceback" not in log


def test_the_apps_own_lifespan_is_around_renewal_and_its_state_comes_through(site: RenewingSite) -> None:
    for name in ("starlette", "wrapped"):
        with uvicorn_factory(name)(site) as server:
            assert get(server, "/").body.split(b" ", 1)[1] == b"from the lifespan"
            wait_until(lambda: takers(server), "it takes part")
            end(server)
            words = re.findall(r"own lifespan begins|takes part|own lifespan ends", server.log())
        assert words == ["own lifespan begins", "takes part", "own lifespan ends"]


@pytest.mark.parametrize("name", ["gunicorn, two workers", "uvicorn, a wrapped app without one"])
def test_with_a_wrong_option_the_server_does_not_start_and_says_why(name: str, site: RenewingSite) -> None:
    site.renewing["every"] = -1
    with pytest.raises(RuntimeError, match=r"every is -1; it must be a positive number"), SERVERS[name](site):
        raise AssertionError("it serves")


def test_an_app_that_fails_to_start_fails_as_without_the_wrapper(site: RenewingSite) -> None:
    with pytest.raises(RuntimeError, match=r"no database") as caught, uvicorn_factory("failing")(site):
        raise AssertionError("it serves")
    assert "Application startup failed" in str(caught.value)
    assert "takes part" not in str(caught.value)


def test_under_uvicorns_autoreload_it_runs_once_in_the_serving_child(site: RenewingSite) -> None:
    code = site.folder / "code"
    code.mkdir()
    shutil.copy(HERE / "renewing_apps.py", code / "reloaded_app.py")
    options = ["--factory", "--reload", "--app-dir", str(code), "--reload-dir", str(code)]
    with uvicorn("reloaded_app:starlette", *options, env=site.env) as server:
        reloaded_once(site, server, (code / "reloaded_app.py").touch)
        assert server.process.pid not in takers(server), "not in the parent, which only watches"
        assert end(server) < IN_TIME


def test_under_runserver_it_runs_once_in_the_serving_child(site: RenewingSite) -> None:
    django = django_site(site)
    command = [sys.executable, "manage.py", "runserver", "127.0.0.1:{port}"]
    shutil.copy(PROJECT / "example_projects/django_site/manage.py", site.folder / "manage.py")
    paths = os.pathsep.join([django.env["PYTHONPATH"], str(site.folder)])
    env = {**django.env, "PYTHONPATH": paths, "RENEW_IN_WSGI": "1", "MYSITE_DEBUG": "1"}
    with in_folder(site.folder, command, env) as server:
        reloaded_once(site, server, (HERE / "django_renewing.py").touch)
        assert server.process.pid not in takers(server), "not in the parent, which only watches"


def test_under_tornados_autoreload_it_goes_on_in_the_program_that_takes_the_place(site: RenewingSite) -> None:
    watched = site.folder / "watched"
    watched.write_text("")
    with tornado(site, AUTORELOAD=str(watched)) as server:
        leader = site.wait_for_leader()
        assert leader == server.process.pid

        def again() -> bool:
            return re.findall(r"process (\d+) leads", server.log()) == [str(leader)] * 2

        wait_until(lambda: "watches" in server.log(), "the server watches its files")
        os.utime(watched, (1, 1))
        # The process is the same, so that nobody can see that the leader is gone: it must have given the lease back.
        assert seconds(lambda: wait_until(again, "the new program leads")) < TTL
        assert takers(server) == [leader] * 2


def reloaded_once(site: RenewingSite, server: Server, touch: Callable[[], None]) -> None:
    """Reload; before and after it one process takes part, the old one is gone, and the new one need not wait for it."""
    first = site.wait_for_leader()
    assert takers(server) == [first]

    def noticed() -> bool:
        touch()  # what changes before the server has looked at its files for the first time is no change to it
        return "eloading" in server.log()

    wait_until(noticed, "the server sees that its files change")
    second = site.wait_for_leader(other_than=first, limit=30)
    assert takers(server) == [first, second]
    assert not Path(f"/proc/{first}").exists()
    certificate = fresh()
    site.answered_by(server.port)
    wait_until(lambda: answers(server), "the new process serves")
    site.issue(certificate)
    site.wait_until_renewed(certificate, site.make_due(certificate))
    assert takers(server) == [first, second]
    assert site.certificates() == {certificate: 2}


def answers(server: Server) -> bool:
    try:
        return get(server, "/").status > 0
    except OSError:
        return False


def django_site(site: RenewingSite, **variables: str) -> DjangoSite:
    """The Django site over the store of ``site``; its database is made."""
    django = DjangoSite(
        site.folder,
        "django_renewing",
        MYSITE_ACME_CA=site.ca.directory_url,
        MYSITE_ACME_CA_BUNDLE=str(site.ca.ca_bundle),
        MYSITE_ACME_AGREE_TOS="yes",
        MYSITE_ACME_SELF_CHECK="skip",
        MYSITE_ACME_STORE=str(site.given["store"]),
        **variables,
    )
    site.lease = f"renewing on {socket.gethostname()}"  # its settings have PUBLISH_DIR
    django.env["PYTHONPATH"] += os.pathsep + str(HERE)
    django.manage("migrate", "-v0")
    return django


def in_folder(folder: Path, command: list[str], env: dict[str, str]) -> AbstractContextManager[Server]:
    """A server that takes no socket, run in a folder."""
    return serve(["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command], env=env, inherit=False)


@pytest.mark.parametrize("name", ["uvicorn, two workers", "gunicorn, two workers"])
def test_a_django_site_renews_from_its_own_database(name: str, site: RenewingSite) -> None:
    django = django_site(site)
    django.env["MYSITE_ACME_STORE"] = "django:"
    if "uvicorn" in name:
        server_of = django.asgi("--workers", "2", application="django_renewing:asgi")
    else:
        server_of = django.wsgi("-w", "2", "-c", str(HERE / "gunicorn_django.py"), application="django_renewing:wsgi")
    with server_of as server:
        site.answered_by(server.port)
        certificate = fresh()
        django.manage("issuecert", certificate)
        wait_until(lambda: len(set(takers(server))) == 2, "both workers take part")
        django.in_python(
            "from dataclasses import replace; from datetime import timedelta; "
            "from acme_middleware import clock; from acme_middleware.stores import open_store; "
            "from acme_middleware.issuance.records import RenewalRecord, renewal_key; "
            f"store, where = open_store('django:'), renewal_key('{certificate}'); record = RenewalRecord.read(store, where); "
            "replace(record, renew_after=clock.now() - timedelta(hours=1), ari=None).write(store, where)"
        )
        wait_until(lambda: site.certificates() == {certificate: 2}, "it is renewed", limit=60)
        status = django.manage("acme", "status", check=False)
        assert end(server) < IN_TIME
        log = server.log()
    assert certificate in status.stdout
    assert "Traceback" not in log
    assert " ERROR " not in log
