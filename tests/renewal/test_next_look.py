"""A window of the CA's that is over before a timer comes around again: it is used now, and not missed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from acme_middleware.issuance.records import RenewalRecord, RenewalWindow
from acme_middleware.issuance.sweeps import SweepRecord, closes_before, next_look

NOW = datetime(2027, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


def record(start: float, end: float, **changes: object) -> RenewalRecord:
    """A certificate of six days, with a window that many hours from now."""
    window = RenewalWindow(start=NOW + start * HOUR, end=NOW + end * HOUR, drawn=NOW + end * HOUR, ask_again=NOW)
    made = RenewalRecord(
        name="example.com",
        names=("example.com",),
        ca="letsencrypt",
        trusted=True,
        profile="",
        not_before=NOW - timedelta(days=4),
        not_after=NOW + timedelta(days=2),
        serial="1",
        fingerprint="f",
        issued_at=NOW - timedelta(days=4),
        renew_after=window.drawn,
        ari=window,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "end", "now"),
    [
        pytest.param(-2, 0.5, True, id="open now, over at the next look"),
        pytest.param(0, 0.5, True, id="opens now"),
        pytest.param(-2, 1, False, id="still open at the next look"),
        pytest.param(0.2, 0.5, False, id="not open yet: an order would be outside of it"),
        pytest.param(-2, -1, False, id="over: that is due anyhow"),
        pytest.param(-2, 60, False, id="ends after the certificate"),
        pytest.param(0.5, -0.5, False, id="inverted"),
    ],
)
def test_an_open_window_is_not_missed(start: float, end: float, now: bool) -> None:
    assert (closes_before(record(start, end), NOW, NOW + HOUR) is not None) is now


def test_nothing_is_hurried_where_no_window_or_no_next_look_is_known() -> None:
    assert closes_before(None, NOW, NOW + HOUR) is None
    assert closes_before(record(-2, 0.5, ari=None), NOW, NOW + HOUR) is None
    assert closes_before(record(-2, 0.5), NOW, None) is None


def swept(ago: timedelta) -> SweepRecord:
    return SweepRecord(host="web-1", began=NOW - ago, ended=NOW - ago, counts={})


@pytest.mark.parametrize(
    ("last", "every", "look"),
    [
        pytest.param(None, None, None, id="the first sweep of a host, by a timer"),
        pytest.param(None, 3600.0, HOUR, id="the first sweep of a loop that knows its pause"),
        pytest.param(swept(2 * HOUR), None, 2 * HOUR, id="a timer comes as it came before"),
        pytest.param(swept(2 * HOUR), 3600.0, HOUR, id="who knows the pause is believed"),
        pytest.param(swept(-HOUR), None, None, id="a clock that was put back"),
    ],
)
def test_the_next_look(last: SweepRecord | None, every: float | None, look: timedelta | None) -> None:
    assert next_look(last, NOW, every) == (None if look is None else NOW + look)
