"""Eight processes on two hosts share the work of renewing: each certificate is ordered once, and every process does some."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from subprocess import Popen
from typing import Any

import local_ports
import pytest
from pebble_lab import FULL, finish, load_pair
from postgresql_server import PostgreSQL
from redis_server import Redis
from two_hosts import Host, two_hosts

from acme_middleware import authorities
from acme_middleware.clock import now
from acme_middleware.issuance.records import CertificateRecord, RenewalRecord, certificate_key, renewal_key
from acme_middleware.issuance.renewal import record_of
from acme_middleware.local_ca import LocalCA
from acme_middleware.stores import open_store
from acme_middleware.stores.base import Store
from acme_middleware.stores.sql import SQLStore
from acme_middleware.testing.certificates import self_made

DUE = 200 if FULL else 40
ALONE = 20 if FULL else 4
"""Names that one process renews by itself, to see how fast it is."""

LOOKS_AFTER = 2.0
PROCESSES = 8
LIMIT = 600.0

APP = """
import os
from acme_middleware.wsgi import AcmeMiddleware

def nothing(environ, start_response):
    start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
    return [b""]

app = AcmeMiddleware(nothing, store=os.environ["ACME_CHALLENGE_STORE"])
"""


class Fleet:
    """Two hosts that answer for all names and may renew them, over one store and one CA."""

    def __init__(self, hosts: Sequence[Host], ca: LocalCA, machine: str, url: str, port: int) -> None:
        self.hosts, self.ca, self.port = hosts, ca, port
        self.store: Store = open_store(url)
        there = url.replace("127.0.0.1", machine)
        self.directory = f"https://{machine}:{ca.port}/directory"
        self.env = {
            "ACME_STORE": there,
            "ACME_CA": self.directory,
            "ACME_CA_BUNDLE": str(ca.ca_bundle),
            "ACME_SELF_CHECK": "skip",  # only the CA knows where the names are
        }
        for host in hosts:
            (host.folder / "app.py").write_text(APP)
            server = ["-m", "gunicorn", "--no-control-socket", "--threads", "4", "--bind", f"0.0.0.0:{port}", "app:app"]
            host.serve(sys.executable, *server, port=port, env={**os.environ, "ACME_CHALLENGE_STORE": there})

    def make_due(self, word: str, count: int) -> list[str]:
        """Save certificates that are due for renewal. The CA finds their names at one host and the other in turn."""
        names = [f"{word}-{number:03}.example" for number in range(count)]
        [authority] = authorities.find_all(self.directory)
        for number, name in enumerate(names):
            self.ca.resolve[name] = f"{self.hosts[number % 2].address}:{self.port}"
            pems = self_made(name)
            made = CertificateRecord(
                name=name,
                names=(name,),
                ca=authority.id,
                trusted=False,
                account_url=f"{self.directory}/of-another-account",
                profile="",
                key_type="ec256",
                issued_at=now() - timedelta(days=1),
                key_pem=pems.key.decode(),
                cert_pem=pems.cert.decode(),
                chain_pem=pems.chain.decode(),
                options={"ca": self.directory},
            )
            made.write(self.store, certificate_key(name))
            record = record_of(made)
            replace(record, renew_after=record.not_before).write(self.store, renewal_key(name))
        return names

    def renew(self, host: Host) -> Popen[str]:
        return host.start("renew", "--jobs", "1", "--json", "--publish-dir", "live", env=self.env)

    def orders(self) -> Counter[str]:
        """How many orders there were for each name."""
        with self.ca.state.lock:
            return Counter(identifier.value for order in self.ca.state.orders.values() for identifier in order.identifiers)


@pytest.fixture(params=[pytest.param(PostgreSQL, id="PostgreSQL"), pytest.param(Redis, id="Redis")])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    make: Callable[..., Any] = request.param
    with two_hosts(tmp_path) as (machine, hosts), make(listen="0.0.0.0") as server, local_ports.reserve() as (port,):
        if isinstance(server, PostgreSQL):
            SQLStore(server.url).make_tables()
        settings: dict[str, Any] = {"host": "0.0.0.0", "expose": True, "names": [machine]}
        with LocalCA(**settings, terms=False, validation_delay=LOOKS_AFTER, state=tmp_path / "ca") as ca:
            yield Fleet(hosts, ca, machine, server.url, port)


def run(processes: Sequence[Popen[str]], since: float) -> tuple[list[Counter[str]], float]:
    """Wait for all of them; returns how many names each action was the end of, by process, and the seconds they took."""
    ended = [finish(process, limit=LIMIT) for process in processes]
    took = time.monotonic() - since
    # Each line of what went wrong, and no other.
    assert [line for one in ended for line in one.text.splitlines() if '"error": {' in line or "{" not in line] == []
    assert [one.code for one in ended] == [0] * len(ended)
    return [Counter(json.loads(one.out.splitlines()[-1])["summary"]["counts"]) for one in ended], took


def test_eight_processes_renew_each_name_once_and_faster_than_one(
    fleet: Fleet, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = fleet.make_due("alone", ALONE)
    began = time.monotonic()
    [counts], took = run([fleet.renew(fleet.hosts[0])], began)
    assert counts == {"renewed": ALONE}
    slow = ALONE / took

    names = fleet.make_due("shared", DUE)
    began = time.monotonic()
    by_process, took = run([fleet.renew(fleet.hosts[number % 2]) for number in range(PROCESSES)], began)
    fast = DUE / took
    done = [counts["renewed"] for counts in by_process]
    with capsys.disabled():
        print(
            f"\n{request.node.callspec.id}: {DUE} names by {PROCESSES} processes on two hosts in {took:.1f} s "
            f"({', '.join(map(str, done))}), {fast:.2f} a second; one process alone {slow:.2f}: {fast / slow:.1f} times as fast"
        )

    assert fleet.orders() == Counter([*alone, *names])
    assert sum(done) == DUE
    assert min(done) > 0
    assert fast >= 3 * slow
    for name in names:
        record = RenewalRecord.read(fleet.store, renewal_key(name))
        assert record is not None
        assert record.renew_after > now()
        for host in fleet.hosts:
            current = host.folder / "live" / name / "current"
            load_pair(current)
            made = CertificateRecord.read(fleet.store, certificate_key(name))
            assert made is not None
            assert (current / "cert.pem").read_text() == made.cert_pem
