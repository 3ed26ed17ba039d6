"""A CA that says no, and for how long it is left alone: by a sweep, by a person, after restarts, and by its own limits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from cryptography import x509
from renewal_site import RenewalSite

from acme_middleware import authorities, clock, events
from acme_middleware.authorities import AUTHORITIES, Authority, Limit, Limits
from acme_middleware.cli import main
from acme_middleware.errors import CARefused, CAUnreachable, NotYet, ValidationFailed
from acme_middleware.issuance import ledger
from acme_middleware.issuance.issuer import Action
from acme_middleware.issuance.records import CertificateRecord, certificate_key, renewal_key
from acme_middleware.protocol import network

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
NAME = "shop.example.com"
"""Below a public suffix, so that it is one registered domain with its siblings."""


@pytest.fixture
def strict(open_site: Callable[..., RenewalSite]) -> RenewalSite:
    """A site at a CA that validates every order anew."""
    return open_site(authz_reuse=False)


@pytest.fixture
def limited(strict: RenewalSite, monkeypatch: pytest.MonkeyPatch) -> RenewalSite:
    """A site at a CA that is known to have small limits."""
    limits = Limits(orders=Limit(6, 3 * HOUR), failures=Limit(2, HOUR), same_names=Limit(3, 7 * DAY), domain=Limit(4, 7 * DAY))
    ours = Authority("limited", "a CA with limits", strict.ca.directory_url, limits=limits)
    monkeypatch.setattr(authorities, "AUTHORITIES", {**AUTHORITIES, "limited": ours})
    strict.given["ca"] = "limited"
    return strict


def nobody(environ: Any, start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"not here"]


def asked(site: RenewalSite) -> int:
    return len(site.ca.requests())


def orders_over(site: RenewalSite, span: timedelta, every: timedelta) -> list[timedelta]:
    """Sweep at intervals; returns when the CA had an order, counted from the beginning."""
    began, placed = site.clock.now(), []
    while site.clock.now() < began + span:
        before = site.orders()
        site.sweep()
        placed += [site.clock.now() - began] * (site.orders() - before)
        site.clock.travel(seconds=every.total_seconds())
    return placed


def test_sweep_tries_a_name_that_cannot_be_validated_less_and_less_often(strict: RenewalSite) -> None:
    strict.issue(NAME)
    strict.to_renewal(NAME)
    strict.ca.resolve["*"] = nobody
    placed = orders_over(strict, 2.5 * DAY, 10 * MINUTE)
    gaps = [later - earlier for earlier, later in pairwise(placed)]
    # A sweep every ten minutes comes up to ten minutes after the end of a pause.
    schedule = [MINUTE, 10 * MINUTE, 100 * MINUTE, DAY, DAY]
    assert len(gaps) == 5
    assert all(least <= gap <= least * 1.1 + 11 * MINUTE for least, gap in zip(schedule, gaps, strict=True)), gaps


def test_no_pause_is_longer_than_a_twentieth_of_six_days(strict: RenewalSite) -> None:
    strict.issue(NAME, profile="6-days")
    strict.to_renewal(NAME)
    strict.ca.resolve["*"] = nobody
    placed = orders_over(strict, 1.5 * DAY, 30 * MINUTE)
    gaps = [later - earlier for earlier, later in pairwise(placed)]
    assert max(gaps) <= 6 * DAY / 20 + 31 * MINUTE
    assert 5 <= len(placed) <= 9


def test_person_may_try_three_times_and_then_waits_or_forces(strict: RenewalSite) -> None:
    strict.ca.resolve["*"] = nobody
    for _ in range(3):
        with pytest.raises(ValidationFailed):
            strict.issue(NAME)
    before = asked(strict)
    for _ in range(17):
        with pytest.raises(NotYet) as early:
            strict.issue(NAME)
        assert timedelta(minutes=95) < early.value.allowed_at - clock.now() <= timedelta(minutes=110)
    assert strict.orders() == 3
    assert asked(strict) == before, "a try that is refused here asks the CA nothing"
    with pytest.raises(ValidationFailed):
        strict.issue(NAME, force=True)
    assert strict.orders() == 4


def test_person_who_puts_the_server_right_need_not_wait(strict: RenewalSite) -> None:
    app = strict.ca.resolve["*"]
    strict.ca.resolve["*"] = nobody
    with pytest.raises(ValidationFailed) as failed:
        strict.issue(NAME)
    assert failed.value.hint.splitlines()[-1] == "cost      1st failure in a row; the next try is allowed now"
    strict.ca.resolve["*"] = app
    assert strict.issue(NAME).action is Action.ISSUED
    assert ledger.read_all(strict.store) == {}


def test_ten_starts_of_a_container_with_a_good_certificate_order_nothing(strict: RenewalSite) -> None:
    strict.issue(NAME)
    before = asked(strict)
    for _ in range(10):
        assert strict.issue(NAME).action is Action.NOT_DUE
    assert asked(strict) == before


def test_command_says_when_the_next_try_is_allowed(strict: RenewalSite, capsys: pytest.CaptureFixture[str]) -> None:
    strict.ca.fault("rate-limited", retry_after=7200)
    flags = [word for option, value in strict.usual.items() for word in (f"--{option.replace('_', '-')}", value)]
    assert main(["issue", *flags, NAME]) == 75
    assert main(["issue", *flags, NAME]) == 75
    said = capsys.readouterr().err
    moment = ledger.when(ledger.read_all(strict.store)[NAME].next_try, up=True)
    assert f"the next try is allowed from {moment} on (--force: now)" in said
    assert f"error: {NAME} must wait: it may be tried again from {moment} on" in said
    assert "last error: the CA refused: too many requests" in said
    assert "--force tries now" in said
    assert main(["issue", *flags, "--force", NAME]) == 0


def test_program_is_told_when_the_next_try_is_allowed(strict: RenewalSite, capsys: pytest.CaptureFixture[str]) -> None:
    strict.ca.fault("paused")
    flags = [word for option, value in strict.usual.items() for word in (f"--{option.replace('_', '-')}", value)]
    assert main(["issue", *flags, NAME]) == 75
    capsys.readouterr()
    assert main(["issue", *flags, "--json", NAME]) == 75
    error = json.loads(capsys.readouterr().out)["error"]
    allowed_at = datetime.fromisoformat(error["allowed_at"])
    assert 23.9 * HOUR < allowed_at - clock.now() < 26.5 * HOUR
    assert (error["type"], error["name"], error["exit_code"]) == ("NotYet", NAME, 75)
    assert (error["failures"], error["paused"]) == (1, "https://ca.test/unpause")


@pytest.mark.parametrize("fault", ["rate-limited", "rate-limited-until"])
def test_sweep_comes_back_when_the_ca_says(fault: str, strict: RenewalSite) -> None:
    strict.issue(NAME)
    strict.to_renewal(NAME)
    strict.ca.fault(fault, retry_after=5 * 3600)
    assert strict.actions() == {NAME: "failed"}
    requests = len(strict.ca.requests("new-order"))
    for _ in range(9):
        strict.clock.travel(minutes=30)
        assert strict.actions() == {NAME: "must wait"}
    assert len(strict.ca.requests("new-order")) == requests
    strict.clock.travel(hours=1.1)
    assert strict.actions() == {NAME: "renewed"}


def test_paused_account_is_left_alone_for_a_day_and_its_url_shown(strict: RenewalSite) -> None:
    strict.issue(NAME)
    strict.to_renewal(NAME)
    strict.ca.fault("paused", times=None)
    assert strict.actions() == {NAME: "failed"}
    before = asked(strict)
    for _ in range(5):
        strict.clock.travel(hours=4)
        [result] = strict.sweep().values()
        assert result.action == "must wait"
        assert result.error is not None
        assert "visit https://ca.test/unpause" in result.error.hint
    with pytest.raises(NotYet):
        strict.issue(NAME)
    assert asked(strict) == before
    with pytest.raises(CARefused):
        strict.issue(NAME, force=True)
    told = [event.message for event in strict.said(events.Warned) if "https://ca.test/unpause" in event.message]
    assert len(told) == 1
    assert "paused the account" in told[0]
    with pytest.raises(NotYet):
        strict.issue(NAME)
    strict.ca.faults.clear()
    strict.clock.travel(hours=27)
    assert strict.actions() == {NAME: "renewed"}


def test_check_of_our_own_costs_nothing(strict: RenewalSite) -> None:
    for _ in range(5):
        with pytest.raises(ValidationFailed, match="does not serve our token"):
            strict.issue(NAME, self_check="require", self_check_via="127.0.0.1:1")
    assert strict.orders() == 1
    assert list(strict.store.scan("ledger/")) == []
    assert strict.issue(NAME).action is Action.ISSUED


def test_ca_that_is_down_is_asked_every_two_hours(strict: RenewalSite) -> None:
    strict.issue(NAME)
    strict.to_renewal(NAME)
    strict.ca.fault("server-error", times=None)
    kept: list[timedelta] = []
    began = strict.clock.now()
    while strict.clock.now() < began + DAY:
        if strict.actions() == {NAME: "failed"}:
            kept.append(strict.clock.now() - began)
        strict.clock.travel(minutes=10)
    assert 3 + 9 <= len(kept) <= 3 + 12
    assert all(later - earlier <= timedelta(minutes=143) for earlier, later in pairwise(kept))
    strict.ca.faults.clear()
    strict.clock.travel(hours=2.5)
    assert strict.actions() == {NAME: "renewed"}
    assert ledger.read_all(strict.store) == {}


def test_local_ca_that_is_not_started_need_not_be_spared(strict: RenewalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    down = Authority("down", "the local CA", "https://127.0.0.1:1/directory", when_down="start it")
    monkeypatch.setattr(authorities, "AUTHORITIES", {**AUTHORITIES, "down": down})
    monkeypatch.setattr(network, "FAULT_TRIES", 1)
    for _ in range(5):
        with pytest.raises(CAUnreachable):
            strict.issue(NAME, ca="down")


def test_damaged_record_is_said_and_stops_nothing(strict: RenewalSite) -> None:
    where = ledger.ledger_key(authorities.find(strict.ca.directory_url).id, "default", [NAME])
    strict.store.put(where, b'{"schema": 99}')
    assert strict.issue(NAME).action is Action.ISSUED
    assert any(where in event.message for event in strict.said(events.Warned))


def test_clock_that_was_years_ahead_does_not_stop_renewals(strict: RenewalSite) -> None:
    strict.issue(NAME)
    strict.to_renewal(NAME)
    app = strict.ca.resolve["*"]
    strict.clock.travel(days=3650)
    strict.ca.resolve["*"] = nobody
    strict.sweep()
    strict.clock.travel(days=-3650)
    strict.ca.resolve["*"] = app
    assert strict.actions() == {NAME: "renewed"}


def test_fourth_certificate_for_the_same_names_is_not_asked_for(limited: RenewalSite) -> None:
    for _ in range(3):
        limited.issue(NAME, force=True)
    before = asked(limited)
    with pytest.raises(NotYet, match="allows 3 certificates for exactly these names in 7 days") as early:
        limited.issue(NAME, force=True)
    assert asked(limited) == before
    assert 6.9 * DAY < early.value.allowed_at - clock.now() <= 7 * DAY + MINUTE
    limited.issue("www.example.com")
    with pytest.raises(NotYet, match=r"allows 4 certificates for example\.com and below in 7 days"):
        limited.issue("api.example.com")
    limited.issue("other.example")
    limited.clock.travel(days=7, minutes=1)
    assert limited.issue(NAME, force=True).action is Action.RENEWED


def test_orders_are_counted_whatever_becomes_of_them(limited: RenewalSite) -> None:
    for number in range(6):
        limited.issue(f"site{number}.example{number}.com")
    before = asked(limited)
    with pytest.raises(NotYet, match="allows 6 new orders in 3 hours"):
        limited.issue("one.more.example")
    assert asked(limited) == before
    limited.clock.travel(hours=3, minutes=1)
    limited.issue("one.more.example")


def test_renewal_in_the_window_that_says_what_it_replaces_is_outside_of_all_limits(limited: RenewalSite) -> None:
    for _ in range(3):
        limited.issue(NAME, force=True)
    with pytest.raises(NotYet):
        limited.issue(NAME, force=True)
    made = CertificateRecord.read(limited.store, certificate_key(NAME))
    assert made is not None
    now = limited.clock.now()
    limited.ca.set_renewal_window(x509.load_pem_x509_certificate(made.cert_pem.encode()), now + HOUR, now + 2 * HOUR)
    replace(limited.record(NAME), ask_after=now).write(limited.store, renewal_key(NAME))
    assert limited.actions() == {NAME: "not due"}
    window = limited.record(NAME).ari
    assert window is not None
    limited.clock.move_to(window.drawn)
    assert limited.actions() == {NAME: "renewed"}
    assert limited.record(NAME).serial != made_serial(made)
    limited.issue("www.example.com")  # the fourth below its domain: the renewal did not count


def made_serial(made: CertificateRecord) -> str:
    return f"{x509.load_pem_x509_certificate(made.cert_pem.encode()).serial_number:x}"


def test_failed_validations_are_counted_for_each_name(limited: RenewalSite) -> None:
    limited.ca.resolve["*"] = nobody
    full = ledger.when(limited.clock.now() + HOUR, up=True)
    costs = []
    for _ in range(2):
        with pytest.raises(ValidationFailed) as failed:
            limited.issue(NAME)
        costs.append(failed.value.hint.splitlines()[-1])
    assert costs == [
        "cost      1 of 2 failed validations this hour; the next try is allowed now",
        f"cost      2 of 2 failed validations this hour; the next try is allowed from {full} on",
    ]
    before = asked(limited)
    with pytest.raises(NotYet, match=f"2 failed validations of {NAME} in 1 hour"):
        limited.issue(NAME, "other.example", force=True)
    assert asked(limited) == before
    limited.clock.travel(hours=1, minutes=1)
    with pytest.raises(ValidationFailed):
        limited.issue(NAME)


def test_order_that_was_placed_already_is_finished_whatever_the_limits(limited: RenewalSite) -> None:
    for number in range(5):
        limited.issue(f"site{number}.example{number}.com")
    limited.ca.fault("rate-limited", where="finalize", retry_after=60)
    with pytest.raises(CARefused):
        limited.issue(NAME)
    with pytest.raises(NotYet, match="allows 6 new orders"):
        limited.issue("other.example")
    limited.clock.travel(minutes=2)
    assert limited.issue(NAME).action is Action.ISSUED
    assert limited.orders() == 6


def test_ca_that_allows_few_requests_a_second_is_asked_no_faster(strict: RenewalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Authority("slow", "a slow CA", strict.ca.directory_url, limits=Limits(requests_per_second=4))
    monkeypatch.setattr(authorities, "AUTHORITIES", {**AUTHORITIES, "slow": slow})
    began = time.monotonic()
    strict.issue(NAME, ca="slow")
    assert asked(strict) > 8
    assert time.monotonic() - began > (asked(strict) - 1) // 4
