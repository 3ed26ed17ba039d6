"""
The two CAs that our protocol tests run over, Pebble and the local CA, as those tests see them: one small interface.

What one of them cannot be set up for is not in it. What they word differently is an attribute.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import local_ports
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pebble_server import Pebble

from acme_middleware.local_ca import LocalCA

LIFETIMES = {"default": timedelta(days=90), "shortlived": timedelta(days=6)}
KINDS = ("Pebble", "the local CA")
"""As the ids of tests spell them."""


class Watch(Protocol):
    """What a CA has been asked and has done since the watch began."""

    def heard(self) -> bool:
        """Whether anything was asked; cheap enough to be called a thousand times a second."""

    def requests(self) -> list[str]:
        """The kind of each request, as the local CA names its resources: "new-order", "challenge"."""

    def orders(self) -> list[str]:
        """The ids of the orders that were opened."""

    def accounts(self) -> int:
        """How many accounts were made."""

    def replacements(self) -> list[tuple[str, str]]:
        """The orders that said what they replace: (new order, the order of the old certificate)."""

    def failed_validations(self) -> int:
        """How many authorizations became invalid."""


class CA(Protocol):
    """
    A CA that runs.

    Attributes:
        directory_url: The ACME directory.
        ca_bundle: A PEM file with the root of the directory's own HTTPS.
        http_port: The port of 127.0.0.1 where it finds every name. It is reserved, and nothing listens on it yet.
        terms: The URL of its terms of service.
        agent: In the User-Agent of its fetches.
        says_unreachable: How it words that nobody listens at the site.
        says_wrong_body: How it words that the site answered "hello.world" in place of a key authorization.
    """

    directory_url: str
    ca_bundle: Path
    http_port: int
    terms: str
    agent: str
    says_unreachable: str
    says_wrong_body: tuple[str, ...]

    def watch(self) -> Watch:
        """Begin to watch."""

    def roots(self) -> list[str]:
        """The roots of its chains in PEM, that of the default chain first."""

    def intermediate(self) -> str:
        """The PEM of what signs certificates."""

    def refusing(self) -> AbstractContextManager[str]:
        """Refuse a name with ``rejectedIdentifier``, until the end of the block; yields the name."""

    def set_renewal_window(self, leaf: x509.Certificate, start: datetime, end: datetime) -> None:
        """Say when to renew a certificate (RFC 9773)."""

    def revoked_for(self, leaf: x509.Certificate) -> int | None:
        """The code of the reason for which a certificate is revoked, None if it is not."""


@contextmanager
def start(kind: str, **habits: Any) -> Iterator[CA]:
    """
    Run a CA until the end of the block.

    Args:
        kind: One of KINDS.
        habits: ``eab``, ``alternates``, ``chain_length``, ``authz_reuse``; and what that CA alone has, as it calls it.
    """
    if kind == "Pebble":
        with pebble(**habits) as ca:
            yield ca
    else:
        with local(**habits) as ca:
            yield ca


@contextmanager
def pebble(*, alternates: int = 0, authz_reuse: bool = False, **habits: Any) -> Iterator[PebbleCA]:
    """A Pebble; ``habits`` as its class has them."""
    profiles = {name: int(span.total_seconds()) for name, span in LIFETIMES.items()}
    habits = {"profiles": profiles, "domain_blocklist": (PebbleCA.refused,), **habits}
    with Pebble(alternate_roots=alternates, authz_reuse=100 if authz_reuse else 0, **habits) as server:
        yield PebbleCA(server)


@contextmanager
def local(*, authz_reuse: bool = False, **habits: Any) -> Iterator[LocalLab]:
    """A local CA; ``habits`` as its class has them. Faults that nobody has met fail at the end of the block."""
    with ExitStack() as stack:
        [port] = stack.enter_context(local_ports.reserve(1))
        habits = {"profiles": LIFETIMES, "resolve": {"*": f"127.0.0.1:{port}"}, "authz_reuse": authz_reuse, **habits}
        ca = stack.enter_context(LocalCA(**habits))
        yield LocalLab(ca, port)


class PebbleCA:
    """A Pebble, read by its log."""

    refused = "blocked.example"
    terms = "data:text/plain,Do%20what%20thou%20wilt"
    agent = "LetsEncrypt"
    says_unreachable = "connection refused"
    says_wrong_body: tuple[str, ...] = (
        "The key authorization file from the server did not match this challenge",
        '!= "hello.world"',
    )

    def __init__(self, server: Pebble) -> None:
        self.server = server
        self.directory_url, self.ca_bundle, self.http_port = server.directory_url, server.ca_bundle, server.http_port

    def watch(self) -> Watch:
        return PebbleWatch(self.server.log)

    def roots(self) -> list[str]:
        return self.server.roots()

    def intermediate(self) -> str:
        return self.server.intermediate()

    @contextmanager
    def refusing(self) -> Iterator[str]:
        yield f"www.{self.refused}"

    def set_renewal_window(self, leaf: x509.Certificate, start: datetime, end: datetime) -> None:
        window = {"suggestedWindow": {"start": start.isoformat(), "end": end.isoformat()}}
        self.server.set_renewal_info(_pem(leaf), json.dumps(window))

    def revoked_for(self, leaf: x509.Certificate) -> int | None:
        status = self.server.status_of(leaf.serial_number)
        return int(status.get("Reason") or 0) if status["Status"] == "Revoked" else None


class PebbleWatch:
    """Pebble's log, from where it was when the watch began."""

    kinds: Mapping[str, str] = {
        "dir": "directory",
        "nonce-plz": "new-nonce",
        "sign-me-up": "new-account",
        "order-plz": "new-order",
        "my-order": "order",
        "finalize-order": "finalize",
        "authZ": "authorization",
        "chalZ": "challenge",
        "certZ": "certificate",
    }

    def __init__(self, log: Path) -> None:
        self._log, self._from = log, log.stat().st_size

    def heard(self) -> bool:
        return self._log.stat().st_size > self._from

    @property
    def _text(self) -> str:
        with self._log.open(errors="replace") as file:
            file.seek(self._from)
            return file.read()

    def requests(self) -> list[str]:
        # Some of its resources are shown with their ids, some without.
        paths = re.findall(r" [A-Z]+ /(\S*?)/? -> calling handler\(\)", self._text)
        return ["renewal-info" if "renewalInfo" in path else self.kinds.get(path, path) for path in paths]

    def orders(self) -> list[str]:
        return re.findall(r'Added order "(\S+)" to the db', self._text)

    def accounts(self) -> int:
        return len(re.findall(r"There are now \d+ accounts", self._text))

    def replacements(self) -> list[tuple[str, str]]:
        return re.findall(r'order "(\S+)" is a replacement of "(\S+)"', self._text)

    def failed_validations(self) -> int:
        return self._text.count("set INVALID")


