"""The ledger: how long a failure makes the next try wait, who need not wait, and what is not believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_middleware import clock as clocks
from acme_middleware import errors
from acme_middleware.errors import AcmeMiddlewareError, CARefused, CAUnreachable, NotYet, Problem, ValidationFailed
from acme_middleware.issuance.blame import kind_of, unpause_url
from acme_middleware.issuance.ledger import (
    DAY,
    LONGEST,
    Ledger,
    LedgerRecord,
    back_off,
    forget,
    ledger_key,
    ordinal,
    read_all,
)
from acme_middleware.stores.memory import MemoryStore
from acme_middleware.testing.clock import Clock

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SILENT = CAUnreachable("no answer from https://ca.test: refused", url="https://ca.test")
INVALID = ValidationFailed("the CA could not validate a.example", name="a.example", problem=Problem("unauthorized", "404"))


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock(datetime(2026, 11, 27, 12, tzinfo=UTC))
    with clocks.replaced(clock.now):
        yield clock


def refused(kind: str, status: int, retry_after: float | None = None, instance: str = "", detail: str = "no") -> CARefused:
    problem = Problem(kind, detail, instance=instance)
    return CARefused("the CA refused", problem=problem, status=status, retry_after=retry_after, url="https://ca.test")


def ledger(store: MemoryStore, *names: str, name: str = "", ca: str = "letsencrypt", account: str = "default") -> Ledger:
    names = names or ("a.example",)
    return Ledger(store, ca, account, names, name or names[0])


def exactly(low: float, high: float) -> float:
    return low


@pytest.mark.parametrize(
    ("kind", "minutes"),
    [
        pytest.param("validation", [1, 10, 100, 1440, 1440], id="a failed validation"),
        pytest.param("other", [1, 10, 100, 1440, 1440], id="a refusal"),
        pytest.param("limit", [1, 10, 100, 1440, 1440], id="a limit without a time"),
        pytest.param("silent", [1, 10, 100, 120, 120], id="a CA that does not answer"),
    ],
)
def test_pauses_grow(kind: str, minutes: list[int]) -> None:
    pauses = [back_off(kind, failures, 90 * DAY, uniform=exactly) for failures in range(1, 6)]
    assert pauses == [MINUTE * count for count in minutes]


@given(
    kind=st.sampled_from(["validation", "limit", "silent", "other"]),
    failures=st.integers(1, 10_000),
    hours=st.integers(1, 24 * 400),
)
def test_pause_is_at_most_a_twentieth_of_the_lifetime(kind: str, failures: int, hours: int) -> None:
    lifetime = HOUR * hours
    assert timedelta(0) < back_off(kind, failures, lifetime) <= lifetime / 20 + timedelta(microseconds=1)


def test_names_that_failed_together_do_not_come_back_together() -> None:
    pauses = {back_off("silent", 3, 6 * DAY) for _ in range(50)}
    assert len(pauses) > 40
    assert all(100 * MINUTE <= pause <= 110 * MINUTE for pause in pauses)


@pytest.mark.parametrize(
    ("asked", "pause"),
    [
        pytest.param(3600, HOUR, id="an hour, which is longer than the own pause"),
        pytest.param(1, MINUTE, id="a second, which is shorter"),
        pytest.param(9 * 3600, 9 * HOUR, id="longer than a twentieth of the lifetime"),
        pytest.param(10 * 365 * 86400, DAY, id="ten years, which are not believed"),
    ],
)
def test_what_the_ca_asks_is_obeyed(asked: float, pause: timedelta) -> None:
    assert back_off("limit", 1, 6 * DAY, uniform=exactly, retry_after=asked) == pause


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(INVALID, "validation", id="the CA could not validate"),
        pytest.param(ValidationFailed("x", name="a", token="t"), None, id="our own check before it"),
        pytest.param(refused("rateLimited", 429, 60), "limit", id="a limit"),
        pytest.param(refused("serverInternal", 503, 60), "limit", id="a maintenance that names its end"),
        pytest.param(refused("serverInternal", 500), "silent", id="a fault of the CA"),
        pytest.param(refused("rejectedIdentifier", 400), "other", id="a refusal"),
        pytest.param(SILENT, "silent", id="no answer"),
        pytest.param(errors.UnexpectedAnswer("x", url="u"), "other", id="garbage"),
        pytest.param(errors.CertificateRejected("x"), "other", id="a certificate that is not what was ordered"),
        pytest.param(errors.StoreUnavailable("x"), None, id="a store that is down"),
        pytest.param(errors.LeaseHeld("x"), None, id="another process at work"),
        pytest.param(errors.ConfigurationError("x"), None, id="a wrong option"),
        pytest.param(errors.ClockOff("x"), None, id="a wrong clock"),
        pytest.param(errors.PublishFailed("x"), None, id="files that cannot be written"),
        pytest.param(NotYet("x"), None, id="a try that was not made"),
    ],
)
def test_only_what_the_ca_has_seen_is_a_failure(error: AcmeMiddlewareError, kind: str | None, clock: Clock) -> None:
    assert kind_of(error) == kind
    record = ledger(MemoryStore()).failed(error)
    assert (record.kind if record else None) == kind


@pytest.mark.parametrize(
    ("error", "url"),
    [
        pytest.param(refused("rateLimited", 429, None, "https://ca.test/unpause"), "https://ca.test/unpause", id="instance"),
        pytest.param(
            refused("rateLimited", 429, None, "", "prevented for a.example. Visit: https://ca.test/unpause?jwt=x.y."),
            "https://ca.test/unpause?jwt=x.y",
            id="in the CA's words, at the end of a sentence",
        ),
        pytest.param(refused("rateLimited", 429, 60, "https://ca.test/unpause"), "", id="a limit that ends by itself"),
        pytest.param(refused("rateLimited", 429, None, "", "see https://ca.test/limits"), "", id="the page about limits"),
        pytest.param(refused("malformed", 400, None, "https://ca.test/unpause"), "", id="another refusal"),
    ],
)
def test_unpausing_url_is_found(error: CARefused, url: str) -> None:
    assert unpause_url(error) == url


def test_failures_are_counted_by_every_process_that_shares_the_store(clock: Clock) -> None:
    store = MemoryStore()
    for failures in range(1, 6):
        record = ledger(store).failed(INVALID, 90 * DAY)
        assert record is not None
        assert (record.failures, record.error) == (failures, str(INVALID))
    with pytest.raises(NotYet, match=r"a\.example must wait") as early:
        ledger(store).refuse(clocks.now())
    assert early.value.exit_code == 75
    assert (early.value.name, early.value.allowed_at) == ("a.example", ledger(store).read().next_try)  # type: ignore[union-attr]
    assert "last error: the CA could not validate a.example (5th failure" in early.value.hint
    assert "--force" in early.value.hint


def test_pause_ends_by_itself_or_by_force_or_by_success(clock: Clock) -> None:
    store = MemoryStore()
    ours = ledger(store)
    ours.failed(SILENT, 90 * DAY)
    with pytest.raises(NotYet):
        ours.refuse(clocks.now())
    ours.refuse(clocks.now(), force=True)
    clock.travel(minutes=1.2)
    ours.refuse(clocks.now())
    ours.failed(SILENT, 90 * DAY)
    ours.succeeded()
    ours.refuse(clocks.now())
    assert ours.read() is None


def test_person_who_puts_something_right_need_not_wait_twice(clock: Clock) -> None:
    ours = ledger(MemoryStore())
    for _ in range(2):
        ours.failed(INVALID)
        ours.refuse(clocks.now(), by_hand=True)
        with pytest.raises(NotYet):
            ours.refuse(clocks.now())
    ours.failed(INVALID)
    with pytest.raises(NotYet):
        ours.refuse(clocks.now(), by_hand=True)


def test_person_waits_as_long_as_the_ca_asks(clock: Clock) -> None:
    ours = ledger(MemoryStore())
    ours.failed(refused("rateLimited", 429, 3600))
    with pytest.raises(NotYet):
        ours.refuse(clocks.now(), by_hand=True)
    clock.travel(minutes=67)
    ours.refuse(clocks.now(), by_hand=True)


def test_paused_account_is_left_alone_for_a_day_and_its_url_shown(clock: Clock) -> None:
    ours = ledger(MemoryStore())
    record = ours.failed(refused("rateLimited", 429, None, "https://ca.test/unpause"), 6 * DAY)
    assert record is not None
    assert record.paused == "https://ca.test/unpause"
    clock.travel(hours=23)
    with pytest.raises(NotYet) as early:
        ours.refuse(clocks.now(), by_hand=True)
    assert "visit https://ca.test/unpause" in early.value.hint
    ours.refuse(clocks.now(), force=True)
    clock.travel(hours=4)
    ours.refuse(clocks.now())


def test_sets_accounts_and_cas_are_counted_apart() -> None:
    keys = {
        ledger_key("letsencrypt", "default", ["a.example"]),
        ledger_key("letsencrypt", "default", ["a.example", "b.example"]),
        ledger_key("letsencrypt", "kid", ["a.example"]),
        ledger_key("zerossl", "default", ["a.example"]),
    }
    assert len(keys) == 4
    one, other = ledger_key("zerossl", "x", ["b", "a"]), ledger_key("zerossl", "x", ["a", "b"])
    assert one == other


def test_newest_failure_of_each_certificate_is_listed(clock: Clock) -> None:
    store = MemoryStore()
    ledger(store, "a.example").failed(INVALID)
    clock.travel(hours=1)
    ledger(store, "a.example", "b.example").failed(SILENT)
    ledger(store, "c.example").failed(INVALID)
    found = read_all(store)
    assert {name: record.kind for name, record in found.items()} == {"a.example": "silent", "c.example": "validation"}
    forget(store, "a.example")
    assert set(read_all(store)) == {"c.example"}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"{", id="half a document"),
        pytest.param(b'{"schema": 2}', id="of a newer version"),
        pytest.param(b'{"schema": 1, "name": "a.example"}', id="without most of it"),
        pytest.param(None, id="a count that is a text"),
    ],
)
def test_damaged_record_is_told_and_counts_as_none(value: bytes | None, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    store, told = MemoryStore(), []
    ours = Ledger(store, "letsencrypt", "default", ["a.example"], "a.example", warn=told.append)
    ledger(store, "b.example").failed(INVALID)
    ours.failed(INVALID)
    record = store.get(ours.where)
    assert record is not None
    store.put(ours.where, value or json.dumps(json.loads(record.value) | {"failures": "many"}).encode())
    ours.refuse(clocks.now())
    assert len(told) == 1
    assert ours.where in told[0]
    assert set(read_all(store)) == {"b.example"}
    assert ours.where in caplog.text
    again = ours.failed(INVALID)
    assert again is not None
    assert again.failures == 1
    ours.succeeded()
    assert ours.read() is None


@pytest.mark.parametrize(
    "jump",
    [
        pytest.param(-2 * HOUR, id="two hours back"),
        pytest.param(-3650 * DAY, id="ten years back"),
        pytest.param(365 * DAY, id="a year on"),
    ],
)
def test_clock_that_jumps_does_not_stop_the_tries(jump: timedelta, clock: Clock) -> None:
    ours = ledger(MemoryStore())
    for _ in range(4):
        ours.failed(INVALID, 90 * DAY)
    clock.move_to(clocks.now() + jump)
    ours.refuse(clocks.now())


def test_host_that_is_a_minute_behind_still_waits(clock: Clock) -> None:
    ours = ledger(MemoryStore())
    ours.failed(SILENT, 90 * DAY)
    clock.travel(minutes=-1)
    with pytest.raises(NotYet):
        ours.refuse(clocks.now())


def test_pause_over_the_change_of_summer_time_is_as_long_as_any() -> None:
    """2026-10-25 01:00 UTC: Warsaw's clocks go from 03:00 back to 02:00."""
    clock = Clock(datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Warsaw")))
    with clocks.replaced(clock.now):
        ours = ledger(MemoryStore())
        for _ in range(3):
            record = ours.failed(SILENT, 90 * DAY)
        assert record is not None
        assert timedelta(minutes=100) <= record.next_try - record.failed_at <= timedelta(minutes=110)
        clock.travel(minutes=99)
        with pytest.raises(NotYet):
            ours.refuse(clocks.now())
        clock.travel(minutes=12)
        ours.refuse(clocks.now())


def test_failed_validations_are_not_failures_that_another_ca_would_not_have() -> None:
    ours, counts = ledger(MemoryStore()), []
    for error in (SILENT, SILENT, INVALID, SILENT, refused("rateLimited", 429)):
        record = ours.failed(error)
        assert record is not None
        counts.append(record.elsewhere)
    assert counts == [1, 2, 0, 1, 2]


def test_error_of_a_hostile_ca_is_one_short_line() -> None:
    record = ledger(MemoryStore()).failed(CAUnreachable("\x1b[2J\n" * 1000, url="u"))
    assert record is not None
    assert record.error.isprintable()
    assert len(record.error) <= 300


def test_longest_pause_is_believed(clock: Clock) -> None:
    now = clocks.now()
    record = LedgerRecord(
        name="a", ca="c", account="d", names=("a",), failures=9, kind="limit", error="x", failed_at=now, next_try=now + LONGEST
    )
    assert record.waits(now)
    assert not record.waits(now - timedelta(seconds=1))


@pytest.mark.parametrize(("number", "said"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (21, "21st")])
def test_ordinals(number: int, said: str) -> None:
    assert ordinal(number) == said
