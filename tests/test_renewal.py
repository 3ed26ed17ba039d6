"""Who is due, from the record alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from acme_middleware.issuance.records import RenewalRecord, RenewalWindow
from acme_middleware.issuance.renewal import ask_ari, draw, due, is_emergency, renew_after, state
from acme_middleware.protocol.renewal_info import RenewalInfo

START = datetime(2026, 11, 24, 12, tzinfo=UTC)


def record(days: float = 90, **changes: object) -> RenewalRecord:
    end = START + timedelta(days=days)
    made = RenewalRecord(
        name="example.com",
        names=("example.com", "www.example.com"),
        ca="letsencrypt",
        trusted=True,
        profile="",
        not_before=START,
        not_after=end,
        serial="1",
        fingerprint="f",
        issued_at=START,
        renew_after=renew_after(START, end),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lifetime", "at"),
    [(90.0, 60.0), (64.0, 128 / 3), (45.0, 30.0), (10.0, 5.0), (160 / 24, 80 / 24), (6.0, 3.0)],
)
def test_without_advice_it_is_a_fraction_of_the_lifetime(lifetime: float, at: float) -> None:
    when = renew_after(START, START + timedelta(days=lifetime))
    assert abs(when - START - timedelta(days=at)) < timedelta(seconds=1)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        pytest.param(timedelta(0), None, id="new"),
        pytest.param(timedelta(days=59, hours=23), None, id="an hour before its time"),
        pytest.param(timedelta(days=60), "due for renewal", id="at its time"),
        pytest.param(timedelta(days=85), "due for renewal", id="five days before its end"),
        pytest.param(timedelta(days=85.5), "only a twentieth of its lifetime is left", id="at its last twentieth"),
        pytest.param(timedelta(days=90), "expired", id="at its end"),
    ],
)
def test_time_makes_due(after: timedelta, why: str | None) -> None:
    assert due(record(), ["www.example.com", "example.com"], trusted=True, now=START + after) == why


@pytest.mark.parametrize(
    ("names", "trusted", "was_trusted", "why"),
    [
        pytest.param(["example.com", "www.example.com", "new.example"], True, True, "names were added", id="a name more"),
        pytest.param(["example.com"], True, True, "names were dropped", id="a name less"),
        pytest.param(
            ["example.com", "www.example.com"], True, False, "the one in use is from a staging CA", id="after staging"
        ),
        pytest.param(["example.com", "www.example.com"], False, False, None, id="staging again"),
    ],
)
def test_changes_make_due_at_once(names: list[str], trusted: bool, was_trusted: bool, why: str | None) -> None:
    assert due(record(trusted=was_trusted), names, trusted=trusted, now=START) == why


def test_never_issued_is_due() -> None:
    assert due(None, ["example.com"], trusted=True, now=START) == "never issued"


def info(start: datetime, hours: float = 24) -> RenewalInfo:
    return RenewalInfo(start=start, end=start + timedelta(hours=hours), explanation="", ask_again=start)


def test_moment_is_drawn_in_the_window_and_kept_while_the_window_stays() -> None:
    drawn = draw(info(START))
    assert START <= drawn.drawn <= START + timedelta(hours=24)
    assert all(draw(info(START), drawn).drawn == drawn.drawn for _ in range(20))
    moved = draw(info(START - timedelta(days=400)), drawn)
    assert moved.drawn < START, "a window that moved, as for a revoked certificate, draws anew"


def test_draws_of_many_certificates_are_spread_over_the_window() -> None:
    moments = [draw(info(START)).drawn - START for _ in range(1000)]
    assert min(moments) < timedelta(hours=2)
    assert max(moments) > timedelta(hours=22)


def advice(start: datetime, end: datetime, *, drawn: datetime | None = None, explanation: str = "") -> RenewalWindow:
    return RenewalWindow(start=start, end=end, drawn=drawn or start, ask_again=START, explanation=explanation)


def advised(window: RenewalWindow, **changes: object) -> RenewalRecord:
    return record(ari=window, renew_after=window.drawn, **changes)


def test_moment_in_the_past_means_now() -> None:
    window = advice(START - timedelta(hours=1), START + timedelta(hours=1), drawn=START - timedelta(minutes=30))
    assert due(advised(window), record().names, trusted=True, now=START) == "due for renewal"


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    "window",
    [
        pytest.param(advice(START + 80 * DAY, START + 70 * DAY), id="that ends before it begins"),
        pytest.param(advice(START + 80 * DAY, START + 80 * DAY), id="without length"),
        pytest.param(advice(START + 85 * DAY, START + 91 * DAY), id="that ends after the certificate"),
    ],
)
def test_stored_window_that_makes_no_sense_is_as_none(window: RenewalWindow) -> None:
    one = advised(window)
    assert due(one, one.names, trusted=True, now=START + 59 * DAY) is None
    assert due(one, one.names, trusted=True, now=START + 60 * DAY) == "due for renewal"
    assert state(one, START + 61 * DAY) == "due"


@pytest.mark.parametrize("lifetime", [6, 45, 64, 90])
def test_last_twentieth_is_an_emergency_whatever_the_ca_advises(lifetime: float) -> None:
    end = START + lifetime * DAY
    late = advised(advice(end - timedelta(minutes=2), end - timedelta(minutes=1)), not_after=end)
    assert not is_emergency(late, end - lifetime * DAY / 19)
    assert due(late, late.names, trusted=True, now=end - lifetime * DAY / 19) is None
    assert is_emergency(late, end - lifetime * DAY / 20)
    assert due(late, late.names, trusted=True, now=end - lifetime * DAY / 20) == "only a twentieth of its lifetime is left"
    assert state(late, end - lifetime * DAY / 20) == "overdue"


def test_window_before_its_time_tells_of_a_revocation_with_the_explanation() -> None:
    revoked = advised(advice(START + 3 * DAY, START + 4 * DAY, explanation="https://ca.example/incident"))
    why = due(revoked, revoked.names, trusted=True, now=START + 5 * DAY)
    assert why == "the CA wants it replaced before its time, perhaps it is revoked: https://ca.example/incident"
    usual = advised(advice(START + 61 * DAY, START + 62 * DAY, explanation="https://ca.example/why"))
    assert due(usual, usual.names, trusted=True, now=START + 63 * DAY) == "due for renewal: https://ca.example/why"


@pytest.mark.parametrize(
    ("changes", "after", "asked"),
    [
        pytest.param({}, timedelta(0), True, id="not asked yet"),
        pytest.param({"ask_after": START + DAY}, timedelta(hours=23), False, id="before it is time"),
        pytest.param({"ask_after": START + DAY}, DAY, True, id="at its time"),
        pytest.param({"ask_after": START + 30 * DAY}, DAY, True, id="a time that a wrong clock has noted"),
        pytest.param({"ask_after": START + DAY}, 90 * DAY, False, id="after the certificate has expired"),
        pytest.param({"ari": advice(START + 60 * DAY, START + 61 * DAY)}, timedelta(0), True, id="the window's own time"),
        pytest.param({"ari_id": ""}, DAY, False, id="a certificate that the CA has no name for"),
    ],
)
def test_renewal_information_is_asked_for_in_its_time(changes: dict[str, object], after: timedelta, asked: bool) -> None:
    assert ask_ari(record(**{"ari_id": "a.b", **changes}), START + after) is asked


@pytest.mark.parametrize(("day", "word"), [(0, "ok"), (60, "due"), (74, "due"), (75, "overdue"), (90, "expired")])
def test_state(day: int, word: str) -> None:
    assert state(record(), START + timedelta(days=day)) == word
