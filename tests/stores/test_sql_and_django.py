"""A Django site and our commands share one database: the same tables, whoever made them, on every engine."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlalchemy
from django.core.management import call_command
from django.db import connections
from django_acme_middleware import models
from django_acme_middleware.stores import DjangoChallengeStore, DjangoStore

from acme_middleware.errors import Conflict
from acme_middleware.stores.base import Expect, Fetch, key, new_version
from acme_middleware.stores.sql import SQLChallengeStore, SQLStore
from acme_middleware.testing import ChallengeStoreContract, FetchLogContract, LeaseContract, StoreContract

# Django knows the driver by this name; PyMySQL does for tests what mysqlclient does on a site.
if "MySQLdb" not in sys.modules:
    pymysql.install_as_MySQLdb()

TABLES = [f"acme_middleware_{name}" for name in ("fetch", "record", "token")]
KEY = key("certificate", "example.com")
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ENGINES = ["SQLite", "PostgreSQL", "MariaDB"]


@contextmanager
def as_alias(entry: dict[str, Any]) -> Iterator[str]:
    """A database of the site for a while, without what pytest-django does to those in its settings."""
    alias = f"extra_{new_version()[:8]}"
    connections.settings[alias] = connections.configure_settings({"default": {}, alias: entry})[alias]
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


@contextmanager
def databases(request: pytest.FixtureRequest, engine: str, folder: Path) -> Iterator[Callable[[], tuple[str, str]]]:
    """A function that makes an empty database of that engine, and returns its URL and its alias in the site."""
    with ExitStack() as aliases:

        def new() -> tuple[str, str]:
            if engine == "SQLite":
                path = folder / f"{new_version()}.sqlite3"
                path.touch()
                entry: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
                return f"sqlite:///{path}", aliases.enter_context(as_alias(entry))
            server = request.getfixturevalue(engine.lower())
            url = server.new_database()
            return url, aliases.enter_context(as_alias(server.django(url)))

        yield new


@pytest.fixture
def new_database(request: pytest.FixtureRequest, engine: str, tmp_path: Path) -> Iterator[Callable[[], tuple[str, str]]]:
    with databases(request, engine, tmp_path) as new:
        yield new


def migrate(alias: str, *, tables_are_there: bool = False) -> None:
    call_command("migrate", "acme_middleware", database=alias, fake_initial=tables_are_there, verbosity=0)


@pytest.fixture(autouse=True)
def _unblocked(django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


def schema(url: str) -> dict[str, Any]:
    """What the database itself says of our tables; names of indexes, and PostgreSQL's second ones for LIKE, do not matter."""
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            inspector = sqlalchemy.inspect(connection)
            found = {}
            for table in TABLES:
                columns = {
                    column["name"]: (
                        str(column["type"].compile(dialect=engine.dialect)).upper(),
                        getattr(column["type"], "collation", None),
                        column["nullable"],
                        bool(column.get("identity") or column.get("autoincrement") is True),
                    )
                    for column in inspector.get_columns(table)
                }
                indexed = {tuple(index["column_names"]) for index in inspector.get_indexes(table)}
                primary = tuple(inspector.get_pk_constraint(table)["constrained_columns"])
                found[table] = {"columns": columns, "indexes": indexed - {primary}, "primary key": primary}
            return found
    finally:
        engine.dispose()


@pytest.mark.parametrize("engine", ENGINES)
def test_our_tables_are_those_of_djangos_migration(new_database: Callable[[], tuple[str, str]]) -> None:
    (ours, _), (theirs, alias) = new_database(), new_database()
    assert SQLStore(ours).make_tables() == TABLES
    migrate(alias)
    assert schema(ours) == schema(theirs)
    assert set(schema(ours)["acme_middleware_record"]["columns"]) == {"key", "value", "version"}


