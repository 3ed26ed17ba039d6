"""
A site that renews inside of its server: a local CA that asks the server itself, a store in files, and who leads there.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pebble_lab import wait_until

from acme_middleware import clock, options
from acme_middleware.issuance.issuer import Issuer
from acme_middleware.issuance.records import RenewalRecord, renewal_key
from acme_middleware.local_ca import LocalCA
from acme_middleware.stores.base import Store, key
from acme_middleware.stores.directory import DirectoryStore

HERE = Path(__file__).resolve().parent.parent / "renewer"
TTL = 6.0


class RenewingSite:
    """
    What the server under test is told, and what can be seen of it from outside.

    Attributes:
        renewing: The arguments of Renewer.
        store: Its store.
        lease: What the leader's lease is called.
    """

    def __init__(self, ca: LocalCA, folder: Path, **how: Any) -> None:
        self.ca, self.folder, self.lease = ca, folder, "renewing everywhere"
        self.store: Store = DirectoryStore(folder / "store")
        self.given = {
            "store": f"file:{folder / 'store'}",
            "ca": ca.directory_url,
            "ca_bundle": str(ca.ca_bundle),
            "agree_tos": True,
            "self_check": "skip",
        }
        self.renewing = {**self.given, "every": 0.5, "first": 0.5, "ttl": TTL, **how}

    @property
    def env(self) -> Mapping[str, str]:
        return {"RENEWING": json.dumps(self.renewing)}

    def answered_by(self, port: int) -> None:
        """Where the CA finds all names from now on."""
        self.ca.resolve["*"] = f"127.0.0.1:{port}"

    def issue(self, *names: str) -> None:
        """Get certificates, in this process; the server answers."""
        for name in names:
            Issuer(options.read(("test", self.given))).issue([name])

    def record(self, name: str) -> RenewalRecord:
        record = RenewalRecord.read(self.store, renewal_key(name))
        assert record is not None, f"there is no record of {name}"
        return record

    def make_due(self, name: str) -> str:
        """The time for renewing has come; returns the serial number that the certificate has before."""
        record = self.record(name)
        due = replace(record, renew_after=clock.now() - timedelta(hours=1), ari=None)
        due.write(self.store, renewal_key(name), expect=record.version)
        return record.serial

    def is_renewed(self, name: str, before: str) -> bool:
        record = self.record(name)
        return record.serial != before and record.renew_after > clock.now()

    def wait_until_renewed(self, name: str, before: str, *, limit: float = 60.0) -> None:
        wait_until(lambda: self.is_renewed(name, before), f"{name} is renewed", limit=limit)

    def certificates(self) -> Counter[str]:
        """How many certificates the CA has issued, by their names."""
        with self.ca.state.lock:
            orders = [order for order in self.ca.state.orders.values() if order.certificate is not None]
            return Counter(order.identifiers[0].value for order in orders)

    def orders(self) -> Counter[str]:
        """How many orders the CA has opened, by their names."""
        with self.ca.state.lock:
            return Counter(order.identifiers[0].value for order in self.ca.state.orders.values())

    def leader(self) -> int | None:
        """The process that leads, by its lease; None while nobody does."""
        record = self.store.get(key("lock", self.lease))
        facts = json.loads(record.value) if record is not None else {}
        return int(facts["holder"]["pid"]) if facts.get("state") == "held" else None

    def wait_for_leader(self, *, other_than: int | None = None, limit: float = 30.0) -> int:
        """Wait until a living process leads."""
        wait_until(lambda: self.leader() not in (None, other_than), "a process leads", limit=limit)
        leader = self.leader()
        assert leader is not None
        return leader


@contextmanager
def renewing_site(folder: Path, **how: Any) -> Iterator[RenewingSite]:
    """A site and its CA until the end of the block; ``how``: further arguments of Renewer, and ``ca`` those of LocalCA."""
    habits = how.pop("ca", {})
    with LocalCA(**{"perspectives": 1, **habits}) as ca:
        yield RenewingSite(ca, folder, **how)


def children(pid: int) -> set[int]:
    """The processes that a process has started."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.add(int(path.parent.name))
    return found


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start
