"""The test kit, used as its users do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from acme_middleware import clock
from acme_middleware.errors import CARefused, NotYet
from acme_middleware.issuance.issuer import Action, Outcome
from acme_middleware.local_ca import LocalCA
from acme_middleware.testing.clock import Clock
from acme_middleware.wsgi import AcmeMiddleware

pytest_plugins = ["acme_middleware.testing.plugin"]
Issue = Callable[..., Outcome]


def page(environ: Any, start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [("Content-Length", "0")])
    return [b""]


@pytest.fixture
def app(acme_ca: LocalCA) -> AcmeMiddleware:
    made = AcmeMiddleware(page, store="memory:")
    acme_ca.resolve["*"] = made
    return made


@pytest.mark.usefixtures("app")
def test_certificate_is_issued_and_not_again_until_it_is_due(acme_issue: Issue, acme_clock: Clock) -> None:
    assert acme_issue("example.com").action is Action.ISSUED
    acme_clock.travel(days=50)
    assert acme_issue("example.com").action is Action.NOT_DUE
    acme_clock.travel(days=15)
    renewed = acme_issue("example.com")
    assert renewed.action is Action.RENEWED
    assert renewed.record.not_before > acme_clock.now() - timedelta(days=1)


@pytest.mark.usefixtures("app")
def test_expired_is_renewed_at_once(acme_issue: Issue, acme_clock: Clock) -> None:
    acme_issue("example.com")
    acme_clock.travel(days=91)
    assert acme_issue("example.com").reason == "expired"


@pytest.mark.usefixtures("app")
def test_fault_is_met_and_the_next_run_in_time_is_well(acme_ca: LocalCA, acme_issue: Issue, acme_clock: Clock) -> None:
    acme_ca.fault("rate-limited", retry_after=3600)
    with pytest.raises(CARefused) as refused:
        acme_issue("example.com")
    assert refused.value.retry_after == 3600
    with pytest.raises(NotYet):
        acme_issue("example.com")
    acme_clock.travel(hours=1.2)  # the CA's hour, and what is added so that not all come back at once
    assert acme_issue("example.com").action is Action.ISSUED


def test_app_may_be_reached_over_a_socket(acme_ca: LocalCA, acme_issue: Issue, acme_serve: Callable[[Any], str]) -> None:
    acme_ca.resolve["example.com"] = acme_serve(AcmeMiddleware(page, store="memory:"))
    assert acme_issue("example.com").action is Action.ISSUED


def test_clock_moves_what_decides_and_goes_on(acme_clock: Clock) -> None:
    before = clock.now()
    acme_clock.travel(days=60)
    assert timedelta(days=60) <= clock.now() - before < timedelta(days=60, seconds=30)
    acme_clock.move_to(datetime(2030, 1, 1, tzinfo=UTC))
    assert clock.now().year == 2030
    with pytest.raises(ValueError, match="no time zone"):
        acme_clock.move_to(datetime(2030, 1, 1))


def test_clock_is_the_real_one_again_afterwards() -> None:
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
