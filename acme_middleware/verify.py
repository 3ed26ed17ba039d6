"""
Connect to a server, and compare the certificate that it presents with the one that it should.

A certificate that was renewed, and that nobody serves, is the most repeated accident of all. A file on the disk, a hook that
ended well and a reload that was asked for prove nothing: only a handshake does.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from acme_middleware._text import printable
from acme_middleware.presented import kind_of, problem_of

__all__ = ["Expected", "Finding", "Seen", "proof", "served", "verify"]

TIMEOUT = 5.0
PORT = 443
PAUSE = 0.2
MOST_AT_ONCE = 16


class Expected(Protocol):
    """What should be served: a renewal record, or anything that has these."""

    @property
    def name(self) -> str:
        """What the certificate is known by."""

    @property
    def names(self) -> Sequence[str]:
        """The names in it."""

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of its DER, in lower-case hexadecimal."""


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What a server presented to a client that asked for a name.

    Attributes:
        fingerprint: The SHA-256 of the certificate in DER, in lower-case hexadecimal; "" where there was no handshake.
        chain: All that it sent, in DER, the certificate first.
        error: Why there was no handshake; "" if there was one.
        no_way: There was none because this host has no network that leads there.
    """

    fingerprint: str = ""
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    error: str = ""
    no_way: bool = False

    @property
    def kind(self) -> str:
        """The kind of its key: "RSA" or "ECDSA"; "" if there is none, or another."""
        return kind_of(self.chain[0]) if self.chain else ""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What one address gave for one name.

    Attributes:
        name: The name that was asked for; of a wildcard a name that it is for.
        address: Where, as ``192.0.2.1:443`` or ``[2001:db8::1]:443``; "" where the name does not resolve.
        fingerprint: Of the certificate that was presented, "" if none was.
        problem: What is wrong, in a sentence; "" if it is the right certificate, with a chain that clients can follow.
        unsure: It could not be found out from this host.
    """

    name: str
    address: str
    fingerprint: str = ""
    problem: str = ""
    unsure: bool = False

    @property
    def ok(self) -> bool:
        """Whether the right certificate is served there."""
        return not self.problem

    def __str__(self) -> str:
        where = f"{self.name} at {self.address}" if self.address else self.name
        return f"{where}: {self.problem or 'is served'}"


def served(host: str, port: int, name: str, *, timeout: float = TIMEOUT, kind: str = "") -> Seen:
    """
    Shake hands with a server, and look at what it presents. Whatever it is, it is not trusted and not refused.

    Args:
        host: Where to connect to, a name or an address.
        name: The name to ask for (SNI); for an IP address none is sent (RFC 6066 section 3).
        timeout: Seconds for the connection, and again for the handshake.
        kind: "RSA" or "ECDSA": ask as a client that knows no other keys, for a server may have a certificate of each kind. It
            asks by TLS 1.2, where the ciphers say it; of a server that speaks TLS 1.3 alone it gets no handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # What is wrong with a certificate is to be told, so it must be seen first.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        if kind:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(f"a{kind}")
        with (
            socket.create_connection((host, port), timeout=timeout) as connection,
            context.wrap_socket(connection, server_hostname=name) as secured,
        ):
            chain = _chain(secured)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        return Seen(error=f"the TLS handshake fails: {printable(reason, 200)}")
    except TimeoutError:
        return Seen(error=f"no answer within {timeout:g} s")
    except (OSError, ValueError) as error:  # ValueError: a name that cannot be sent
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Seen(error=f"no connection: {printable(why, 200)}", no_way=_has_no_way(host, port))
    if not chain:
        return Seen(error="the server presents no certificate")
    return Seen(hashlib.sha256(chain[0]).hexdigest(), chain)


def proof(
    host: str, port: int, name: str, fingerprint: str, *, wait: float = 0.0, timeout: float = TIMEOUT, chained: bool = True
) -> Finding:
    """
    Whether one server presents one certificate, for one of its names.

    Args:
        host: Where to connect to.
        name: The name to ask for; for a wildcard a name that it is for is made up.
        fingerprint: The SHA-256 of the certificate that it should present.
        wait: Seconds to go on asking while it presents another one, or nothing.
        timeout: Seconds for each try.
        chained: Whether it has a chain to be presented with it; False for that of a CA that issues from its root.
    """
    deadline = time.monotonic() + wait
    while True:
        found = _look(_Place(_asked_as(name), host, port), fingerprint, timeout, chained)
        if found.ok or not _pause(deadline):
            return found


def verify(
    record: Expected,
    addresses: Sequence[tuple[str, int]] | None = None,
    *,
    wait: float = 0.0,
    timeout: float = TIMEOUT,
    stop: threading.Event | None = None,
    chained: bool = True,
) -> list[Finding]:
    """
    Whether a certificate is served for every name in it, at every address.

    Args:
        record: What should be served.
        addresses: Where to connect to for each of the names, as (host, port), every address of each host; by default every
            address (A and AAAA) of each name, port 443.
        wait: Seconds to go on asking where another certificate is presented, or none: servers need a moment to reload.
        timeout: Seconds for each try.
        stop: Set by another thread, it ends the wait.
        chained: Whether it has a chain to be presented with it; False for that of a CA that issues from its root.

    Returns:
        What each address gave for each name. One that this host has no network for is unsure; if nothing else could be asked
        for that name, it counts as not served.
    """
    deadline = time.monotonic() + wait
    found: dict[_Place, Finding] = {}
    names = [_asked_as(name) for name in record.names]
    while True:
        places = list(dict.fromkeys(place for name in names for place in _places(name, addresses)))
        found = {place: found[place] for place in places if place in found and found[place].ok}
        left = [place for place in places if place not in found]
        with ThreadPoolExecutor(min(len(left), MOST_AT_ONCE) or 1) as pool:
            seen = pool.map(lambda place: _look(place, record.fingerprint, timeout, chained), left)
            found.update(zip(left, seen, strict=True))
        if all(finding.ok or finding.unsure for finding in found.values()) or not _pause(deadline, stop):
            return _judged([found[place] for place in places])


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to ask for a name. A name that does not resolve has no host, and the reason."""

    name: str
    host: str
    port: int
    problem: str = ""

    def __str__(self) -> str:
        if not self.host:
            return ""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _asked_as(name: str) -> str:
    """What to ask for: of a wildcard a name that nobody has configured, so that no other certificate is meant for it."""
    return f"verify-{secrets.token_hex(4)}{name[1:]}" if name.startswith("*.") else name


