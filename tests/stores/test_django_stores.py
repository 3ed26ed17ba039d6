"""The stores in Django's database: the contracts, and what only a database can do wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.db.models.signals import post_delete, pre_delete
from django.test.utils import CaptureQueriesContext
from django_acme_middleware import models
from django_acme_middleware.stores import DjangoChallengeStore, DjangoStore

from acme_middleware.errors import Conflict, StoreMisconfigured, StoreUnavailable
from acme_middleware.lease import lease
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.base import Expect, Fetch, key, new_version
from acme_middleware.testing import ChallengeStoreContract, FetchLogContract, LeaseContract, StoreContract
from acme_middleware.testing.threads import together

pytestmark = pytest.mark.django_db(transaction=True)

KEY = key("certificate", "example.com")
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"


class TestDjangoStore(StoreContract, LeaseContract):
    """The contract of a store."""

    @pytest.fixture
    def store(self) -> DjangoStore:
        return DjangoStore()

    @pytest.fixture
    def reopen(self, store: DjangoStore) -> Callable[[], DjangoStore]:
        return lambda: DjangoStore("default")

    def fill(self, store: Any, records: Iterable[tuple[str, bytes]]) -> None:
        models.Record.objects.bulk_create(
            [models.Record(key=name, value=value, version=new_version()) for name, value in records]
        )


class TestDjangoChallengeStore(ChallengeStoreContract, FetchLogContract):
    """The contracts of a challenge store and of its log."""

    @pytest.fixture
    def challenges(self) -> DjangoChallengeStore:
        return DjangoChallengeStore()

    @pytest.fixture
    def reopen(self, challenges: DjangoChallengeStore) -> Callable[[], DjangoChallengeStore]:
        return lambda: DjangoChallengeStore("default")

    def held(self, challenges: Any) -> set[str]:
        return set(models.Token.objects.values_list("token", flat=True))


@pytest.fixture
def store() -> DjangoStore:
    return DjangoStore()


@pytest.fixture
def challenges() -> DjangoChallengeStore:
    return DjangoChallengeStore()


def test_the_tests_run_over_a_file_that_threads_share() -> None:
    assert Path(connection.settings_dict["NAME"]).is_file()


WRITES = [
    pytest.param(lambda: DjangoStore().put(KEY, b"new"), id="write"),
    pytest.param(lambda: DjangoStore().put(key("order", "new"), b"new", expect=Expect.ABSENT), id="create"),
    pytest.param(lambda: DjangoStore().put(KEY, b"new", expect="version"), id="compare and swap"),
    pytest.param(lambda: DjangoStore().delete(KEY), id="delete"),
    pytest.param(lambda: DjangoStore().delete(KEY, expect="version"), id="compare and delete"),
    pytest.param(lambda: DjangoStore().check(writable=True), id="try out"),
    pytest.param(lambda: DjangoChallengeStore().present("new", "new.answer", ttl=60), id="present"),
    pytest.param(lambda: DjangoChallengeStore().remove(TOKEN), id="remove"),
    pytest.param(lambda: DjangoChallengeStore().log_fetch(TOKEN, Fetch(1.0, "192.0.2.1", "")), id="log a fetch"),
]


@pytest.fixture
def some_data(store: DjangoStore, challenges: DjangoChallengeStore) -> None:
    models.Record.objects.create(key=KEY, value=b"old", version="version")
    challenges.present(TOKEN, TOKEN + ".answer", ttl=60)


@pytest.mark.usefixtures("some_data")
@pytest.mark.parametrize("write", WRITES)
def test_inside_a_transaction_nothing_is_written_and_the_way_out_is_named(write: Callable[[], object]) -> None:
    with transaction.atomic():
        with pytest.raises(StoreMisconfigured, match="inside a transaction") as caught:
            write()
        assert "ATOMIC_REQUESTS" in caught.value.hint
        assert "non_atomic_requests" in caught.value.hint
    assert list(models.Record.objects.values_list("key", "version")) == [(KEY, "version")]
    assert list(models.Token.objects.values_list("token", flat=True)) == [TOKEN]
    assert not models.Fetch.objects.exists()


@pytest.mark.usefixtures("some_data")
def test_reading_inside_a_transaction_works_and_leaves_it_open(store: DjangoStore, challenges: DjangoChallengeStore) -> None:
    with transaction.atomic():
        models.Record.objects.create(key="order/x", value=b"", version="1")
        assert store.get(KEY) is not None
        assert challenges.key_authorization(TOKEN) == TOKEN + ".answer"
        transaction.set_rollback(True)
    assert store.get("order/x") is None


@pytest.mark.usefixtures("some_data")
@pytest.mark.parametrize("write", WRITES[:5])
def test_a_write_of_state_is_one_statement(write: Callable[[], object]) -> None:
    with CaptureQueriesContext(connection) as queries:
        write()
    statements = [query["sql"] for query in queries if query["sql"] not in ("BEGIN", "COMMIT")]
    assert len(statements) == 1, statements
    assert statements[0].startswith(("INSERT", "UPDATE", "DELETE"))


@pytest.mark.usefixtures("some_data")
@pytest.mark.parametrize("write", WRITES[:8])
def test_a_write_begins_no_transaction_with_a_read(write: Callable[[], object]) -> None:
    with CaptureQueriesContext(connection) as queries:
        write()
    statements = [query["sql"] for query in queries]
    after_begin = [later for earlier, later in pairwise(statements) if earlier == "BEGIN"]
    assert all(statement.startswith(("INSERT", "UPDATE", "DELETE")) for statement in after_begin), statements


@pytest.mark.usefixtures("some_data")
def test_deleting_compares_the_version_in_the_statement_though_an_audit_app_listens(store: DjangoStore) -> None:
    def changed_by_a_peer(**_: Any) -> None:
        models.Record.objects.filter(key=KEY).update(version="newer")

    pre_delete.connect(changed_by_a_peer)
    post_delete.connect(changed_by_a_peer)
    try:
        with CaptureQueriesContext(connection) as queries:
            assert store.delete(KEY, expect="version") is True
    finally:
        pre_delete.disconnect(changed_by_a_peer)
        post_delete.disconnect(changed_by_a_peer)
    assert [query["sql"].split()[0] for query in queries] == ["DELETE"]


def in_a_thread(call: Callable[[], object]) -> tuple[object, bool]:
    """What the call returns in a thread of its own, and whether that thread's connection is still open after it."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(call())
        finally:
            found.append(connection.connection is not None)
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0], found[-1]


