"""
The server of the store is killed at each step of an issuance: nothing that was saved is lost, and the next run goes on.

Where the CA still has the order of the run that failed, the next one completes that very order.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from mariadb_server import MariaDB
from pebble_lab import FULL, app_404, load_pair, wait_until
from postgresql_server import PostgreSQL
from redis_server import Redis
from struck_runs import Ended, Strike, issue

from acme_middleware.issuance.records import (
    CertificateRecord,
    OrderRecord,
    RenewalRecord,
    certificate_key,
    order_key,
    renewal_key,
)
from acme_middleware.local_ca import LocalCA
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.sql import SQLStore
from acme_middleware.wsgi import AcmeMiddleware

ENGINES = [pytest.param(kind, id=kind.__name__) for kind in (PostgreSQL, MariaDB, Redis)]

ESSENTIAL = {"put account", "put order", "present", "remove", "put certificate", "put renewal", "delete order"}
"""The writes that make up an issuance; at full scale those of the trials, leases and counts before and after, too."""

LOST_ANSWERS = {"put order", "put certificate"}
"""Where the answer is lost after the write was done, too; at full scale everywhere."""


class Lab:
    """A server, a site that answers from it, and a CA that finds every name there."""

    def __init__(self, server: Any, ca: LocalCA, folder: Path) -> None:
        self.server, self.ca, self.live = server, ca, folder / "live"
        self.given = {"ca": ca.directory_url, "ca_bundle": str(ca.ca_bundle), "self_check": "skip", "publish_dir": self.live}
        self.begin()

    def begin(self) -> None:
        """Begin with an empty store."""
        self.url = self.server.new_database()
        if not isinstance(self.server, Redis):
            SQLStore(self.url).make_tables()
        self.store, self.challenges = open_store(self.url), open_challenges(self.url)
        self.site = AcmeMiddleware(app_404, store=open_challenges(self.url))
        self.ca.resolve["*"] = self.site

    def issue(self, name: str, **strike: Any) -> Ended:
        # A server that does not come back while a run waits for it need not be waited for as long as on a real site.
        return issue(self.url, self.given, name, **{"patience": 1.0, **strike})

    def restart(self) -> None:
        """Start the server again, and wait until the site has seen that: for a second after a failure it asks for nothing."""
        self.server.restart()
        wait_until(self._answers, "the site answers again")

    def _answers(self) -> bool:
        said: list[str] = []
        environ: dict[str, Any] = {"PATH_INFO": "/.well-known/acme-challenge/unknown"}
        setup_testing_defaults(environ)
        self.site(environ, lambda status, *_: said.append(status))  # type: ignore[arg-type, return-value]
        return said == ["404 Not Found"]

    def make_due(self, name: str) -> None:
        record = RenewalRecord.read(self.store, renewal_key(name))
        assert record is not None
        replace(record, renew_after=record.not_before).write(self.store, renewal_key(name))

    def certificate(self, name: str) -> CertificateRecord | None:
        return CertificateRecord.read(self.store, certificate_key(name))

    def orders(self, name: str) -> list[Any]:
        with self.ca.state.lock:
            return [order for order in self.ca.state.orders.values() if name in {entry.value for entry in order.identifiers}]

    def tokens(self) -> list[str]:
        """The tokens of all that the CA was ever asked which are still answered for."""
        with self.ca.state.lock:
            known = [
                challenge.token
                for authorization in self.ca.state.authorizations.values()
                for challenge in authorization.challenges
            ]
        return [token for token in known if self.challenges.key_authorization(token) is not None]


@pytest.fixture(params=ENGINES)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    make: Callable[[], Any] = request.param
    with make() as server, LocalCA(terms=False, state=tmp_path / "ca", authz_reuse=False) as ca:
        yield Lab(server, ca, tmp_path)


def strikes(writes: list[str], *, first: bool) -> Iterator[Strike]:
    """The moments to strike at in a run that writes this: in the first run those of the account, in any other the rest."""
    seen = Counter[str]()
    for number, label in enumerate(writes):
        seen[label] += 1
        if (label == "put account") != first:
            continue
        of_a_trial = label in ("present", "remove") and seen[label] < writes.count(label)
        if FULL or (label in ESSENTIAL and not of_a_trial):
            yield Strike(number)
            if FULL or label in LOST_ANSWERS:
                yield Strike(number, after=True)


def test_a_certificate_survives_the_death_of_the_server_at_any_step(
    lab: Lab, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    struck, second_orders = Counter[str](), Counter[str]()
    slowest = 0.0
    for first in (True, False):
        whole = lab.issue(f"whole-{first}.example".lower())
        assert whole.code == 0, whole.text
        for strike in strikes(whole.writes, first=first):
            if first:
                lab.begin()  # the account is made once more
            for renewal in (False, True) if FULL and not first else (False,):
                name = f"struck-{struck.total():03}.example"
                if renewal:
                    assert lab.issue(name).code == 0
                    lab.make_due(name)
                label, took, again = strike_once(lab, name, strike)
                struck[label] += 1
                second_orders[label] += again
                slowest = max(slowest, took)
    with capsys.disabled():
        print(f"\n{request.node.callspec.id}: {struck.total()} kills, slowest next run {slowest:.1f} s")
        for label, times in struck.items():
            print(f"  {times:3} {label}" + (f", {second_orders[label]} with a second order" if second_orders[label] else ""))
    assert {label.partition(" ")[2] for label in struck} >= ESSENTIAL


def test_a_server_that_is_restarted_costs_no_order(lab: Lab) -> None:
    """Just then when the CA has opened an order, and nobody has written down where it is."""
    assert lab.issue("first.example").code == 0  # which makes the account
    usual = lab.issue("second.example")
    assert usual.code == 0, usual.text
    strike, dead = Strike(usual.writes.index("put order")), threading.Event()

    def struck() -> None:
        lab.server.kill()
        dead.set()

    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(lab.issue, "new.example", strike=strike, struck=struck, patience=None)
        assert dead.wait(60)
        lab.server.restart()  # in this thread: a server ends with the one that has started it
        run = running.result()
    assert run.code == 0, run
    assert len(lab.orders("new.example")) == 1
    assert lab.certificate("new.example") is not None
    load_pair(lab.live / "new.example" / "current")


def strike_once(lab: Lab, name: str, strike: Strike) -> tuple[str, float, int]:
    """Kill the server once, start it again, run again and look; returns the moment, the seconds, and the orders too many."""
    before, placed_before = lab.certificate(name), len(lab.orders(name))
    killed = lab.issue(name, strike=strike, struck=lab.server.kill)
    assert len(killed.writes) > strike.write, f"the moment never came: {killed}"
    moment = f"{'after' if strike.after else 'before'} {killed.writes[strike.write]}"
    about = f"{name}, the server killed {moment}: {killed}"
    # A run that could do without what was lost has ended well; any other says that it may be tried again.
    assert killed.code in (0, 75) or "ValidationFailed" in killed.text, about

    lab.restart()
    saved, order = lab.certificate(name), OrderRecord.read(lab.store, order_key(name))
    placed = lab.orders(name)[placed_before:]
    known = order is not None or (saved is not None and (before is None or saved.version != before.version))
    assert before is None or saved is not None, about
    began = time.monotonic()
    next_run = lab.issue(name)
    took = time.monotonic() - began
    about += f"; the next: {next_run}"
    assert next_run.code == 0, about

    now = lab.certificate(name)
    assert now is not None, about
    if saved is not None and (before is None or saved.version != before.version):
        assert now.cert_pem == saved.cert_pem, about  # it was saved, so it is the one
    else:
        assert before is None or now.cert_pem != before.cert_pem, about
    current = lab.live / name / "current"
    load_pair(current)
    assert (current / "cert.pem").read_text() == now.cert_pem, about
    orders = lab.orders(name)[placed_before:]
    dead = [entry for entry in placed if entry.status == "invalid"]
    # One order does, unless the CA has given that one up, or nobody could write down where it is.
    assert len(orders) == 1 or dead or not known, f"{len(orders)} orders: {about}"
    assert len(orders) <= 2, about
    assert now.order_url.endswith(f"/{orders[-1].id}"), about
    assert lab.tokens() == [], about
    return moment, took, len(orders) - 1