def _places(name: str, addresses: Sequence[tuple[str, int]] | None) -> list[_Place]:
    places = []
    for host, port in [(name, PORT)] if addresses is None else addresses:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            places.append(_Place(name, "", port, f"{host} does not resolve here ({why})"))
        else:
            places += [_Place(name, str(entry[4][0]), port) for entry in entries]
    return places


def _look(place: _Place, fingerprint: str, timeout: float, chained: bool) -> Finding:
    if place.problem:
        return Finding(place.name, "", problem=place.problem)
    seen = served(place.host, place.port, place.name, timeout=timeout)
    # Of an EC and an RSA certificate for the same name, a server sends the second only to clients that know no EC keys.
    if seen.fingerprint != fingerprint and (other := {"RSA": "ECDSA", "ECDSA": "RSA"}.get(seen.kind)):
        besides = served(place.host, place.port, place.name, timeout=timeout, kind=other)
        seen = besides if besides.fingerprint == fingerprint else seen
    problem = seen.error or problem_of(seen.chain, place.name, seen.fingerprint, fingerprint, chained=chained)
    return Finding(place.name, str(place), seen.fingerprint, problem, seen.no_way)


def _judged(findings: list[Finding]) -> list[Finding]:
    """A name that was asked for nowhere is not served, whatever the reason."""
    asked = {finding.name for finding in findings if not finding.unsure}
    return [Finding(one.name, one.address, one.fingerprint, one.problem, one.unsure and one.name in asked) for one in findings]


def _pause(deadline: float, stop: threading.Event | None = None) -> bool:
    """Wait for the next try; False if there is no time for one."""
    left = deadline - time.monotonic()
    return left > 0 and not (stop or threading.Event()).wait(min(PAUSE, left))


def _has_no_way(host: str, port: int) -> bool:
    """Whether this host has no network that leads there, most often no IPv6: that says nothing about the server."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # looks for a route, and sends nothing
    except socket.gaierror:
        return False
    except OSError:
        return True
    return False


def _chain(secured: ssl.SSLSocket) -> tuple[bytes, ...]:
    if hasattr(secured, "get_unverified_chain"):
        return tuple(secured.get_unverified_chain())
    # Before Python 3.13 it is there, and has no public name.
    sent = secured._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return tuple(ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in sent or ())