@pytest.mark.usefixtures("some_data")
@pytest.mark.parametrize(
    "call",
    [
        *WRITES,
        pytest.param(lambda: DjangoStore().get(KEY), id="get"),
        pytest.param(lambda: list(DjangoStore().scan("")), id="scan"),
        pytest.param(lambda: DjangoChallengeStore().key_authorization(TOKEN), id="look up"),
        pytest.param(lambda: DjangoChallengeStore().fetches(TOKEN), id="list fetches"),
    ],
)
def test_a_thread_outside_a_request_leaves_no_connection_open(call: Callable[[], object]) -> None:
    assert in_a_thread(call)[1] is False


@pytest.mark.usefixtures("some_data")
def test_a_failure_in_a_thread_leaves_no_connection_open(store: DjangoStore) -> None:
    def fail() -> str:
        with pytest.raises(Conflict):
            store.put(KEY, b"late", expect="an older version")
        with pytest.raises(Conflict):
            store.put(KEY, b"late", expect=Expect.ABSENT)
        return "failed as it should"

    assert in_a_thread(fail) == ("failed as it should", False)


@pytest.mark.usefixtures("some_data")
def test_a_connection_of_the_request_is_left_as_it_was(store: DjangoStore) -> None:
    connection.ensure_connection()
    mine = connection.connection
    store.put(KEY, b"new")
    with pytest.raises(Conflict):
        store.put(KEY, b"late", expect="an older version")
    assert store.get(KEY) is not None
    assert connection.connection is mine
    assert connection.get_autocommit()


def test_the_lease_thread_leaves_no_connection_open(store: DjangoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    ours = type(connections["default"])
    connect = ours.get_new_connection

    def counted(self: Any, parameters: Any) -> Any:
        opened.append((threading.current_thread(), self))
        return connect(self, parameters)

    monkeypatch.setattr(ours, "get_new_connection", counted)
    with lease(store, "example.com", ttl=0.3) as held:
        for _ in range(100):
            if any(thread is not threading.main_thread() for thread, _ in opened):
                break
            threading.Event().wait(0.05)
        held.check()
    others = [wrapper for thread, wrapper in opened if thread is not threading.main_thread()]
    assert others
    assert all(wrapper.connection is None for wrapper in others)


@pytest.fixture
def no_tables() -> Iterator[None]:
    """The app is installed and nobody has run migrate."""
    with connection.schema_editor() as editor:
        for model in (models.Record, models.Token, models.Fetch):
            editor.delete_model(model)
    yield
    with connection.schema_editor() as editor:
        for model in (models.Record, models.Token, models.Fetch):
            editor.create_model(model)


@pytest.mark.usefixtures("no_tables")
@pytest.mark.parametrize(
    "call",
    [
        *WRITES,
        pytest.param(lambda: DjangoStore().get(KEY), id="get"),
        pytest.param(lambda: DjangoStore().scan(""), id="scan"),
        pytest.param(lambda: DjangoStore().check(writable=False), id="check for reading"),
        pytest.param(lambda: DjangoChallengeStore().key_authorization(TOKEN), id="look up"),
        pytest.param(lambda: DjangoChallengeStore().fetches(TOKEN), id="list fetches"),
    ],
)
def test_a_missing_table_says_to_run_migrate(call: Callable[[], object]) -> None:
    with pytest.raises(StoreMisconfigured, match="no such table: acme_middleware_") as caught:
        call()
    assert "manage.py migrate" in caught.value.hint


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """We wait for a lock for 0.2 seconds; the default is 5."""
    connection.close()
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.2)
    yield
    connection.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "call",
    [
        WRITES[0],
        WRITES[6],
        pytest.param(lambda: DjangoStore().get(KEY), id="get"),
        pytest.param(lambda: DjangoChallengeStore().key_authorization(TOKEN), id="look up"),
    ],
)
def test_a_locked_database_is_unavailable_and_works_when_the_lock_is_gone(call: Callable[[], object]) -> None:
    locker = connection.copy()
    try:
        with locker.cursor() as cursor:
            cursor.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailable, match="locked"):
                call()
            cursor.execute("ROLLBACK")
        call()
    finally:
        locker.close()


