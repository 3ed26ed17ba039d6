"""The contract of a store of state, as tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import pytest

from acme_middleware.errors import Conflict
from acme_middleware.stores.base import Expect, Record, Store, key
from acme_middleware.testing.threads import together

Reopen = Callable[[], Store]

KEY = key("certificate", "example.com")

IN_ORDER = [
    key("account", "a"),
    key("account", "a%"),
    key("account", "a-b"),
    key("account", "a.b"),
    key("account", "a", "0"),
    key("account", "a", "z"),
    key("account", "a0"),
    key("account", "aB"),
    key("account", "a_b"),
    key("account", "ab"),
    key("order", "*.example.com"),
    key("order", "2001:db8::1"),
]
"""A record beside a folder of its name, and the characters on both sides of the slash: a walk through folders gets it wrong."""


class StoreContract:
    """
    What every :class:`~acme_middleware.stores.base.Store` does.

    A subclass provides the fixtures ``store`` (an empty one) and ``reopen`` (a function that opens another handle on the same
    data). Where writing ten thousand records one by one takes minutes, it also overrides :meth:`fill`.
    """

    scan_seconds = 1.0
    writers = 4
    rounds = 10

    @pytest.fixture
    def store(self) -> Store:
        """An empty store."""
        raise NotImplementedError("provide a fixture `store` that returns an empty store")

    @pytest.fixture
    def reopen(self) -> Reopen:
        """A function that opens another handle on the data of ``store``."""
        raise NotImplementedError("provide a fixture `reopen`: a function that opens another handle on the same data")

    def fill(self, store: Store, records: Iterable[tuple[str, bytes]]) -> None:
        """Write many records."""
        for name, value in records:
            store.put(name, value)

    def test_what_was_never_written_is_none(self, store: Store) -> None:
        assert store.get(KEY) is None
        assert list(store.scan("")) == []

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(b'{"schema": 1}', id="JSON"),
            pytest.param(b"", id="nothing at all"),
            pytest.param(b"\n\nversion\r\n", id="line ends at both ends"),
            pytest.param(bytes(range(256)), id="every byte, NUL and invalid UTF-8 among them"),
            pytest.param(b"\x00\xff" * 32_768, id="64 KiB"),
        ],
    )
    def test_a_value_is_given_back_byte_for_byte(self, store: Store, reopen: Reopen, value: bytes) -> None:
        version = store.put(KEY, value)
        for handle in (store, reopen()):
            record = handle.get(KEY)
            assert record is not None
            assert (type(record.value), record.value, record.version) == (bytes, value, version)
            assert list(handle.scan("certificate/")) == [(KEY, record)]

    def test_writing_without_expectation_replaces(self, store: Store) -> None:
        first = store.put(KEY, b"old")
        second = store.put(KEY, b"new")
        assert store.get(KEY) == Record(b"new", second)
        assert first != second

    def test_a_write_over_the_version_that_was_read_succeeds(self, store: Store) -> None:
        version = store.put(KEY, b"old")
        version = store.put(KEY, b"new", expect=version)
        assert store.get(KEY) == Record(b"new", version)

    @pytest.mark.parametrize("same_value", [True, False], ids=["the same value again", "another value"])
    def test_a_write_over_an_older_version_conflicts_and_changes_nothing(self, store: Store, same_value: bool) -> None:
        old = store.put(KEY, b"old")
        new = store.put(KEY, b"old" if same_value else b"new")
        with pytest.raises(Conflict) as caught:
            store.put(KEY, b"late", expect=old)
        assert store.get(KEY) == Record(b"old" if same_value else b"new", new)
        assert caught.value.key == KEY

    def test_a_write_over_a_version_that_is_gone_conflicts(self, store: Store) -> None:
        version = store.put(KEY, b"old")
        store.delete(KEY)
        with pytest.raises(Conflict):
            store.put(KEY, b"late", expect=version)
        assert store.get(KEY) is None

    def test_creating_needs_an_absent_record(self, store: Store) -> None:
        version = store.put(KEY, b"first", expect=Expect.ABSENT)
        with pytest.raises(Conflict):
            store.put(KEY, b"second", expect=Expect.ABSENT)
        assert store.get(KEY) == Record(b"first", version)
        store.delete(KEY)
        version = store.put(KEY, b"third", expect=Expect.ABSENT)
        assert store.get(KEY) == Record(b"third", version)

    def test_delete_says_whether_there_was_something(self, store: Store) -> None:
        assert store.delete(KEY) is False
        store.put(KEY, b"value")
        assert store.delete(KEY) is True
        assert store.get(KEY) is None
        assert list(store.scan("")) == []

    def test_delete_of_an_older_version_conflicts_and_changes_nothing(self, store: Store) -> None:
        old = store.put(KEY, b"old")
        new = store.put(KEY, b"new")
        with pytest.raises(Conflict):
            store.delete(KEY, expect=old)
        record = store.get(KEY)
        assert record is not None
        assert record.version == new
        assert store.delete(KEY, expect=new) is True
        assert store.get(KEY) is None

    def test_delete_of_a_version_that_is_gone_conflicts(self, store: Store) -> None:
        version = store.put(KEY, b"old")
        store.delete(KEY)
        with pytest.raises(Conflict):
            store.delete(KEY, expect=version)

    def test_versions_never_repeat_though_the_same_is_written_and_deleted_again(self, store: Store) -> None:
        versions = []
        for _ in range(10):
            versions.append(store.put(KEY, b"the same"))
            versions.append(store.put(KEY, b"the same", expect=versions[-1]))
            store.delete(KEY)
        assert len(set(versions)) == len(versions)
        store.put(KEY, b"the same")
        for version in versions:
            with pytest.raises(Conflict):
                store.put(KEY, b"late", expect=version)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            pytest.param(key("account", "le", "aBc"), key("account", "le", "AbC"), id="letters differ in case"),
            pytest.param(key("account", "le"), key("account", "le", "a"), id="one is a folder of the other"),
            pytest.param(key("renewal", "a"), key("certificate", "a"), id="one name, two kinds"),
            pytest.param(key("renewal", "*.a"), key("renewal", "_.a"), id="wildcard and underscore"),
            pytest.param(key("renewal", "a."), key("renewal", "a"), id="a dot at the end"),
            pytest.param(key("renewal", "é"), key("renewal", "e\u0301"), id="two spellings of one accent"),
            pytest.param(key("renewal", "a" * 300), key("renewal", "a" * 301), id="longer than a file name may be"),
            pytest.param(
                key("ledger", "a" * 150, "b" * 150), key("ledger", "a" * 150, "c" * 150), id="long parts, the last differs"
            ),
        ],
    )
    def test_keys_are_told_apart_byte_by_byte(self, store: Store, one: str, other: str) -> None:
        store.put(one, b"one", expect=Expect.ABSENT)
        assert store.get(other) is None
        store.put(other, b"other", expect=Expect.ABSENT)
        assert {name: record.value for name, record in store.scan("")} == {one: b"one", other: b"other"}
        store.delete(one)
        left = store.get(other)
        assert left is not None
        assert left.value == b"other"

    def test_scan_is_in_the_order_of_the_bytes_of_the_keys(self, store: Store) -> None:
        for number, name in enumerate(reversed(IN_ORDER)):
            store.put(name, b"%d" % number)
        assert [name for name, _ in store.scan("")] == sorted(IN_ORDER)

    @pytest.mark.parametrize(
        "prefix",
        [
            pytest.param("account/", id="a kind"),
            pytest.param("account/a/", id="a folder"),
            pytest.param("account/a", id="the beginning of a part"),
            pytest.param("acc", id="the beginning of a kind"),
            pytest.param("account/a_", id="an underscore, which LIKE takes for any character"),
            pytest.param("account/a%", id="a percent sign, which LIKE takes for anything"),
            pytest.param("account/aB", id="a capital letter"),
            pytest.param("account/a/z", id="a whole key"),
            pytest.param("account/x", id="nothing begins so"),
            pytest.param("", id="everything"),
        ],
    )
    def test_scan_yields_what_begins_with_the_prefix_and_nothing_else(self, store: Store, prefix: str) -> None:
        versions = {name: store.put(name, name.encode()) for name in IN_ORDER}
        found = [(name, record.value, record.version) for name, record in store.scan(prefix)]
        expected = sorted(name for name in IN_ORDER if name.startswith(prefix))
        assert found == [(name, name.encode(), versions[name]) for name in expected]

    def test_scan_misses_nothing_while_others_write(self, store: Store, reopen: Reopen) -> None:
        steady = {key("renewal", f"steady-{number:03}") for number in range(50)}
        self.fill(store, [(name, b"steady") for name in steady])
        passing = [key("renewal", f"steady-{number:03}-passing") for number in range(20)]

        def write() -> list[set[str]]:
            handle = reopen()
            for name in passing:
                handle.put(name, b"passing")
                handle.delete(name)
            return []

        def read() -> list[set[str]]:
            handle = reopen()
            return [{name for name, _ in handle.scan("renewal/")} for _ in range(10)]

        for seen in together([write, read])[1]:
            assert steady <= seen
            assert seen - steady <= set(passing)

    def test_ten_thousand_records_are_scanned_in_a_second(self, store: Store) -> None:
        records = {key("renewal", f"{number:05}.example.com"): b'{"schema": 1, "n": %d}' % number for number in range(10_000)}
        self.fill(store, records.items())
        store.put(key("certificate", "00000.example.com"), b"of another kind")
        took = []
        for _ in range(3):
            start = time.perf_counter()
            found = {name: record.value for name, record in store.scan("renewal/")}
            took.append(time.perf_counter() - start)
            assert found == records
        assert min(took) < self.scan_seconds

    def test_a_write_is_seen_at_once_by_another_handle(self, store: Store, reopen: Reopen) -> None:
        other = reopen()
        for number in range(5):
            version = store.put(KEY, b"%d" % number)
            assert other.get(KEY) == Record(b"%d" % number, version)
        other.delete(KEY)
        assert store.get(KEY) is None

    def test_a_write_by_another_handle_makes_ours_conflict(self, store: Store, reopen: Reopen) -> None:
        version = store.put(KEY, b"ours")
        reopen().put(KEY, b"theirs", expect=version)
        with pytest.raises(Conflict):
            store.put(KEY, b"ours again", expect=version)

    def test_of_writers_that_create_at_once_one_wins(self, store: Store, reopen: Reopen) -> None:
        def create(name: str, value: bytes) -> Callable[[], bytes | None]:
            def call() -> bytes | None:
                try:
                    reopen().put(name, value, expect=Expect.ABSENT)
                except Conflict:
                    return None
                return value

            return call

        for number in range(self.rounds):
            name = key("order", f"{number}.example.com")
            results = together([create(name, b"%d" % writer) for writer in range(self.writers)])
            winners = [value for value in results if value is not None]
            record = store.get(name)
            assert record is not None
            assert winners == [record.value]

    def test_writers_that_count_up_by_compare_and_swap_lose_no_step(self, store: Store, reopen: Reopen) -> None:
        store.put(KEY, b"0")

        def count() -> int:
            handle, conflicts = reopen(), 0
            for _ in range(self.rounds):
                while True:
                    record = handle.get(KEY)
                    assert record is not None
                    try:
                        handle.put(KEY, b"%d" % (int(record.value) + 1), expect=record.version)
                    except Conflict:
                        conflicts += 1
                    else:
                        break
            return conflicts

        together([count] * self.writers)
        record = store.get(KEY)
        assert record is not None
        assert int(record.value) == self.writers * self.rounds

    @pytest.mark.parametrize("writable", [True, False], ids=["for writing", "for reading"])
    def test_check_passes_and_leaves_nothing_behind(self, store: Store, writable: bool) -> None:
        store.put(KEY, b"value")
        before = list(store.scan(""))
        store.check(writable=writable)
        assert list(store.scan("")) == before
