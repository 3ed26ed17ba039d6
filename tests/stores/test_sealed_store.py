"""Private records are encrypted in whatever store, and what no key opens is refused by name, never taken for absent."""

from __future__ import annotations

import secrets

import pytest

from acme_middleware import encryption_keys
from acme_middleware.errors import ConfigurationError, Conflict, RecordSealed
from acme_middleware.issuance.lineages import open_state
from acme_middleware.options import Options
from acme_middleware.stores.base import Expect
from acme_middleware.stores.memory import MemoryStore
from acme_middleware.stores.sealed import SealedStore, key_id, sealed_with
from acme_middleware.testing import LeaseContract, StoreContract

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
SECRET = b'{"schema": 1, "key_pem": "-----BEGIN PRIVATE KEY-----"}'
PRIVATE = ["account/letsencrypt/default", "certificate/a.example", "order/a.example"]
PUBLIC = [
    "renewal/a.example",
    "ledger/letsencrypt/0123",
    "budget/letsencrypt/default",
    "sweep/host",
    "lock/a.example",
]


class TestSealedMemoryStore(StoreContract, LeaseContract):
    @pytest.fixture
    def store(self):
        return SealedStore(MemoryStore(), [NEW, OLD])

    @pytest.fixture
    def reopen(self, store):
        return lambda: SealedStore(store.inner, [NEW])


class TestStoreWithoutKeys(StoreContract, LeaseContract):
    @pytest.fixture
    def store(self):
        return SealedStore(MemoryStore())

    @pytest.fixture
    def reopen(self, store):
        return lambda: SealedStore(store.inner)


@pytest.fixture
def inner():
    return MemoryStore()


@pytest.mark.parametrize("key", PRIVATE)
def test_a_private_record_is_not_readable_where_it_is_kept(inner, key):
    SealedStore(inner, [NEW]).put(key, SECRET)
    kept = inner.get(key).value
    assert b"PRIVATE" not in kept
    assert b"schema" not in kept
    assert sealed_with(kept) == key_id(NEW)
    assert SealedStore(inner, [NEW]).get(key).value == SECRET
    assert [record.value for _, record in SealedStore(inner, [NEW]).scan(key)] == [SECRET]


@pytest.mark.parametrize("key", PUBLIC)
def test_a_public_record_is_kept_as_it_is_and_needs_no_key(inner, key):
    version = SealedStore(inner, [NEW]).put(key, b"{}")
    assert inner.get(key).value == b"{}"
    assert SealedStore(inner).get(key).version == version


def test_the_same_record_twice_does_not_look_the_same(inner):
    store = SealedStore(inner, [NEW])
    kept = set()
    for _ in range(50):
        store.put("order/a.example", SECRET)
        kept.add(inner.get("order/a.example").value)
    assert len(kept) == 50


def test_the_first_key_seals_and_all_open(inner):
    SealedStore(inner, [OLD]).put("order/a.example", b"old")
    both = SealedStore(inner, [NEW, OLD])
    assert both.get("order/a.example").value == b"old"
    both.put("order/a.example", b"new")
    assert SealedStore(inner, [NEW]).get("order/a.example").value == b"new"


def test_a_record_of_before_the_keys_were_set_is_read_and_sealed_when_it_is_written(inner):
    inner.put("certificate/a.example", SECRET)
    store = SealedStore(inner, [NEW])
    record = store.get("certificate/a.example")
    assert record.value == SECRET
    store.put("certificate/a.example", record.value, expect=record.version)
    assert b"PRIVATE" not in inner.get("certificate/a.example").value


def test_writers_still_exclude_each_other(inner):
    store = SealedStore(inner, [NEW])
    version = store.put("order/a.example", b"1", expect=Expect.ABSENT)
    with pytest.raises(Conflict):
        store.put("order/a.example", b"2", expect=Expect.ABSENT)
    store.put("order/a.example", b"3", expect=version)
    with pytest.raises(Conflict):
        store.delete("order/a.example", expect=version)
    assert store.get("order/a.example").value == b"3"