def test_a_read_only_file_is_a_matter_for_a_person(store: DjangoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "NAME", f"file:{connection.settings_dict['NAME']}?mode=ro")
        with pytest.raises(StoreMisconfigured, match="readonly") as caught:
            store.put(KEY, b"value")
        assert "write access" in caught.value.hint


def test_writers_in_parallel_are_serialised_and_lose_nothing(store: DjangoStore) -> None:
    """Each reads and then writes, which a deferred transaction of SQLite could not do without a deadlock."""

    def write(worker: int) -> Callable[[], None]:
        def call() -> None:
            for number in range(15):
                where = key("renewal", f"{worker}-{number}")
                version = store.put(where, b"1", expect=Expect.ABSENT)
                assert store.get(where) is not None
                store.put(where, b"2", expect=version)

        return call

    together([write(worker) for worker in range(6)])
    assert [record.value for _, record in store.scan("renewal/")] == [b"2"] * 90


class ReplicaRouter:
    """Reads go to a replica that does not exist, writes to the primary: whoever reads from it fails."""

    def db_for_read(self, model: object, **hints: object) -> str:
        return "replica"

    def db_for_write(self, model: object, **hints: object) -> str:
        return "default"


def test_reads_ask_the_primary(settings: Any, store: DjangoStore, challenges: DjangoChallengeStore) -> None:
    settings.DATABASE_ROUTERS = [ReplicaRouter()]
    version = store.put(KEY, b"value")
    record = store.get(KEY)
    assert record is not None
    assert record.version == version
    assert [name for name, _ in store.scan("")] == [KEY]
    challenges.present(TOKEN, "answer", ttl=60)
    assert challenges.key_authorization(TOKEN) == "answer"
    assert challenges.fetches(TOKEN) == []


def test_expiry_is_by_the_clock_of_the_database(challenges: DjangoChallengeStore, settings: Any) -> None:
    settings.TIME_ZONE = "Pacific/Auckland"
    with CaptureQueriesContext(connection) as queries:
        challenges.present(TOKEN, "answer", ttl=60)
        with transaction.atomic():  # else it is looked up by another connection
            assert challenges.key_authorization(TOKEN) == "answer"
    timed = [query["sql"] for query in queries if "expires" in query["sql"]]
    assert len(timed) == 3
    assert all("'NOW'" in sql for sql in timed)


def test_fetches_of_tokens_that_expired_are_swept(challenges: DjangoChallengeStore) -> None:
    challenges.present(TOKEN, "answer", ttl=60)
    challenges.log_fetch(TOKEN, Fetch(1.0, "192.0.2.1", "a CA"))
    models.Token.objects.update(expires="2000-01-01T00:00:00Z")
    challenges.present("another", "answer", ttl=60)
    assert not models.Fetch.objects.exists()


def test_an_agent_that_is_long_or_has_nul_is_still_logged(challenges: DjangoChallengeStore) -> None:
    challenges.present(TOKEN, "answer", ttl=60)
    challenges.log_fetch(TOKEN, Fetch(1.0, "192.0.2.1", "a\0" * 1000))
    assert challenges.fetches(TOKEN) == [Fetch(1.0, "192.0.2.1", "a" * models.MAX_AGENT)]


def test_an_unknown_alias_lists_the_known_ones() -> None:
    with pytest.raises(StoreMisconfigured, match="django:nope names no database") as caught:
        open_store("django:nope")
    assert "default" in caught.value.hint


@pytest.mark.parametrize("url", ["django:", "django:default"])
def test_urls_open_these_stores(url: str) -> None:
    assert isinstance(open_store(url), DjangoStore)
    assert isinstance(open_challenges(url), DjangoChallengeStore)


def test_a_store_that_is_tried_out_is_left_as_it_was(store: DjangoStore) -> None:
    store.check(writable=True)
    assert not models.Record.objects.exists()


def test_errors_of_the_database_keep_their_cause(store: DjangoStore) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE acme_middleware_record RENAME TO moved")
    try:
        with pytest.raises(StoreMisconfigured) as caught:
            store.get(KEY)
        assert isinstance(caught.value.__cause__, OperationalError)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE moved RENAME TO acme_middleware_record")
