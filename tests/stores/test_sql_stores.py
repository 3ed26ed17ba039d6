"""The stores in SQL databases: the contracts on each engine, and what only a database on a network can do."""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy
from database_server import DatabaseServer
from mariadb_server import MariaDB
from postgresql_server import PostgreSQL
from sqlalchemy import delete, insert, select, text

from acme_middleware.errors import AcmeMiddlewareError, Conflict, StoreMisconfigured, StoreUnavailable
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.base import Expect, Fetch, key, new_version
from acme_middleware.stores.sql import SQLChallengeStore, SQLStore
from acme_middleware.stores.sql_connections import Database
from acme_middleware.stores.sql_limits import TOKEN_LIMIT, USUAL_LIMIT
from acme_middleware.stores.sql_tables import fetches, records, tokens
from acme_middleware.testing import ChallengeStoreContract, FetchLogContract, LeaseContract, StoreContract
from acme_middleware.testing.threads import together

KEY = key("certificate", "example.com")
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
SERVERS = [pytest.param(PostgreSQL, id="PostgreSQL"), pytest.param(MariaDB, id="MariaDB")]
SLACK = 1.0
"""Seconds that a busy machine may take on top of a limit."""


def with_tables(url: str) -> str:
    SQLStore(url).make_tables()
    return url


