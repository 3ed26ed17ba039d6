"""Renewals at a CA that says when to renew (RFC 9773), and at times says nonsense: Pebble, told to by its management port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import both_cas
import pytest
from both_cas import PebbleCA
from cryptography.hazmat.primitives.serialization import Encoding
from pebble_lab import Site, fresh, serving, site_app

from acme_middleware import options
from acme_middleware.issuance.records import RenewalRecord, renewal_key
from acme_middleware.issuance.renewal import renew_after
from acme_middleware.issuance.sweep import Result, sweep

EXPLANATION = "https://ca.example/incidents/2027-01-01"


@pytest.fixture(scope="module")
def pebble() -> Iterator[PebbleCA]:
    with both_cas.pebble() as ca:
        yield ca


class Advised:
    """A site with a certificate of which the CA is to be asked now."""

    def __init__(self, ca: PebbleCA, folder: Path) -> None:
        self.ca, self.site, self.name = ca, Site(ca, folder), fresh()

    def issue(self) -> None:
        self.site.issue(self.name)
        # As after an issuance at which the CA could not be asked: no window is known, and it is time to ask.
        known = self.record()
        without = replace(known, ari=None, renew_after=renew_after(known.not_before, known.not_after), ask_after=None)
        without.write(self.site.records(), renewal_key(self.name))
        self.site.watch = self.ca.watch()

    def advise(self, answer: str) -> None:
        """What the CA says when it is asked about the certificate; any text."""
        self.ca.server.set_renewal_info(self.site.leaf(self.name).public_bytes(Encoding.PEM).decode(), answer)

    def window(self, start: timedelta, end: timedelta, **more: str) -> None:
        """The CA says this window, from now on."""
        now = datetime.now(UTC)
        suggested = {"start": (now + start).isoformat(), "end": (now + end).isoformat()}
        self.advise(json.dumps({"suggestedWindow": suggested, **more}))

    def sweep(self) -> Result:
        [result] = sweep(options.read(("test", self.site.given)), listener=self.site.events.append)
        return result

    def ask_again(self) -> None:
        """It is time to ask the CA again."""
        replace(self.record(), ask_after=datetime.now(UTC)).write(self.site.records(), renewal_key(self.name))

    def record(self) -> RenewalRecord:
        found = RenewalRecord.read(self.site.records(), renewal_key(self.name))
        assert found is not None
        return found


@pytest.fixture
def advised(pebble: PebbleCA, tmp_path: Path) -> Iterator[Advised]:
    made = Advised(pebble, tmp_path)
    with serving(site_app(made.site.given["store"]), pebble.http_port):
        made.issue()
        yield made


def test_a_window_in_the_past_renews_now_and_says_what_it_replaces(advised: Advised) -> None:
    advised.window(timedelta(hours=-2), timedelta(hours=-1), explanationURL=EXPLANATION)
    before = advised.record()
    result = advised.sweep()
    assert result.action == "renewed", result
    assert EXPLANATION in result.reason
    [order] = advised.site.orders()
    assert [new for new, _ in advised.site.watch.replacements()] == [order]
    assert advised.record().serial != before.serial
    assert advised.site.warnings() == []
    assert advised.sweep().action == "not due"


def test_a_window_that_has_begun_renews_when_its_drawn_moment_has_come(advised: Advised) -> None:
    advised.window(timedelta(hours=-1), timedelta(seconds=1))
    while (result := advised.sweep()).action == "not due":
        assert datetime.now(UTC) < advised.record().renew_after
        advised.ask_again()
    assert result.action == "renewed"
    assert len(advised.site.watch.replacements()) == 1


def test_the_moment_is_drawn_in_the_window_and_kept_while_the_window_stays(advised: Advised) -> None:
    advised.window(timedelta(days=10), timedelta(days=20))
    assert advised.sweep().action == "not due"
    drawn = advised.record()
    assert drawn.ari is not None
    assert drawn.ari.start <= drawn.renew_after <= drawn.ari.end
    for _ in range(3):
        advised.ask_again()
        assert advised.sweep().action == "not due"
        assert advised.record().renew_after == drawn.renew_after
    assert advised.site.requests("renewal-info") == ["renewal-info"] * 4
    advised.window(timedelta(days=1), timedelta(days=2))
    advised.ask_again()
    advised.sweep()
    moved = advised.record()
    assert moved.ari is not None
    assert moved.ari.start <= moved.renew_after <= moved.ari.end < drawn.renew_after
    assert advised.site.orders() == []


def test_a_ca_is_not_asked_before_the_time_that_it_named(advised: Advised) -> None:
    for _ in range(3):
        assert advised.sweep().action == "not due"
    assert advised.site.requests("renewal-info") == ["renewal-info"]
    record = advised.record()
    assert record.ask_after is not None
    assert timedelta(hours=5) < record.ask_after - datetime.now(UTC) <= timedelta(hours=6), "Pebble says 6 hours"


NONSENSE = {
    "a window that ends before it begins": {"start": "2027-02-03T00:00:00Z", "end": "2027-02-01T00:00:00Z"},
    "a window of no length": {"start": "2027-01-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"},
    "a window that ends after the certificate": {"start": "2027-01-01T00:00:00Z", "end": "2099-01-01T00:00:00Z"},
    "times without an offset": {"start": "2026-01-01T00:00:00", "end": "2026-01-02T00:00:00"},
    "times that are none": {"start": "yesterday", "end": "today"},
    "no end": {"start": "2026-01-01T00:00:00Z"},
    "numbers": {"start": 1767225600, "end": 1767312000},
}
ANSWERS = {
    **{what: json.dumps({"suggestedWindow": window}) for what, window in NONSENSE.items()},
    "no window": "{}",
    "a list": "[]",
    "half a document": '{"suggestedWindow": {"start": "2026-01-01T00:00:00Z", ',
    "a page": "<!doctype html><title>Service unavailable</title>",
    "nothing at all": " ",
}


@pytest.mark.parametrize("answer", [pytest.param(answer, id=what) for what, answer in ANSWERS.items()])
def test_nonsense_is_ignored_with_a_warning_and_the_fraction_of_the_lifetime_counts(advised: Advised, answer: str) -> None:
    advised.advise(answer)
    assert advised.sweep().action == "not due"
    record = advised.record()
    assert record.ari is None
    assert record.renew_after == renew_after(record.not_before, record.not_after)
    [warning] = advised.site.warnings()
    assert "renewal information" in warning
    assert advised.site.orders() == []
    assert record.ask_after is not None
    assert record.ask_after > datetime.now(UTC) + timedelta(minutes=30), "it is not asked again in the next minute"
    assert advised.sweep().action == "not due"
    assert advised.site.requests("renewal-info") == ["renewal-info"]


def test_nonsense_after_a_window_keeps_the_moment_of_that(advised: Advised) -> None:
    advised.window(timedelta(days=10), timedelta(days=20))
    advised.sweep()
    drawn = advised.record().renew_after
    advised.advise(ANSWERS["a page"])
    advised.ask_again()
    assert advised.sweep().action == "not due"
    assert advised.record().renew_after == drawn
    assert len(advised.site.warnings()) == 1
