"""Ctrl-C and SIGTERM: the command ends, leaves no token, and the next one goes on with the same order."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from both_cas import CA
from pebble_lab import Site, finish, fresh, load_pair, serving, site_app, wait_until

SIGNALS = [
    pytest.param(signal.SIGINT, 130, id="Ctrl-C"),
    pytest.param(signal.SIGTERM, 143, id="SIGTERM"),
]


class Gate:
    """A site that holds every fetch of a token until it is opened, of the CA or of the self-check."""

    def __init__(self, site: Site, *, holds: str) -> None:
        self.app, self.holds, self.site = site_app(site.given["store"]), holds, site
        self.held, self.open = threading.Event(), threading.Event()
        self.token = ""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        who = "self-check" if "self-check" in environ.get("HTTP_USER_AGENT", "") else "CA"
        # A late fetch for the test before this one may come to this port as well: its token is not this site's.
        token = environ["PATH_INFO"].rpartition("/")[2]
        if who == self.holds and (self.held.is_set() or token in self.site.tokens()):
            self.token = token
            self.held.set()
            self.open.wait(20)
        return self.app(environ, start_response)


@contextmanager
def gated(site: Site, holds: str) -> Iterator[Gate]:
    gate = Gate(site, holds=holds)
    with serving(gate, site.ca.http_port):
        try:
            yield gate
        finally:
            gate.open.set()


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_interrupted_before_the_ca_is_told(ca: CA, make_site: Callable[..., Site], number: signal.Signals, code: int) -> None:
    site, name = make_site(ca, answers=False), fresh()
    with gated(site, "self-check") as gate:
        process = site.start(name)
        wait_until(gate.held.is_set, "a self-check")
        assert len(site.tokens()) == 2  # the token and its expiry
        process.send_signal(number)
        gate.open.set()
        ended = finish(process, limit=20)
        assert ended.code == code, ended.text
        assert ended.err.startswith("error: interrupted")
        assert "the same command goes on" in ended.err
        assert "Traceback" not in ended.text
        assert site.tokens() == []
        assert site.requests("challenge") == []
        assert not site.current(name).exists()
        successor = site.run(name)
    assert successor.code == 0, successor.text
    assert "begun by an earlier run" in successor.out
    assert len(site.orders()) == 1
    load_pair(site.current(name))
    assert site.tokens() == []


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_interrupted_while_the_ca_validates(ca: CA, make_site: Callable[..., Site], number: signal.Signals, code: int) -> None:
    site, name = make_site(ca, answers=False), fresh()
    with gated(site, "CA") as gate:
        process = site.start(name)
        wait_until(gate.held.is_set, "a fetch by the CA")
        process.send_signal(number)
        ended = finish(process, limit=20)
        assert ended.code == code, ended.text
        assert site.tokens() == []
        # The next run presents the token again, and does not tell the CA a second time to look while it still looks.
        successor = site.start(name)
        # Not just any: whether a token can be presented is tried with another one.
        wait_until(lambda: gate.token in site.tokens(), "the token, presented again")
        gate.open.set()
        went_on = finish(successor)
    assert went_on.code == 0, went_on.text
    assert "begun by an earlier run" in went_on.out
    assert len(site.orders()) == 1
    assert site.tokens() == []
    load_pair(site.current(name))


def test_token_that_the_ca_missed_costs_one_order_and_no_thought(ca: CA, make_site: Callable[..., Site]) -> None:
    site, name = make_site(ca, answers=False), fresh()
    with gated(site, "CA") as gate:
        process = site.start(name)
        wait_until(gate.held.is_set, "a fetch by the CA")
        process.send_signal(signal.SIGINT)
        assert finish(process).code == 130
        gate.open.set()
        wait_until(site.watch.failed_validations, "the CA's verdict")
        ended = site.run(name)
    assert ended.code == 0, ended.text
    assert "begun by an earlier run" not in ended.out
    assert len(site.orders()) == 2


def test_interrupted_renewal_leaves_the_certificate_in_use(ca: CA, make_site: Callable[..., Site]) -> None:
    site, name = make_site(ca, answers=False), fresh()
    with serving(site_app(site.given["store"]), ca.http_port):
        site.issue(name)
    before = site.snapshot()
    with gated(site, "CA") as gate:
        # Another name in its place: one that the CA has validated before it may take for valid.
        process = site.start(fresh(), "--name", name, "--drop-names", "--json")
        wait_until(gate.held.is_set, "a fetch by the CA")
        process.send_signal(signal.SIGINT)
        ended = finish(process)
    assert (ended.code, ended.err) == (130, "")
    assert json.loads(ended.out)["error"]["exit_code"] == 130
    assert site.snapshot() == before
    load_pair(site.current(name))


def test_interrupted_while_it_waits_for_another(ca: CA, make_site: Callable[..., Site]) -> None:
    site, name = make_site(ca, answers=False), fresh()
    with gated(site, "CA") as gate:
        holder = site.start(name)
        wait_until(gate.held.is_set, "a fetch by the CA")
        waiting = site.start(name)
        assert waiting.stdout is not None
        assert "waiting" in waiting.stdout.readline()
        waiting.send_signal(signal.SIGINT)
        assert finish(waiting).code == 130
        assert len(site.tokens()) == 2  # the holder's
        gate.open.set()
        ended = finish(holder)
    assert ended.code == 0, ended.text
    assert len(site.orders()) == 1
    assert site.tokens() == []
