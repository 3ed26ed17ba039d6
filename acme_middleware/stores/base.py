"""
What a store must do. Two contracts, because web workers need only the smaller one and then have no right to read a key.

**Challenge stores** hold the tokens that the CA is about to fetch.

- ``present`` returns only when every reader on every host sees the token: the CA is told "ready" next, and never asks twice.
- A token past its ``ttl`` is as good as absent. The back end's own clock decides, never the caller's: hosts may disagree.
  ``present`` also removes what has expired, so that a killed command leaves nothing for ever.
- ``remove`` of an absent token is no error. A token is never removed because it was fetched: several perspectives of the CA
  fetch it, at once and again (RFC 8555 section 8.3 has it removed when the authorization is final).
- ``key_authorization`` returns None for an unknown token, and only for that; a back end that fails raises StoreUnavailable.
  It is called with well-formed tokens only (:mod:`acme_middleware.challenge`), by many threads at once.
- ``blocking`` says whether ``key_authorization`` may wait for a network or a lock. False lets it be called on an event loop.

**Stores** hold state: accounts, orders, certificates, leases. Records are small (tens of kilobytes) and few kinds:

====================  ==========================================================================================
``account/<ca>/<id>``  private: the account's key and URL
``order/<name>``       private: an order under way and the key of the certificate that it will bring
``certificate/<name>`` private: key, certificate and chain, in one record, written once per issuance
``renewal/<name>``     public: names, dates, serial, fingerprint, CA, options; can be rebuilt from the certificate
``ledger/<ca>/<hash>`` public: the failures in a row of one account and set of names, and when the next try is allowed
``budget/<ca>/...``    public: per account, what counted lately against each limit that the CA is known to have
``budget/caps/...``    public: when orders were placed in the last hour, for the caps that an app gives itself
``sweep/<host>``       public: when a host last looked after all certificates
``lock/<name>``        leases
====================  ==========================================================================================

- A **key** is made by :func:`key`, which escapes what does not fit; it is compared byte by byte (``aBc`` is not ``AbC``).
- A **value** is bytes, JSON with a ``schema`` number in all our records. A store does not look inside.
- A **version** is opaque and never repeats, whatever is written, deleted and written again: a random nonce, no counter (a
  restored backup would repeat it) and no content hash (the same value twice is two writes).
- ``put`` with ``expect=version`` writes only over that very version, with ``Expect.ABSENT`` only where nothing is; else it
  raises Conflict and has changed nothing. Of two such writers at once one wins, on whatever hosts they are.
- What ``put`` returned is seen by every later ``get`` and ``scan`` everywhere, and survives a crash of the machine.
- ``scan`` yields the records whose key begins with the prefix, in the order of their keys, in one round trip where the
  engine has one. A record written or deleted meanwhile may be seen or not; no other is missed.
  One that is damaged keeps no other from being read: where a store can tell, it has no value and no version.
- ``check`` tries the store as it will be used: it reads, and with ``writable`` writes a record, reads it back and deletes it.

Any method may raise StoreUnavailable (it may work later) or StoreMisconfigured (it will not, until somebody acts). None
retries: the caller knows how long it can wait. All are synchronous and may be called from several threads.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable
from urllib.parse import quote

from acme_middleware.errors import StoreMisconfigured

TOKEN_TTL = 3600.0
"""Seconds that a presented token is answered for; far more than a validation takes, so only a crash leaves one behind."""


class Expect(Enum):
    """What ``put`` and ``delete`` expect to find, where it is not one known version."""

    ANY = "any"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Record:
    """A stored value, and the version to name when writing over it."""

    value: bytes
    version: str


class ChallengeSource(Protocol):
    """All that the serving side knows of a store."""

    blocking: bool

    def key_authorization(self, token: str) -> str | None: ...


@runtime_checkable
class ChallengeStore(ChallengeSource, Protocol):
    """What the issuer writes tokens to. ``ttl`` is in seconds."""

    def present(self, token: str, key_authorization: str, *, ttl: float) -> None: ...

    def remove(self, token: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Fetch:
    """One answered fetch of a token: when (POSIX seconds), by which address and User-Agent."""

    at: float
    address: str
    agent: str


@runtime_checkable
class FetchLog(Protocol):
    """
    An optional power of a challenge store: it remembers who fetched a token.

    ``log_fetch`` is called after the answer, only for tokens that were answered, and keeps at most ``FETCHES_KEPT`` per token.
    ``fetches`` lists them, oldest first. They go when the token goes: a caller who wants them asks before ``remove``.
    """

    def log_fetch(self, token: str, fetch: Fetch) -> None: ...

    def fetches(self, token: str) -> list[Fetch]: ...


FETCHES_KEPT = 50


class Brief(Protocol):
    """
    An optional power of a challenge store whose ``blocking`` is true.

    Where ``brief`` is true, ``key_authorization`` waits for no network, and ends within two seconds by itself: it may wait for
    a lock on a local file. A server without an event loop calls it where it is, without a thread of ours in between.
    """

    @property
    def brief(self) -> bool: ...


@runtime_checkable
class Connected(Protocol):
    """
    An optional power of a store that keeps connections from one operation to the next.

    ``close_connections`` gives back those that nobody uses at this moment. The store can be used again, and opens others.
    """

    def close_connections(self) -> None: ...


class Store(Protocol):
    """State that commands on every host share."""

    def get(self, key: str) -> Record | None: ...

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str: ...

    def delete(self, key: str, *, expect: str | Expect = Expect.ANY) -> bool: ...

    def scan(self, prefix: str) -> Iterator[tuple[str, Record]]: ...

    def check(self, *, writable: bool) -> None: ...


MAX_PART = 150
PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,149}")
"""Parts that nothing is done to: nearly all names are such."""


def key(kind: str, *parts: str) -> str:
    """
    Build a record's key: ``key("certificate", "*.example.com")`` is ``certificate/%2A.example.com``.

    What is not a letter, a digit, ``-``, ``_`` or ``.`` is percent-encoded, a leading dot too (a folder would hide it), so
    that a key is a safe relative path. A part longer than 150 characters is cut, and ends in a hash of the whole.
    """
    return "/".join([kind, *map(_escape, parts)])


def _escape(part: str) -> str:
    if PLAIN.fullmatch(part):
        return part
    escaped = quote(part, safe="").replace("~", "%7E")
    if escaped.startswith("."):
        escaped = "%2E" + escaped[1:]
    if len(escaped) > MAX_PART:
        escaped = escaped[: MAX_PART - 33].rstrip("%") + "-" + hashlib.sha256(part.encode()).hexdigest()[:32]
    return escaped


def new_version() -> str:
    """A version for a record, never seen before."""
    return secrets.token_hex(16)


def try_out(store: Store) -> None:
    """Write a record, read it back and delete it: the ``check(writable=True)`` that any store can use."""
    probe, value = key("lock", f"check-{new_version()}"), secrets.token_bytes(16)
    version = store.put(probe, value, expect=Expect.ABSENT)
    read = store.get(probe)
    store.delete(probe, expect=version)
    if read is None or read.value != value or read.version != version:
        raise StoreMisconfigured(
            "the store did not give back what was just written to it",
            hint="reads must go to the primary, not to a replica that lags behind",
        )
