"""
Stores for acme-middleware in LMDB, an embedded database: for the processes of one machine, without a server.

``lmdb:///var/lib/acme`` keeps state in the folder ``state`` there, and tokens in ``tokens``: whoever answers the CA opens
only the latter. LMDB lets one writer in at a time, across processes, and readers wait for nobody: a compare-and-swap is a
read and a write in one transaction, and a look-up is never blocked.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import lmdb

from acme_middleware.errors import Conflict, StoreMisconfigured, StoreUnavailable
from acme_middleware.stores.base import FETCHES_KEPT, Expect, Fetch, Record, key, new_version, try_out

__all__ = ["LMDBChallengeStore", "LMDBStore"]

LARGEST = 1 << 30
"""Bytes that a database may grow to: address space, not disk."""
READERS = 1024
VERSION = 32
"""The length of a version, which stands before each record's value."""
NEEDS_SOMEBODY = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT)


class LMDBStore:
    """
    A store of state (:class:`acme_middleware.stores.base.Store`).

    Args:
        url: ``lmdb:///var/lib/acme``, or ``lmdb:relative``. Nothing is opened before the first use.

    Raises:
        StoreMisconfigured: The URL names no folder.
    """

    def __init__(self, url: str) -> None:
        self._database = _Database(_folder(url) / "state")

    def get(self, key: str) -> Record | None:
        with self._database.use() as transaction:
            return _record(transaction.get(_bytes(key)))

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        version = new_version()
        with self._database.use(write=True) as transaction:
            _meet(transaction, key, expect)
            transaction.put(_bytes(key), version.encode() + value)
        return version

    def delete(self, key: str, *, expect: str | Expect = Expect.ANY) -> bool:
        with self._database.use(write=True) as transaction:
            _meet(transaction, key, expect)
            return bool(transaction.delete(_bytes(key)))

    def scan(self, prefix: str) -> Iterator[tuple[str, Record]]:
        # Gathered first: a reader that the caller keeps waiting would keep LMDB from using old pages again.
        found, begin = [], prefix.encode()
        with self._database.use() as transaction, transaction.cursor() as cursor:
            there = cursor.set_range(begin) if begin else cursor.first()
            while there and cursor.key().startswith(begin):
                name, record = cursor.key().decode(), _record(cursor.value())
                if record is not None:
                    found.append((name, record))
                there = cursor.next()
        return iter(found)

    def check(self, *, writable: bool) -> None:
        self.get(key("lock", "check"))
        if writable:
            try_out(self)


class LMDBChallengeStore:
    """
    A challenge store that logs fetches (:class:`acme_middleware.stores.base.ChallengeStore`, ``FetchLog``).

    Args:
        url: As of :class:`LMDBStore`.
    """

    blocking = False  # a reader takes no lock and waits for no disk that the token was not just written to

    def __init__(self, url: str) -> None:
        self._database = _Database(_folder(url) / "tokens")

    def key_authorization(self, token: str) -> str | None:
        with self._database.use() as transaction:
            kept = _living(transaction, token)
        return kept["key_authorization"] if kept else None

    def present(self, token: str, key_authorization: str, *, ttl: float) -> None:
        # One machine has one clock: it is the back end's own.
        kept = {"key_authorization": key_authorization, "expires": time.time() + ttl, "fetches": []}
        with self._database.use(write=True) as transaction:
            for expired in [name for name, one in _all(transaction) if one["expires"] <= time.time()]:
                transaction.delete(expired.encode())
            transaction.put(token.encode(), json.dumps(kept).encode())

    def remove(self, token: str) -> None:
        with self._database.use(write=True) as transaction:
            transaction.delete(token.encode())

    def log_fetch(self, token: str, fetch: Fetch) -> None:
        with self._database.use(write=True) as transaction:
            kept = _living(transaction, token)
            if kept and len(kept["fetches"]) < FETCHES_KEPT:
                kept["fetches"].append(asdict(fetch))
                transaction.put(token.encode(), json.dumps(kept).encode())

    def fetches(self, token: str) -> list[Fetch]:
        with self._database.use() as transaction:
            kept = _living(transaction, token)
        return [Fetch(**one) for one in kept["fetches"]] if kept else []

    def tokens(self) -> set[str]:
        """All that is kept, expired or not: the contract's tests ask, to see that expired tokens are swept."""
        with self._database.use() as transaction:
            return {name for name, _ in _all(transaction)}