class LocalLab:
    """The local CA, in this process."""

    agent = "acme-middleware local CA"
    says_unreachable = "Connection refused"
    says_wrong_body: tuple[str, ...] = ("'hello.world', and not the key authorization",)

    def __init__(self, ca: LocalCA, http_port: int) -> None:
        self.ca, self.http_port = ca, http_port
        self.directory_url, self.ca_bundle = ca.directory_url, ca.ca_bundle
        self.terms = f"{ca.directory_url.removesuffix('/directory')}/terms"

    def watch(self) -> Watch:
        return LocalWatch(self.ca)

    def roots(self) -> list[str]:
        return [self.ca.root(number) for number in range(len(self.ca.desk.hierarchy.roots))]

    def intermediate(self) -> str:
        return _pem(self.ca.desk.hierarchy.issuer[0])

    @contextmanager
    def refusing(self) -> Iterator[str]:
        self.ca.fault("names-refused", times=None)
        yield "www.refused.example"
        self.ca.check()
        self.ca.faults.clear()

    def set_renewal_window(self, leaf: x509.Certificate, start: datetime, end: datetime) -> None:
        self.ca.set_renewal_window(leaf, start, end)

    def revoked_for(self, leaf: x509.Certificate) -> int | None:
        with self.ca.state.lock:
            found = next(entry for entry in self.ca.state.certificates.values() if entry.leaf == leaf)
            return None if found.revoked is None else found.revoked[1]


class LocalWatch:
    """The local CA's memory: what is in it now and was not when the watch began."""

    def __init__(self, ca: LocalCA) -> None:
        self._ca = ca
        with ca.state.lock:
            self._old = {*ca.state.orders, *ca.state.accounts, *ca.state.authorizations}
        served = ca.requests()
        self._last = served[-1] if served else None

    def _since(self) -> list[str]:
        served = self._ca.requests()
        # From the end, and by identity: it forgets the oldest ones, and the same may be asked many times.
        begin = next((i + 1 for i in reversed(range(len(served))) if served[i] is self._last), 0 if self._last is None else -1)
        assert begin >= 0, "more was asked than the CA remembers"
        return [entry.resource for entry in served[begin:]]

    def heard(self) -> bool:
        served = self._ca.requests()
        return bool(served) and served[-1] is not self._last

    def requests(self) -> list[str]:
        return self._since()

    def orders(self) -> list[str]:
        with self._ca.state.lock:
            return [id for id in self._ca.state.orders if id not in self._old]

    def accounts(self) -> int:
        with self._ca.state.lock:
            return sum(id not in self._old for id in self._ca.state.accounts)

    def replacements(self) -> list[tuple[str, str]]:
        with self._ca.state.lock:
            orders = self._ca.state.orders
            made = {order.certificate.id: order.id for order in orders.values() if order.certificate}
            return [(id, made[order.replaces]) for id, order in orders.items() if id not in self._old and order.replaces]

    def failed_validations(self) -> int:
        with self._ca.state.lock:
            found = self._ca.state.authorizations.items()
            return sum(id not in self._old and authorization.status == "invalid" for id, authorization in found)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
