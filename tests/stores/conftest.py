"""
One server of each kind for all tests of stores, started when the first of them needs it.

At the end a line for each store says how many tests of the contracts it went through: one that lost half of them is seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeVar

import pytest
from database_server import DatabaseServer
from mariadb_server import MariaDB
from postgresql_server import PostgreSQL
from redis_server import Redis

from acme_middleware.testing import ChallengeStoreContract, FetchLogContract, LeaseContract, StoreContract

CONTRACTS = (StoreContract, LeaseContract, ChallengeStoreContract, FetchLogContract)

Server = TypeVar("Server", bound=DatabaseServer)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL. Take a new_database() of it; a test that stops it starts one of its own."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A MariaDB. Take a new_database() of it; a test that stops it starts one of its own."""
    with MariaDB() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A Redis, shared by all tests: each begins its keys in a way of its own, or empties it."""
    with Redis() as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[Callable[[type[Server]], Server]]:
    """A function that starts a server for this test alone, to be stopped, frozen or filled."""
    with ExitStack() as servers:
        yield lambda kind: servers.enter_context(kind())


class ContractCount:
    """Counts the tests of the contracts that passed, for each class that inherits them."""

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        report = yield
        cls = getattr(item, "cls", None)
        if report.when == "call" and report.passed and cls is not None and issubclass(cls, CONTRACTS):
            self.passed[getattr(cls, "called", cls.__name__.removeprefix("Test"))] += 1
        return report

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for name, number in sorted(self.passed.items()):
            terminalreporter.write_line(f"contract: {number} tests on {name}")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(ContractCount(), "contract-count")
