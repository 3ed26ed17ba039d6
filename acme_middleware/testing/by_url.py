"""The options of pytest that run the contract suites against stores named by their URLs, and what they do to a run."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pytest

from acme_middleware._text import without_secrets
from acme_middleware.errors import AcmeMiddlewareError
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.base import ChallengeSource, ChallengeStore, Fetch, FetchLog, Store

STORE, CHALLENGES = "--acme-store", "--acme-challenge-store"
AT_ONCE = 8
SUITES = Path(__file__).with_name("test_stores_by_url.py")


@runtime_checkable
class ListsTokens(Protocol):
    """
    An optional power of a challenge store, for these tests alone: it says which tokens it keeps.

    Expired ones too: a row or file that is still there.
    """

    def tokens(self) -> Iterable[str]: ...


class Recorded:
    """
    A challenge store that remembers which tokens were presented to it: no store needs to list them.

    Args:
        store: The store.
        presented: Where they are noted.
    """

    def __init__(self, store: ChallengeStore, presented: set[str]) -> None:
        self._store, self._presented = store, presented
        self.blocking = store.blocking
        self.lists = isinstance(store, ListsTokens)

    def key_authorization(self, token: str) -> str | None:
        return self._store.key_authorization(token)

    def present(self, token: str, key_authorization: str, *, ttl: float) -> None:
        self._presented.add(token)
        self._store.present(token, key_authorization, ttl=ttl)

    def remove(self, token: str) -> None:
        self._store.remove(token)

    def held(self) -> set[str]:
        """What the store keeps, or, where it cannot say, what it still answers."""
        if isinstance(self._store, ListsTokens):
            return set(self._store.tokens())
        return {token for token in self._presented if self._store.key_authorization(token) is not None}


class RecordedWithLog(Recorded):
    """The same for a store that logs fetches."""

    def __init__(self, store: ChallengeStore, log: FetchLog, presented: set[str]) -> None:
        super().__init__(store, presented)
        self._log = log

    def log_fetch(self, token: str, fetch: Fetch) -> None:
        self._log.log_fetch(token, fetch)

    def fetches(self, token: str) -> list[Fetch]:
        return self._log.fetches(token)


def recorded(source: ChallengeSource, presented: set[str]) -> Recorded:
    """A challenge store in its own kind of :class:`Recorded`."""
    if not isinstance(source, ChallengeStore):
        raise pytest.UsageError(f"{CHALLENGES}: {type(source).__name__} keeps no tokens: it has no present() and remove()")
    return RecordedWithLog(source, source, presented) if isinstance(source, FetchLog) else Recorded(source, presented)


def fill(store: Store, records: Iterable[tuple[str, bytes]]) -> None:
    """Write many records, several at once: each waits for a disk, and a server has one wait for several."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda record: store.put(*record), records))


def empty(store: Store) -> None:
    """Delete every record."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(store.delete, [key for key, _ in store.scan("")]))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Called by pytest."""
    group = parser.getgroup("acme-middleware", "stores, for `--pyargs acme_middleware.testing`")
    group.addoption(STORE, metavar="URL", help="Try the contract of a state store. It must be empty, and is EMPTIED.")
    group.addoption(CHALLENGES, metavar="URL", help="Try the contract of a challenge store. It must be empty.")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Called by pytest."""
    urls = [(option, config.getoption(option, None)) for option in (STORE, CHALLENGES)]
    return [f"{option}: {without_secrets(url)}, emptied before and after each test" for option, url in urls if url]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Called by pytest: leaves the suites that fit the stores, and refuses a store that somebody else uses."""
    ours = [item for item in items if item.path == SUITES]
    if not ours:
        return
    store, challenges = config.getoption(STORE, None), config.getoption(CHALLENGES, None)
    if not (store or challenges):
        raise pytest.UsageError(f"nothing to try: pass {STORE}=URL, {CHALLENGES}=URL, or both")
    if hasattr(config, "workerinput"):
        raise pytest.UsageError("these tests share one store and empty it: run them in one process, -n 0")
    fitting = set()
    try:
        if store:
            fitting.add("TestStore")
            _refuse_full(open_store(store))
        if challenges:
            source = open_challenges(challenges)
            fitting |= {"TestChallengeStore", *(["TestFetchLog"] if isinstance(source, FetchLog) else [])}
            _refuse_full_challenges(source)
    except AcmeMiddlewareError as error:
        raise pytest.UsageError(f"{error}\n{error.hint}".rstrip()) from error
    left_out = [item for item in ours if not _class_of(item) & fitting]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _class_of(item: pytest.Item) -> set[str]:
    return {parent.name for parent in item.listchain() if isinstance(parent, pytest.Class)}


def _refuse_full(store: Store) -> None:
    store.check(writable=True)
    found = [key for key, _ in store.scan("")]
    if found:
        raise pytest.UsageError(
            f"{STORE}: the store is not empty, and these tests empty it: it has {len(found)} records, such as {found[0]}\n"
            "name a store that nobody uses"
        )


def _refuse_full_challenges(source: Any) -> None:
    store = recorded(source, set())
    store.present("trial", "trial.of-these-tests", ttl=60)
    store.remove("trial")
    tokens = set(source.tokens()) if isinstance(source, ListsTokens) else set()
    if tokens:
        raise pytest.UsageError(f"{CHALLENGES}: the store is not empty: it has {len(tokens)} tokens\nname one that nobody uses")