@dataclass(frozen=True, slots=True)
class _Database:
    """One folder of LMDB's, and what it takes to use it from any thread, and after a fork."""

    folder: Path

    @contextmanager
    def use(self, *, write: bool = False) -> Iterator[Any]:
        try:
            with _environment(self.folder).begin(write=write) as transaction:
                yield transaction
        except (OSError, lmdb.Error) as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError | lmdb.Error) -> StoreMisconfigured | StoreUnavailable:
        message = f"LMDB cannot use {self.folder}: {getattr(error, 'strerror', None) or error}"
        if isinstance(error, lmdb.MapFullError | lmdb.ReadersFullError | lmdb.DiskError):
            return StoreUnavailable(message, hint="it is full: see what else is kept there, or who reads it")
        number = error.errno if isinstance(error, OSError) else None
        if number in NEEDS_SOMEBODY or any(os.strerror(one) in str(error) for one in NEEDS_SOMEBODY):
            return StoreMisconfigured(message, hint="whoever issues and whoever answers must be able to write there")
        if isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError | lmdb.CorruptedError):
            return StoreMisconfigured(message, hint="what is there is no database of LMDB's: name another folder")
        return StoreUnavailable(message)


_environments: dict[Path, tuple[int, Any]] = {}
_opening = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_opening=threading.Lock()))


def _environment(folder: Path) -> Any:
    """The environment of a folder in this process: LMDB allows one, and a child must not use that of its parent."""
    pid, environment = _environments.get(folder, (0, None))
    if pid == os.getpid():
        return environment
    with _opening:
        pid, environment = _environments.get(folder, (0, None))
        if pid != os.getpid():
            if environment is not None:
                environment.close()  # the parent's: the binding only forgets it here, the parent goes on with it
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            environment = lmdb.open(str(folder), map_size=LARGEST, max_readers=READERS, mode=0o600)
            environment.reader_check()  # gives the places of killed readers back
            _environments[folder] = (os.getpid(), environment)
    return environment


def _folder(url: str) -> Path:
    path = unquote(url.partition(":")[2].removeprefix("//"))
    if not path or "\0" in path:
        raise StoreMisconfigured("the URL names no folder", hint="write lmdb:///var/lib/acme")
    return Path(path).expanduser().absolute()


def _bytes(key: str) -> bytes:
    encoded = key.encode()
    if len(encoded) > 511:
        raise StoreMisconfigured(f"LMDB takes keys of 511 bytes, {key[:40]}... is longer", hint="use a shorter name")
    return encoded


def _record(found: bytes | None) -> Record | None:
    return None if found is None else Record(bytes(found[VERSION:]), bytes(found[:VERSION]).decode())


def _meet(transaction: Any, key: str, expect: str | Expect) -> None:
    if expect is Expect.ANY:
        return
    record = _record(transaction.get(_bytes(key)))
    if (record.version if record else Expect.ABSENT) != expect:
        raise Conflict(f"{key} was changed by another writer", hint="read it again", key=key)


def _living(transaction: Any, token: str) -> dict[str, Any] | None:
    found = transaction.get(token.encode())
    kept: dict[str, Any] | None = None if found is None else json.loads(bytes(found))
    return kept if kept and time.time() < kept["expires"] else None


def _all(transaction: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(bytes(name).decode(), json.loads(bytes(value))) for name, value in transaction.cursor()]
