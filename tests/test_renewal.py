"""Who is due, from the record alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from acme_middleware.issuance.records import RenewalRecord, RenewalWindow
from acme_middleware.issuance.renewal import draw, due, renew_after, state
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
        pytest.param(timedelta(days=89), "due for renewal", id="a day before its end"),
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


def test_moment_in_the_past_means_now() -> None:
    window = RenewalWindow(start=START, end=START, drawn=START - timedelta(days=1), ask_again=START)
    advised = record(ari=window, renew_after=renew_after(START, START + timedelta(days=90), window))
    assert due(advised, advised.names, trusted=True, now=START) == "due for renewal"


@pytest.mark.parametrize(("day", "word"), [(0, "ok"), (60, "due"), (74, "due"), (75, "overdue"), (90, "expired")])
def test_state(day: int, word: str) -> None:
    assert state(record(), START + timedelta(days=day)) == word
