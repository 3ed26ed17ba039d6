"""Records: what is written is read again, and what cannot be read is said, never guessed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from acme_middleware.errors import Conflict, StoreMisconfigured
from acme_middleware.issuance.records import (
    AccountRecord,
    CertificateRecord,
    OrderRecord,
    RenewalRecord,
    RenewalWindow,
    account_key,
    renewal_key,
)
from acme_middleware.stores.memory import MemoryStore

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
WINDOW = RenewalWindow(
    start=START, end=START + timedelta(1), drawn=START + timedelta(hours=3), ask_again=START, explanation="x"
)
RENEWAL = RenewalRecord(
    name="example.com",
    names=("example.com", "xn--bcher-kva.example"),
    ca="letsencrypt",
    trusted=True,
    profile="",
    not_before=START,
    not_after=START + timedelta(days=90),
    serial="1f",
    fingerprint="ab",
    issued_at=START,
    renew_after=START + timedelta(days=60),
    ari=WINDOW,
    options={"key_type": "ec256"},
)


def test_record_survives_the_store() -> None:
    store = MemoryStore()
    version = RENEWAL.write(store, renewal_key("example.com"))
    read = RenewalRecord.read(store, renewal_key("example.com"))
    assert read == RENEWAL
    assert read is not None
    assert read.version == version


def test_times_are_written_in_utc_whatever_the_zone_was() -> None:
    store = MemoryStore()
    warsaw = START.astimezone(timezone(timedelta(hours=1)))
    RenewalRecord(**{**{f: getattr(RENEWAL, f) for f in RENEWAL.__dataclass_fields__}, "not_after": warsaw}).write(
        store, "renewal/a"
    )
    record = store.get("renewal/a")
    assert record is not None
    assert json.loads(record.value)["not_after"] == "2026-11-24T12:00:00Z"


def test_absent_record_is_none() -> None:
    assert AccountRecord.read(MemoryStore(), account_key("letsencrypt", "default")) is None


def test_write_over_what_was_not_read_is_refused() -> None:
    store = MemoryStore()
    first = RENEWAL.write(store, "renewal/a")
    RENEWAL.write(store, "renewal/a", expect=first)
    with pytest.raises(Conflict):
        RENEWAL.write(store, "renewal/a", expect=first)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"3", id="a number"),
        pytest.param(b"{}", id="no schema"),
        pytest.param(b'{"schema": 1}', id="no fields"),
        pytest.param(b'{"schema": 1, "directory": 3, "key_pem": "x"}', id="a field of another type"),
    ],
)
def test_damaged_record_is_named(value: bytes) -> None:
    with pytest.raises(StoreMisconfigured, match="account/x/default is damaged"):
        AccountRecord.decode("account/x/default", value, "v")


def test_damaged_record_does_not_show_the_key_that_it_may_hold() -> None:
    value = json.dumps({"schema": 1, "directory": "d", "key_pem": ["-----BEGIN PRIVATE KEY-----"]}).encode()
    with pytest.raises(StoreMisconfigured, match="a list stands where a str should") as damaged:
        AccountRecord.decode("account/x/default", value, "v")
    assert "BEGIN" not in str(damaged.value)


def test_naive_time_is_refused() -> None:
    document = json.dumps({"schema": 1, "name": "a", "not_after": "2026-11-24T12:00:00"}).encode()
    with pytest.raises(StoreMisconfigured, match="no time zone"):
        RenewalRecord.decode("renewal/a", document, "v")


def test_record_of_a_newer_version_is_left_alone() -> None:
    with pytest.raises(StoreMisconfigured, match="schema 2") as refused:
        RenewalRecord.decode("renewal/a", b'{"schema": 2}', "v")
    assert "upgrade" in refused.value.hint


def test_fields_of_the_future_are_ignored() -> None:
    store = MemoryStore()
    RENEWAL.write(store, "renewal/a")
    record = store.get("renewal/a")
    assert record is not None
    more = json.dumps(json.loads(record.value) | {"new": 1}).encode()
    assert RenewalRecord.decode("renewal/a", more, "v") == RENEWAL


def test_private_key_shows_in_no_repr() -> None:
    secret = "-----BEGIN PRIVATE KEY-----"
    account = AccountRecord(directory="d", key_pem=secret)
    order = OrderRecord(url="u", account_url="a", ca="c", names=("n",), profile="", key_type="ec256", key_pem=secret)
    certificate = CertificateRecord(
        name="n", names=("n",), ca="c", trusted=True, account_url="a", profile="", key_type="ec256", issued_at=START,
        key_pem=secret, cert_pem="c", chain_pem="d",
    )  # fmt: skip
    for record in (account, order, certificate):
        assert secret not in repr(record)