@pytest.mark.parametrize("engine", ENGINES)
def test_init_adds_nothing_to_what_django_has_made(new_database: Callable[[], tuple[str, str]]) -> None:
    url, alias = new_database()
    migrate(alias)
    with connections[alias].cursor() as cursor:
        before = {table: connections[alias].introspection.get_constraints(cursor, table) for table in TABLES}
        assert SQLStore(url).make_tables() == []
        assert {table: connections[alias].introspection.get_constraints(cursor, table) for table in TABLES} == before


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("made_by", ["store init", "migrate"])
def test_each_reads_and_writes_what_the_other_wrote(new_database: Callable[[], tuple[str, str]], made_by: str) -> None:
    url, alias = new_database()
    if made_by == "store init":
        SQLStore(url).make_tables()
    migrate(alias, tables_are_there=made_by == "store init")
    pairs = [(SQLStore(url), DjangoStore(alias)), (DjangoStore(alias), SQLStore(url))]
    for number, (one, other) in enumerate(pairs):
        name = key("certificate", f"aBc-{number}")
        version = one.put(name, bytes(range(256)), expect=Expect.ABSENT)
        assert (other.get(name).value, other.get(name).version) == (bytes(range(256)), version)
        assert other.get(name.swapcase()) is None
        with pytest.raises(Conflict):
            other.put(name, b"mine", expect=Expect.ABSENT)
        newer = other.put(name, b"theirs", expect=version)
        with pytest.raises(Conflict):
            one.put(name, b"late", expect=version)
        assert [(found, record.version) for found, record in one.scan("certificate/aBc-")][-1] == (name, newer)
        assert one.delete(name, expect=newer) is True
        assert other.get(name) is None


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("time_zone", [None, "Europe/Berlin"], ids=["the site's zone is UTC", "the site's zone is not UTC"])
def test_tokens_expire_for_both_at_the_same_time(
    new_database: Callable[[], tuple[str, str]], time_zone: str | None, settings: Any
) -> None:
    if time_zone:
        settings.TIME_ZONE = time_zone
    url, alias = new_database()
    SQLStore(url).make_tables()
    ours, sites = SQLChallengeStore(url), DjangoChallengeStore(alias)
    for number, (one, other) in enumerate([(ours, sites), (sites, ours)]):
        lasting, passing = f"lasting-{number}", f"passing-{number}"
        one.present(lasting, f"{lasting}.answer", ttl=1800)
        one.present(passing, f"{passing}.answer", ttl=1.0)
        assert other.key_authorization(lasting) == f"{lasting}.answer"
        assert other.key_authorization(lasting.upper()) is None
        # Half an hour, as Django understands what was written.
        expires = models.Token.objects.using(alias).get(token=lasting).expires
        assert 1700 < (expires - datetime.now(UTC)).total_seconds() < 1900
        other.log_fetch(lasting, Fetch(1_700_000_000.25, "192.0.2.1", "a CA"))
        assert one.fetches(lasting) == [Fetch(1_700_000_000.25, "192.0.2.1", "a CA")]
        deadline = time.monotonic() + 10
        while other.key_authorization(passing) or one.key_authorization(passing):
            assert time.monotonic() < deadline, f"{passing} does not expire"
            time.sleep(0.02)
        other.present(f"next-{number}", "answer", ttl=1800)
        assert not models.Token.objects.using(alias).filter(token=passing).exists()
        other.remove(lasting)
        assert one.key_authorization(lasting) is None
        assert one.fetches(lasting) == []


@pytest.fixture(scope="class")
def migrated(request: pytest.FixtureRequest, django_db_blocker: Any, tmp_path_factory: Any) -> Iterator[str]:
    """One database for all tests of a class: Django's migrations take a second or more for a new one."""
    with django_db_blocker.unblock(), databases(request, request.cls.server, tmp_path_factory.mktemp("django")) as new:
        alias = new()[1]
        migrate(alias)
        yield alias


class OnServer:
    """A database on ``server``, emptied before each test."""

    server = ""

    @pytest.fixture
    def alias(self, migrated: str) -> str:
        for model in (models.Record, models.Token, models.Fetch):
            model._base_manager.using(migrated).all()._raw_delete(migrated)
        return migrated


class StateContracts(StoreContract, LeaseContract):
    """The contracts of a store, on a database of the site that is not its default one."""

    @pytest.fixture
    def store(self, alias: str) -> DjangoStore:
        return DjangoStore(alias)

    @pytest.fixture
    def reopen(self, alias: str) -> Callable[[], DjangoStore]:
        return lambda: DjangoStore(alias)

    def fill(self, store: Any, many: Iterable[tuple[str, bytes]]) -> None:
        rows = [models.Record(key=name, value=value, version=new_version()) for name, value in many]
        models.Record.objects.using(store.alias).bulk_create(rows, batch_size=1000)


class ChallengeContracts(ChallengeStoreContract, FetchLogContract):
    """The contracts of a challenge store and its log, on a database of the site that is not its default one."""

    @pytest.fixture
    def challenges(self, alias: str) -> DjangoChallengeStore:
        return DjangoChallengeStore(alias)

    @pytest.fixture
    def reopen(self, alias: str) -> Callable[[], DjangoChallengeStore]:
        return lambda: DjangoChallengeStore(alias)

    def held(self, challenges: Any) -> set[str]:
        return set(models.Token.objects.using(challenges.alias).values_list("token", flat=True))


class TestDjangoStoreInPostgreSQL(OnServer, StateContracts):
    server, called = "PostgreSQL", "Django store, PostgreSQL"


class TestDjangoStoreInMariaDB(OnServer, StateContracts):
    server, called = "MariaDB", "Django store, MariaDB"


class TestDjangoChallengesInPostgreSQL(OnServer, ChallengeContracts):
    server, called = "PostgreSQL", "Django challenge store, PostgreSQL"


class TestDjangoChallengesInMariaDB(OnServer, ChallengeContracts):
    server, called = "MariaDB", "Django challenge store, MariaDB"