class OnSQLite:
    """Each test has a file of its own."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return with_tables(f"sqlite:///{tmp_path}/acme.sqlite3")


@pytest.fixture(scope="class")
def of_class(request: pytest.FixtureRequest) -> Iterator[Database]:
    """One database for all tests of a class on a server: making one takes longer than most of them."""
    database = Database(with_tables(request.getfixturevalue(request.cls.server).new_database()))
    yield database
    database.engine.dispose()


class OnServer:
    """A database of ``server``, emptied before each test."""

    server = ""

    @pytest.fixture
    def url(self, of_class: Database) -> str:
        with of_class.use() as connection:
            for table in (records, tokens, fetches):
                connection.execute(delete(table))
        return of_class.url.render_as_string(hide_password=False)


class StateContracts(StoreContract, LeaseContract):
    """The contracts of a store, on a database by its URL."""

    @pytest.fixture
    def store(self, url: str) -> SQLStore:
        return SQLStore(url)

    @pytest.fixture
    def reopen(self, url: str) -> Callable[[], SQLStore]:
        return lambda: SQLStore(url)

    def fill(self, store: Any, many: Iterable[tuple[str, bytes]]) -> None:
        rows = [{"key": name, "value": value, "version": new_version()} for name, value in many]
        engine = sqlalchemy.create_engine(store.database.url)
        with engine.begin() as connection:  # one commit, not ten thousand
            connection.execute(insert(records), rows)
        engine.dispose()


class ChallengeContracts(ChallengeStoreContract, FetchLogContract):
    """The contracts of a challenge store and its log, on a database by its URL."""

    @pytest.fixture
    def challenges(self, url: str) -> SQLChallengeStore:
        return SQLChallengeStore(url)

    @pytest.fixture
    def reopen(self, url: str) -> Callable[[], SQLChallengeStore]:
        return lambda: SQLChallengeStore(url)

    def held(self, challenges: Any) -> set[str]:
        with challenges.database.use(tokens) as connection:
            return set(connection.execute(select(tokens.c.token)).scalars())


class TestStoreInSQLite(OnSQLite, StateContracts):
    called = "SQL store, SQLite"


class TestStoreInPostgreSQL(OnServer, StateContracts):
    server, called = "postgresql", "SQL store, PostgreSQL"


class TestStoreInMariaDB(OnServer, StateContracts):
    server, called = "mariadb", "SQL store, MariaDB"


class TestChallengesInSQLite(OnSQLite, ChallengeContracts):
    called = "SQL challenge store, SQLite"


class TestChallengesInPostgreSQL(OnServer, ChallengeContracts):
    server, called = "postgresql", "SQL challenge store, PostgreSQL"


class TestChallengesInMariaDB(OnServer, ChallengeContracts):
    server, called = "mariadb", "SQL challenge store, MariaDB"


@pytest.fixture
def shared(request: pytest.FixtureRequest, kind: type[DatabaseServer]) -> DatabaseServer:
    """The server of that kind that tests share."""
    server: DatabaseServer = request.getfixturevalue("postgresql" if kind is PostgreSQL else "mariadb")
    return server


def as_admin(server: Any, url: str, *statements: str) -> list[Any]:
    """Run statements in the database of that URL, with all rights; the first value of each that has one."""
    database = url.rpartition("/")[2]
    admin = sqlalchemy.create_engine(server.admin_url.rpartition("/")[0] + "/" + database, isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            done = [connection.execute(text(statement)) for statement in statements]
            return [result.scalar() for result in done if result.returns_rows]
    finally:
        admin.dispose()


def every_operation(url: str) -> dict[str, Callable[[], object]]:
    """What the contracts have, by name, on stores that are all connected already."""
    state, challenges = SQLStore(url), SQLChallengeStore(url)
    return {
        "get": lambda: state.get(KEY),
        "put": lambda: state.put(KEY, b"new"),
        "create": lambda: state.put(key("order", "new"), b"new", expect=Expect.ABSENT),
        "compare and swap": lambda: state.put(KEY, b"new", expect="version"),
        "delete": lambda: state.delete(KEY),
        "scan": lambda: list(state.scan("certificate/")),
        "check": lambda: state.check(writable=True),
        "key_authorization": lambda: challenges.key_authorization(TOKEN),
        "present": lambda: challenges.present(TOKEN, TOKEN + ".answer", ttl=60),
        "remove": lambda: challenges.remove(TOKEN),
        "log_fetch": lambda: challenges.log_fetch(TOKEN, Fetch(1.0, "192.0.2.1", "")),
        "fetches": lambda: challenges.fetches(TOKEN),
    }


def outcomes(operations: dict[str, Callable[[], object]]) -> dict[str, tuple[object, float]]:
    """What each operation raised or returned, and the seconds that it took, all of them at the same time."""

    def timed(call: Callable[[], object]) -> Callable[[], tuple[object, float]]:
        def run() -> tuple[object, float]:
            start = time.monotonic()
            try:
                result = call()
            except AcmeMiddlewareError as error:
                result = error
            return result, time.monotonic() - start

        return run

    return dict(zip(operations, together([timed(call) for call in operations.values()]), strict=True))


def assert_unavailable_in_time(found: dict[str, tuple[object, float]]) -> None:
    for name, (result, seconds) in found.items():
        limit = TOKEN_LIMIT if name == "key_authorization" else USUAL_LIMIT
        assert isinstance(result, StoreUnavailable), f"{name}: {result!r}"
        assert seconds < limit + SLACK, f"{name} took {seconds:.1f} s"


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("connected", [True, False], ids=["connected before", "not connected yet"])
def test_every_operation_ends_in_time_while_the_server_is_frozen(own_server: Any, kind: Any, connected: bool) -> None:
    server = own_server(kind)
    operations = every_operation(with_tables(server.url))
    if connected:
        assert not [name for name, (result, _) in outcomes(operations).items() if isinstance(result, StoreUnavailable)]
    server.freeze()
    try:
        assert_unavailable_in_time(outcomes(operations))
    finally:
        server.thaw()
    # What was under way is not taken for the answer to what is asked now, and no process starts anew.
    results = outcomes(operations)
    deadline = time.monotonic() + 10.0  # a server that has just woken on a busy machine may be late for a limit of one second
    while time.monotonic() < deadline and any(isinstance(result, StoreUnavailable) for result, _ in results.values()):
        results = outcomes(operations)
    assert not [name for name, (result, _) in results.items() if isinstance(result, StoreUnavailable)]
    assert operations["key_authorization"]() in (None, TOKEN + ".answer")


@pytest.mark.parametrize("kind", SERVERS)
def test_a_killed_server_fails_at_once_and_is_used_again_when_it_is_back(own_server: Any, kind: Any) -> None:
    server = own_server(kind)
    url = with_tables(server.url)
    store, challenges = SQLStore(url), SQLChallengeStore(url)
    version = store.put(KEY, b"written")
    challenges.present(TOKEN, TOKEN + ".answer", ttl=600)
    server.kill()
    for call in (lambda: store.get(KEY), lambda: challenges.key_authorization(TOKEN)):
        start = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            call()
        assert time.monotonic() - start < TOKEN_LIMIT
        assert "up" in caught.value.hint
    server.restart()
    assert store.put(KEY, b"again", expect=version)
    assert challenges.key_authorization(TOKEN) == TOKEN + ".answer"


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port of 127.0.0.1 that answers no one, not even with a refusal."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = []
        try:
            while True:  # until its queue is full
                waiting.append(socket.socket())
                waiting[-1].settimeout(0.3)
                try:
                    waiting[-1].connect(address)
                except TimeoutError:
                    break
            yield address[1]
        finally:
            for connection in waiting:
                connection.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
def test_every_operation_ends_in_time_where_nothing_comes_back(black_hole: int, scheme: str) -> None:
    assert_unavailable_in_time(outcomes(every_operation(f"{scheme}://acme:secret@127.0.0.1:{black_hole}/acme")))


def test_opening_connects_to_nothing_so_a_web_process_starts_without_its_database() -> None:
    for scheme in ("postgresql", "postgresql+psycopg", "mysql", "mysql+pymysql", "mariadb", "mariadb+pymysql"):
        store = open_store(f"{scheme}://acme:secret@127.0.0.1:1/acme")
        challenges = open_challenges(f"{scheme}://acme:secret@127.0.0.1:1/acme")
        assert isinstance(store, SQLStore)
        assert isinstance(challenges, SQLChallengeStore)
        assert challenges.blocking is True
        assert challenges.brief is False
        with pytest.raises(StoreUnavailable):
            challenges.key_authorization(TOKEN)


def test_a_file_of_this_machine_is_read_without_a_thread_in_between(tmp_path: Path) -> None:
    assert SQLChallengeStore(f"sqlite:///{tmp_path}/acme.sqlite3").brief is True


@pytest.mark.parametrize("parameters", ["timeout=20", "uri=true"])
def test_what_the_url_of_a_file_says_of_time_limits_and_opening_stays_ours(tmp_path: Path, parameters: str) -> None:
    url = with_tables(f"sqlite:///{tmp_path}/acme.sqlite3?{parameters}")
    open_store(url).put(KEY, b"1")
    assert [key for key, _ in open_store(url).scan("")] == [KEY]
    with sqlite3.connect(tmp_path / "acme.sqlite3", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="locked"):
            open_challenges(url).key_authorization(TOKEN)
        assert time.monotonic() - began < TOKEN_LIMIT + SLACK
        other.execute("ROLLBACK")
    other.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_host_that_is_none_is_named_as_what_is_wrong(scheme: str) -> None:
    password = new_version()
    with pytest.raises(StoreMisconfigured, match="cannot be connected to as its URL says") as caught:
        open_store(f"{scheme}://user:{password}@db..internal/acme").get(KEY)
    assert password not in "".join(traceback.format_exception(caught.value))


def test_what_the_url_says_of_kept_statements_is_not_followed() -> None:
    with pytest.raises(StoreUnavailable, match="refused"):
        open_store("postgresql://user@127.0.0.1:1/acme?prepare_threshold=5").get(KEY)


def test_sqlite_file_is_made_by_init_alone_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "acme.sqlite3"
    store = SQLStore(f"sqlite:///{path}")
    with pytest.raises(StoreMisconfigured) as caught:
        store.get(KEY)
    assert "acme-middleware store init" in caught.value.hint
    assert not path.exists()
    store.make_tables()
    assert path.stat().st_mode & 0o777 == 0o600
    assert store.get(KEY) is None


def test_a_reader_of_a_locked_file_gives_up_within_two_seconds(tmp_path: Path) -> None:
    url = with_tables(f"sqlite:///{tmp_path}/acme.sqlite3")
    challenges = SQLChallengeStore(url)
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("BEGIN EXCLUSIVE"))
        start = time.monotonic()
        with pytest.raises(StoreUnavailable, match="locked"):
            challenges.key_authorization(TOKEN)
        assert time.monotonic() - start < 2
        connection.execute(text("ROLLBACK"))
    engine.dispose()
    assert challenges.key_authorization(TOKEN) is None


@pytest.mark.parametrize("kind", SERVERS)
def test_init_makes_what_is_missing_and_may_be_run_again_and_by_several_at_once(shared: Any) -> None:
    url = shared.new_database()
    with pytest.raises(StoreMisconfigured, match="has no usable tables") as caught:
        SQLStore(url).get(KEY)
    assert "acme-middleware store init" in caught.value.hint
    with pytest.raises(StoreMisconfigured, match="has no usable tables"):
        SQLChallengeStore(url).key_authorization(TOKEN)
    made = together([SQLStore(url).make_tables] * 4)
    assert {name for names in made for name in names} == {f"acme_middleware_{name}" for name in ("record", "token", "fetch")}
    SQLStore(url).put(KEY, b"kept")
    as_admin(shared, url, "DROP TABLE acme_middleware_token")
    assert SQLChallengeStore(url).make_tables() == ["acme_middleware_token"]
    assert SQLStore(url).make_tables() == []
    assert SQLStore(url).get(KEY).value == b"kept"


@pytest.mark.parametrize("kind", SERVERS)
def test_the_printed_statements_make_the_tables(shared: Any) -> None:
    url = shared.new_database()
    as_admin(shared, url, *SQLStore(url).table_statements())
    if shared.scheme.startswith("postgresql"):
        as_admin(shared, url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO acme")
    SQLStore(url).check(writable=True)
    SQLChallengeStore(url).present(TOKEN, TOKEN + ".answer", ttl=60)


PASSWORD = "pa:ss@w/ord%?#"


@pytest.fixture
def limited(shared: Any) -> tuple[str, str]:
    """A database with tables, as its owner and as another user of it, who has no right to any of them."""
    url = with_tables(shared.new_database())
    user = f"web_{new_version()[:8]}"
    if shared.scheme.startswith("postgresql"):
        as_admin(shared, url, f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
    else:
        # One right to the database: without any it is not there for him.
        name = url.rpartition("/")[2]
        make = f"CREATE USER {user} IDENTIFIED BY '{PASSWORD}'".replace(":", r"\:")
        as_admin(shared, url, make, f"GRANT TRIGGER ON {name}.* TO {user}")
    return url, url.replace(f"acme:{shared.password}", f"{user}:{quote(PASSWORD, safe='')}")


@pytest.mark.parametrize("kind", SERVERS)
def test_without_rights_the_statement_that_gives_them_is_named(shared: Any, limited: tuple[str, str]) -> None:
    owners, url = limited
    for use in (lambda: SQLStore(url).check(writable=True), lambda: SQLChallengeStore(url).present(TOKEN, "answer", ttl=60)):
        with pytest.raises(StoreMisconfigured, match="does not allow it") as caught:
            use()
        assert PASSWORD not in str(caught.value) + caught.value.hint
        as_admin(shared, owners, *caught.value.hint.partition(": ")[2].removesuffix(";").split("; "))
        use()


@pytest.mark.parametrize("kind", SERVERS)
def test_a_web_worker_needs_to_read_tokens_and_to_log_fetches_and_no_more(shared: Any, limited: tuple[str, str]) -> None:
    owners, url = limited
    user = url.partition("//")[2].partition(":")[0]
    rights = {"token": "SELECT", "fetch": "SELECT, INSERT"}
    as_admin(shared, owners, *(f"GRANT {may} ON acme_middleware_{table} TO {user}" for table, may in rights.items()))
    issuer, worker = SQLChallengeStore(owners), SQLChallengeStore(url)
    issuer.present(TOKEN, TOKEN + ".answer", ttl=60)
    assert worker.key_authorization(TOKEN) == TOKEN + ".answer"
    worker.log_fetch(TOKEN, Fetch(1.5, "192.0.2.1", "a CA"))
    assert issuer.fetches(TOKEN) == [Fetch(1.5, "192.0.2.1", "a CA")]
    for refused in (lambda: worker.remove(TOKEN), lambda: SQLStore(url).get(KEY)):
        with pytest.raises(StoreMisconfigured, match="does not allow it"):
            refused()


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize(
    ("change", "said", "fix"),
    [
        pytest.param(
            lambda s: s.url.replace(s.password, "wr0ng-passw0rd"), "does not let us in", "password", id="wrong password"
        ),
        pytest.param(lambda s: s.url.replace("//acme:", "//nobody:"), "does not let us in", "user", id="unknown user"),
        pytest.param(lambda s: s.url_of("acme_nope", user="acme"), "is not there", "CREATE DATABASE", id="unknown database"),
        pytest.param(lambda s: s.url + "?colour=red", "as its URL says", "options", id="an option that the driver has not"),
    ],
)
def test_what_only_somebody_can_mend_is_refused_with_the_fix_and_without_the_password(
    shared: Any, change: Any, said: str, fix: str
) -> None:
    url = change(shared)
    for call in (lambda: SQLStore(url).check(writable=True), lambda: SQLChallengeStore(url).key_authorization(TOKEN)):
        with pytest.raises(StoreMisconfigured, match=said) as caught:
            call()
        assert fix in caught.value.hint
        told = "".join(traceback.format_exception(caught.value)) + caught.value.hint + repr(SQLStore(url))
        assert shared.password not in told
        assert "wr0ng-passw0rd" not in told


@pytest.mark.parametrize("kind", SERVERS)
def test_a_failing_write_tells_nothing_of_what_was_written(shared: Any) -> None:
    url = with_tables(shared.new_database())
    store, secret = SQLStore(url), new_version()
    as_admin(shared, url, "ALTER TABLE acme_middleware_record ADD CONSTRAINT no_tests CHECK (version = 'never')")
    with pytest.raises(StoreUnavailable) as caught:
        store.put(KEY, secret.encode())
    told = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert secret not in told
    assert secret.encode().hex() not in told


def test_a_server_that_takes_no_writes_is_named_as_what_it_is(postgresql: PostgreSQL) -> None:
    url = with_tables(postgresql.new_database())
    as_admin(postgresql, url, f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only = on")
    assert SQLStore(url).get(KEY) is None
    with pytest.raises(StoreMisconfigured, match="is read-only") as caught:
        SQLStore(url).put(KEY, b"value")
    assert "primary" in caught.value.hint


@pytest.mark.parametrize("kind", SERVERS)
def test_a_child_after_a_fork_has_connections_of_its_own(shared: Any) -> None:
    url = with_tables(shared.new_database())
    store, challenges = SQLStore(url), SQLChallengeStore(url)
    own = "pg_backend_pid()" if shared.scheme.startswith("postgresql") else "connection_id()"

    def session() -> int:
        with challenges.database.use() as connection:
            return int(connection.execute(text(f"SELECT {own}")).scalar_one())

    version = store.put(KEY, b"parent")
    challenges.present(TOKEN, TOKEN + ".answer", ttl=60)
    before = session()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        # Nothing of pytest's may run here; what it says is all that the parent hears.
        try:
            said = f"{session()} {challenges.key_authorization(TOKEN)} {store.put(KEY, b'child', expect=version)}"
            del challenges, store
            import gc

            gc.collect()
        except BaseException as error:
            said = repr(error)
        os.write(writing, said.encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs, answer, new = pipe.read().split(" ")
    assert int(theirs) != before
    assert answer == TOKEN + ".answer"
    assert store.get(KEY).version == new
    assert session() == before, "the parent's own connection has ended"


@pytest.mark.parametrize("kind", SERVERS)
def test_idle_connections_are_few(shared: Any) -> None:
    url = with_tables(shared.new_database())
    challenges = SQLChallengeStore(url)
    name = url.rpartition("/")[2]
    assert together([lambda: challenges.key_authorization(TOKEN)] * 8) == [None] * 8
    listed = (
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        if shared.scheme.startswith("postgresql")
        else f"SELECT count(*) FROM information_schema.processlist WHERE db = '{name}' AND id <> connection_id()"
    )
    deadline = time.monotonic() + 5
    while not 1 <= (idle := as_admin(shared, url, listed)[0]) <= 2:  # a server takes its time to see one end
        assert time.monotonic() < deadline, f"{idle} idle connections"
        threading.Event().wait(0.05)


@pytest.mark.parametrize(
    ("url", "said", "fix"),
    [
        pytest.param("postgresql://acme:s3cret@host", "names no database", "postgresql+psycopg://", id="no database"),
        pytest.param("sqlite://", "names no file", "sqlite:////var", id="SQLite in memory"),
        pytest.param("sqlite:///:memory:", "names no file", "sqlite:////var", id="SQLite in memory, in other words"),
        pytest.param(
            "mysql://acme:s3cret@host:port/acme", "is no URL of a database", "percent-encoded", id="a port of letters"
        ),
        pytest.param("postgresql://acme:a@s3cret@host/acme", "is no URL of a database", "%40", id="@ in the password"),
        pytest.param("mysql://acme:a@s3cret@host:1/acme", "is no URL of a database", "%40", id="@ in the password, MySQL"),
        pytest.param("postgresql://acme:a@b/s3cret@host/acme", "is no URL of a database", "%2F", id="@ and / in the password"),
        pytest.param("mysql://acme:a@s3cret/b?c@host/acme", "is no URL of a database", "%3F", id="@, / and ? in the password"),
        pytest.param(
            "mysql://acme:a@b/c?s3cret=d@host/acme", "is no URL of a database", "%3F", id="@ and a query's signs in it"
        ),
        pytest.param("postgresql://ac/me:s3cret@host/acme", "is no URL of a database", "%2F", id="a slash in the user"),
        pytest.param("mariadb:s3cret", "is no URL of a database", "mariadb+pymysql://", id="no URL at all"),
        pytest.param(
            "postgresql+psycopg2://acme:s3cret@host/acme",
            "no store for postgresql+psycopg2:",
            "postgresql",
            id="a driver that is not ours",
        ),
    ],
)
def test_a_wrong_url_is_refused_when_opened(url: str, said: str, fix: str) -> None:
    for opened in (open_store, open_challenges):
        with pytest.raises(StoreMisconfigured) as caught:
            opened(url)
        assert said in str(caught.value)
        assert fix in caught.value.hint
        assert "s3cret" not in "".join(traceback.format_exception(caught.value)) + caught.value.hint


@pytest.mark.parametrize(
    ("url", "place"),
    [
        pytest.param("postgresql://acme:a%40s3cret@host/acme", "'acme' at host", id="an encoded @ in the password"),
        pytest.param("mysql://acme@work:s3:cr?et/x@host:1/acme", "'acme' at host:1", id="@ in the user, signs in the password"),
        pytest.param("postgresql:///acme?host=/run/people@work", "'acme' at localhost", id="@ in the query, no password"),
        pytest.param("sqlite:////srv/people@work/acme.db", "'/srv/people@work/acme.db'", id="@ in the path of a file"),
    ],
)
def test_an_at_sign_that_is_no_passwords_is_left_alone(url: str, place: str) -> None:
    assert repr(open_store(url)).endswith(f"database {place}>")


@pytest.mark.parametrize(
    ("missing", "url"),
    [
        pytest.param("sqlalchemy", "sqlite:///x.sqlite3", id="SQLAlchemy"),
        pytest.param("psycopg", "postgresql://acme@host/acme", id="psycopg"),
        pytest.param("pymysql", "mysql://acme@host/acme", id="PyMySQL"),
    ],
)
def test_a_missing_driver_is_named_with_the_extra_when_opened(monkeypatch: Any, missing: str, url: str) -> None:
    for name in [name for name in sys.modules if name.startswith("acme_middleware.stores.sql")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("acme_middleware.stores.sql")
    monkeypatch.setitem(sys.modules, missing, None)
    for opened in (open_store, open_challenges):
        with pytest.raises(StoreMisconfigured, match=missing) as caught:
            opened(url)
        assert caught.value.hint == "pip install 'acme-middleware[sql]'"


def test_of_many_writers_on_one_file_none_is_told_that_it_is_locked(tmp_path: Path) -> None:
    url = with_tables(f"sqlite:///{tmp_path}/acme.sqlite3")

    def count() -> int:
        store, won = SQLStore(url), 0
        for number in range(20):
            try:
                store.put(key("order", str(number)), b"", expect=Expect.ABSENT)
            except Conflict:
                continue
            won += 1
        return won

    assert sum(together([count] * 6)) == 20
