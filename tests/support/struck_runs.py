"""
Runs of the issuing command whose store's server is struck down at a moment that the test chooses, to the operation.

A run is a process of its own, forked from one that has loaded everything already. Its stores are the real ones: what stands in
front of them counts the writes, and lets the parent strike before one is sent, or after it was done and before anybody knows.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from acme_middleware import options
from acme_middleware.errors import AcmeMiddlewareError, StoreUnavailable
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.base import Expect, Record

LIMIT = 120.0
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        "struck_runs",
        "acme_middleware.issuance.issuer",
        "acme_middleware.issuance.ordering",
        "acme_middleware.issuance.conversation",
        "acme_middleware.deploy.publish",
        "acme_middleware.stores.sql",
        "acme_middleware.stores.redis",
        "sqlalchemy.dialects.postgresql.psycopg",
        "sqlalchemy.dialects.mysql.pymysql",
        "psycopg",
        "pymysql",
        "redis",
    ]
)


@dataclass(frozen=True)
class Strike:
    """Where to strike: before or after a write, by its place among all writes of the run."""

    write: int
    after: bool = False


@dataclass(frozen=True)
class Ended:
    """
    How a run ended.

    Attributes:
        code: The exit code of the command.
        text: The error that it ended with, or "".
        writes: What it wrote, in order: ``put certificate``, ``present``.
    """

    code: int
    text: str
    writes: list[str]


class Moments:
    """Counts the writes of a run, and tells the parent when the moment has come."""

    def __init__(self, talk: Connection, strike: Strike | None) -> None:
        self.talk, self.strike = talk, strike
        self.writes: list[str] = []

    @contextmanager
    def write(self, label: str) -> Iterator[None]:
        number = len(self.writes)
        self.writes.append(label)
        struck = self.strike is not None and self.strike.write == number
        if struck and self.strike and not self.strike.after:
            self._struck()
        yield
        if struck and self.strike and self.strike.after:
            self._struck()
            # It was done, and the answer is lost: the connection has broken before it came.
            raise StoreUnavailable(f"the server died after {label}", hint="try again")

    def _struck(self) -> None:
        self.talk.send("now")
        self.talk.recv()


class State:
    """A store of state."""

    def __init__(self, url: str, moments: Moments) -> None:
        self.store, self.moments = open_store(url), moments

    def get(self, key: str) -> Record | None:
        return self.store.get(key)

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        with self.moments.write(f"put {_kind(key)}"):
            return self.store.put(key, value, expect=expect)

    def delete(self, key: str, *, expect: str | Expect = Expect.ANY) -> bool:
        with self.moments.write(f"delete {_kind(key)}"):
            return self.store.delete(key, expect=expect)

    def scan(self, prefix: str) -> Iterator[tuple[str, Record]]:
        return self.store.scan(prefix)

    def check(self, *, writable: bool) -> None:
        self.store.check(writable=writable)


class Tokens:
    """A challenge store."""

    blocking = True

    def __init__(self, url: str, moments: Moments) -> None:
        self.store, self.moments = open_challenges(url), moments

    def key_authorization(self, token: str) -> str | None:
        return self.store.key_authorization(token)

    def present(self, token: str, key_authorization: str, *, ttl: float) -> None:
        with self.moments.write("present"):
            self.store.present(token, key_authorization, ttl=ttl)  # type: ignore[attr-defined]

    def remove(self, token: str) -> None:
        with self.moments.write("remove"):
            self.store.remove(token)  # type: ignore[attr-defined]


def _kind(key: str) -> str:
    return "probe" if key.startswith("lock/check-") else key.partition("/")[0]


def issue(
    url: str,
    given: Mapping[str, Any],
    name: str,
    *,
    strike: Strike | None = None,
    struck: Callable[[], None] | None = None,
    patience: float | None = None,
) -> Ended:
    """
    Run ``issue`` for one name, in a process of its own.

    Args:
        url: The store.
        given: The other options.
        strike: The moment, None for a run that nobody disturbs.
        struck: Called at that moment; the run waits meanwhile.
        patience: Seconds that the run waits for a server that is restarted, None: as the product has it.
    """
    ours, theirs = FORKED.Pipe()
    process = FORKED.Process(target=_run, args=(theirs, url, dict(given), name, strike, patience), daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            assert ours.poll(LIMIT), f"the run for {name} says nothing for {LIMIT:.0f} s"
            said = ours.recv()
            if isinstance(said, Ended):
                return said
            assert struck is not None
            struck()
            ours.send("go on")
    finally:
        process.join(LIMIT)
        ours.close()


def _run(talk: Connection, url: str, given: dict[str, Any], name: str, strike: Strike | None, limit: float | None) -> None:
    from acme_middleware.issuance import patience
    from acme_middleware.issuance.issuer import Issuer

    if limit is not None:
        patience.RESTART = limit
    moments, code, text = Moments(talk, strike), 0, ""
    stores = {"store": State(url, moments), "challenge_store": Tokens(url, moments)}
    try:
        Issuer(options.read(("test", {**given, **stores}))).issue([name])
    except AcmeMiddlewareError as error:
        code, text = error.exit_code, f"{type(error).__name__}: {error}"
    except Exception:
        code, text = -1, traceback.format_exc()
    talk.send(Ended(code, text, moments.writes))
