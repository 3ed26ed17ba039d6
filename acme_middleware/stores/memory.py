"""
Stores in this process's memory: for tests, and for apps that issue and serve in one process.

Not for several workers: each has a memory of its own, and a token that one presents is unknown to the others.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from acme_middleware.errors import Conflict
from acme_middleware.stores.base import FETCHES_KEPT, Expect, Fetch, Record, new_version

__all__ = ["MemoryChallengeStore", "MemoryStore", "shared_challenges", "shared_store"]


class MemoryStore:
    """
    A store of state that ends with the process.

    See :mod:`acme_middleware.stores.base` for what its methods do.
    """

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Record | None:
        return self._records.get(key)

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        record = Record(bytes(value), new_version())
        with self._lock:
            self._meet(key, expect)
            self._records[key] = record
        return record.version

    def delete(self, key: str, *, expect: str | Expect = Expect.ANY) -> bool:
        with self._lock:
            self._meet(key, expect)
            return self._records.pop(key, None) is not None

    def scan(self, prefix: str) -> Iterator[tuple[str, Record]]:
        with self._lock:
            found = [(key, record) for key, record in self._records.items() if key.startswith(prefix)]
        return iter(sorted(found, key=lambda pair: pair[0]))

    def check(self, *, writable: bool) -> None:
        """Nothing can be wrong with it."""

    def _meet(self, key: str, expect: str | Expect) -> None:
        if expect is Expect.ANY:
            return
        record = self._records.get(key)
        if (record.version if record else Expect.ABSENT) != expect:
            raise Conflict(f"{key} was changed by another writer", hint="read it again", key=key)


@dataclass(slots=True)
class _Presented:
    key_authorization: str
    expires: float
    fetches: deque[Fetch] = field(default_factory=lambda: deque(maxlen=FETCHES_KEPT))


class MemoryChallengeStore:
    """
    A challenge store that ends with the process; it remembers who fetched a token.

    Tokens expire by the monotonic clock: setting the machine's time neither keeps nor drops one.
    """

    blocking = False

    def __init__(self) -> None:
        self._presented: dict[str, _Presented] = {}
        self._lock = threading.Lock()

    def key_authorization(self, token: str) -> str | None:
        found = self._living(token)
        return found.key_authorization if found else None

    def present(self, token: str, key_authorization: str, *, ttl: float) -> None:
        now = time.monotonic()
        with self._lock:
            for expired in [name for name, kept in self._presented.items() if kept.expires <= now]:
                del self._presented[expired]
            self._presented[token] = _Presented(key_authorization, now + ttl)

    def remove(self, token: str) -> None:
        with self._lock:
            self._presented.pop(token, None)

    def log_fetch(self, token: str, fetch: Fetch) -> None:
        with self._lock:
            # A token that went between its answer and this call must not come back: nothing would ever sweep it.
            found = self._living(token)
            if found:
                found.fetches.append(fetch)

    def fetches(self, token: str) -> list[Fetch]:
        with self._lock:
            found = self._living(token)
            return list(found.fetches) if found else []

    def _living(self, token: str) -> _Presented | None:
        found = self._presented.get(token)
        return found if found and time.monotonic() < found.expires else None


_store, _challenges = MemoryStore(), MemoryChallengeStore()


def shared_store() -> MemoryStore:
    """The one behind ``memory:`` in this process."""
    return _store


def shared_challenges() -> MemoryChallengeStore:
    """The one behind ``memory:`` in this process, for tokens."""
    return _challenges
