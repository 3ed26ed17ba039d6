"""Ten hosts, or ten timers of one: all want the same certificate at the same moment, and the CA gets one order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import both_cas
import django_sites
import pytest
from background import Background, listens
from both_cas import PebbleCA
from killing import make_due
from pebble_lab import COMMAND, LIMIT, Ended, Site, environment, finish, fresh, serving, site_app

CROWD = 10

FOUND = {"issued", "issued by another process", "not due"}
"""What `issue` says of itself; who comes after all is done finds it done."""
RENEWED = {"renewed", "not due", "in progress"}
"""What `renew` says."""


class Place(Protocol):
    """Where ten processes run, over one store."""

    def start(self, verb: str, *words: str) -> subprocess.Popen[str]:
        """Start a verb."""

    def make_due(self, name: str) -> None:
        """Let the time of a certificate's renewal have come."""


class Folder:
    """A directory store."""

    def __init__(self, ca: PebbleCA, folder: Path, stack: ExitStack) -> None:
        self.site = Site(ca, folder)
        self.flags = self.site.argv()[len(COMMAND) + 1 :]
        stack.enter_context(serving(site_app(self.site.given["store"]), ca.http_port))

    def start(self, verb: str, *words: str) -> subprocess.Popen[str]:
        place = ["--store", self.site.given["store"], "--ca-bundle", self.site.given["ca_bundle"]]
        flags = self.flags if verb == "issue" else place
        return _start([*COMMAND, verb, *flags, *words], environment(), self.site.folder)

    def make_due(self, name: str) -> None:
        make_due(self.site.records(), name)


class Django:
    """The example site, with an SQLite file as its database, answering by gunicorn."""

    def __init__(self, ca: PebbleCA, folder: Path, stack: ExitStack) -> None:
        self.site = django_sites.Site(
            folder,
            settings="mysite.settings",
            MYSITE_ACME_CA=ca.directory_url,
            MYSITE_ACME_CA_BUNDLE=str(ca.ca_bundle),
            MYSITE_ACME_AGREE_TOS="yes",
            MYSITE_ACME_EMAIL="ops@example.com",
            MYSITE_ACME_SELF_CHECK_VIA=f"127.0.0.1:{ca.http_port}",
        )
        self.site.manage("migrate", "-v0")
        command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{ca.http_port}", "--no-control-socket"]
        server = Background([*command, "mysite.wsgi"], log=folder / "server.log", env=self.site.env, cwd=folder)
        stack.callback(server.stop)
        server.wait_until(lambda: listens(ca.http_port))

    def start(self, verb: str, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(django_sites.SITE / "manage.py"), "acme", verb, *words]
        return _start(command, {**os.environ, **self.site.env}, self.site.folder)

    def make_due(self, name: str) -> None:
        self.site.in_python(
            "from dataclasses import replace; from acme_middleware.stores import open_store; "
            "from acme_middleware.issuance.records import RenewalRecord, renewal_key; "
            f"store, where = open_store('django:'), renewal_key({name!r}); record = RenewalRecord.read(store, where); "
            "replace(record, renew_after=record.not_before).write(store, where)"
        )


def _start(command: list[str], env: dict[str, str], cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def ca() -> Iterator[PebbleCA]:
    with both_cas.pebble() as ca:
        yield ca


@pytest.fixture(params=[pytest.param(Folder, id="a directory"), pytest.param(Django, id="Django over SQLite")])
def place(request: pytest.FixtureRequest, ca: PebbleCA, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        make: Callable[[PebbleCA, Path, ExitStack], Place] = request.param
        yield make(ca, tmp_path, stack)


@pytest.fixture
def crowd(place: Place) -> Iterator[Callable[..., list[Ended]]]:
    """Start ten at once, and wait until all have ended."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: str) -> list[Ended]:
        started.extend(place.start(*words) for _ in range(CROWD))
        return [finish(process, limit=2 * LIMIT) for process in started]

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
            process.communicate()


def said(ended: list[Ended]) -> list[dict[str, Any]]:
    """What each printed first of all, as JSON."""
    return [json.loads(one.out.splitlines()[0]) for one in ended]


def test_ten_that_issue_a_new_name(ca: PebbleCA, crowd: Callable[..., list[Ended]]) -> None:
    name, watch = fresh("new"), ca.watch()
    ended = crowd("issue", name, "--json")
    assert [one.code for one in ended] == [0] * CROWD, [one.text for one in ended]
    assert len(watch.orders()) == 1
    assert watch.requests().count("new-order") == 1
    documents = said(ended)
    actions = Counter(document["action"] for document in documents)
    assert actions["issued"] == 1
    assert set(actions) <= FOUND
    assert len({document["serial"] for document in documents}) == 1, "all report the same certificate"


def test_ten_that_renew_a_due_name(ca: PebbleCA, place: Place, crowd: Callable[..., list[Ended]]) -> None:
    name = fresh("due")
    first = finish(place.start("issue", name, "--json"))
    assert first.code == 0, first.text
    place.make_due(name)
    watch = ca.watch()
    ended = crowd("renew", "--json")
    assert [one.code for one in ended] == [0] * CROWD, [one.text for one in ended]
    assert len(watch.orders()) == 1
    assert watch.requests().count("new-order") == 1
    assert len(watch.replacements()) == 1
    documents = said(ended)
    actions = Counter(document["action"] for document in documents)
    assert actions["renewed"] == 1
    assert set(actions) <= RENEWED
    [old] = said([first])
    assert {document["serial"] for document in documents if document["action"] != "in progress"} != {old["serial"]}
    assert all(document["serial"] != old["serial"] for document in documents if document["action"] == "not due")


def test_ten_that_renew_say_so_to_people(place: Place, crowd: Callable[..., list[Ended]]) -> None:
    name = fresh("told")
    assert finish(place.start("issue", name)).code == 0
    place.make_due(name)
    ended = crowd("renew")
    assert [one.code for one in ended] == [0] * CROWD, [one.text for one in ended]
    assert sum("1 renewed" in one.out for one in ended) == 1, [one.out for one in ended]
    assert all(one.out.strip() for one in ended)