def _flip(place):
    def change(value):
        changed = bytearray(value)
        changed[place] ^= 1
        return bytes(changed)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(_flip(-1), "changed after it was sealed", id="its tag is changed"),
        pytest.param(_flip(26 + 12), "changed after it was sealed", id="its text is changed"),
        pytest.param(_flip(26), "changed after it was sealed", id="its nonce is changed"),
        pytest.param(lambda value: value[:-1], "changed after it was sealed", id="its end is missing"),
        pytest.param(lambda value: value[:28], "changed after it was sealed", id="hardly anything is left of it"),
        pytest.param(lambda value: value[:26], "changed after it was sealed", id="only its header is left"),
        pytest.param(lambda value: value + b"x", "changed after it was sealed", id="something is added to it"),
        pytest.param(lambda value: value[:9] + b"0" * 16 + value[25:], "sealed with another key", id="its key id is changed"),
        pytest.param(lambda value: b"sealed 2" + value[8:], "in a way that this version does not know", id="a newer form"),
        pytest.param(lambda value: value[:15], "in a way that this version does not know", id="half a header"),
    ],
)
def test_a_record_that_was_changed_is_refused_by_name(inner, change, says):
    store = SealedStore(inner, [NEW])
    store.put("certificate/a.example", SECRET)
    inner.put("certificate/a.example", change(inner.get("certificate/a.example").value))
    for read in (lambda: store.get("certificate/a.example"), lambda: list(store.scan("certificate/"))):
        with pytest.raises(RecordSealed, match=says) as refused:
            read()
        assert refused.value.record == "certificate/a.example"
        assert "certificate/a.example" in str(refused.value)
        assert refused.value.hint
        assert refused.value.exit_code == 2


@pytest.mark.parametrize("target", ["certificate/b.example", "order/a.example", "certificate/A.example"])
def test_a_record_that_was_moved_to_another_name_does_not_open(inner, target):
    store = SealedStore(inner, [NEW])
    store.put("certificate/a.example", SECRET)
    inner.put(target, inner.get("certificate/a.example").value)
    with pytest.raises(RecordSealed, match=f"{target} was changed after it was sealed, or belongs to another name"):
        store.get(target)


@pytest.mark.parametrize(
    ("keys", "says", "hint"),
    [
        pytest.param([], "is sealed, and no key is set", "ACME_ENCRYPTION_KEYS", id="no key is set"),
        pytest.param([OLD], "is sealed with another key", "put that key back", id="another key is set"),
    ],
)
def test_a_sealed_record_without_its_key_is_an_error_with_the_fix(inner, keys, says, hint):
    SealedStore(inner, [NEW]).put("account/ca/default", SECRET)
    with pytest.raises(RecordSealed, match=f"account/ca/default {says}") as refused:
        SealedStore(inner, keys).get("account/ca/default")
    assert hint in refused.value.hint


def test_who_cannot_open_a_record_can_still_delete_it(inner):
    SealedStore(inner, [NEW]).put("account/ca/default", SECRET)
    assert SealedStore(inner, [OLD]).delete("account/ca/default")


def test_keys_are_asked_for_only_when_a_private_record_is_touched(inner):
    asked = []

    def keys():
        asked.append(1)
        return [NEW]

    store = SealedStore(inner, keys)
    store.put("renewal/a.example", b"{}")
    store.check(writable=False)
    assert list(store.scan("renewal/"))
    assert store.get("lock/a.example") is None
    assert store.get("certificate/a.example") is None
    assert not asked
    store.put("certificate/a.example", SECRET)
    assert asked


def test_keys_show_nowhere(inner):
    key = secrets.token_bytes(32)
    store = SealedStore(inner, [key])
    store.put("order/a.example", SECRET)
    inner.put("order/a.example", inner.get("order/a.example").value[:-1])
    with pytest.raises(RecordSealed) as refused:
        store.get("order/a.example")
    said = f"{refused.value!r} {refused.value.hint} {refused.value.facts} {store!r}"
    assert not any(shown in said for shown in (key.hex(), repr(key), "PRIVATE"))


@pytest.mark.parametrize("keys", [[NEW[:31]], [NEW + b"x"], ["A" * 43], NEW], ids=["short", "long", "text", "no list"])
def test_what_is_no_key_is_refused_at_once_and_not_shown(inner, keys):
    with pytest.raises(ConfigurationError, match="bytes, 32 of them each") as refused:
        SealedStore(inner, keys)
    assert "AAAA" not in f"{refused.value!r} {refused.value.hint}"


def test_a_store_of_ones_own_that_is_sealed_already_is_not_sealed_twice(inner):
    own = SealedStore(inner, [NEW])
    assert open_state(Options(store=own)) is own
    with pytest.raises(ConfigurationError, match="keys of its own, and ENCRYPTION_KEYS are set as well"):
        open_state(Options(store=own, encryption_keys=encryption_keys.read([OLD])))
