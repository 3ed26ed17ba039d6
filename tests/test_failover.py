"""Several CAs: the next is asked after repeated failures that are not the site's own, the first again at the next renewal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from renewal_site import RenewalSite, renewal_site

from acme_middleware import authorities
from acme_middleware import clock as clocks
from acme_middleware import options as option_table
from acme_middleware.authorities import Authority, Limit, Limits, find, find_all
from acme_middleware.errors import (
    AcmeMiddlewareError,
    CARefused,
    CAUnreachable,
    ConfigurationError,
    NotYet,
    Problem,
    ValidationFailed,
)
from acme_middleware.issuance import ledger, plan
from acme_middleware.issuance.failover import account_of, choose, suited
from acme_middleware.issuance.issuer import Action
from acme_middleware.issuance.ledger import Ledger
from acme_middleware.issuance.records import AccountRecord, account_key
from acme_middleware.issuance.standing import standing
from acme_middleware.local_ca import LocalCA
from acme_middleware.options import Options
from acme_middleware.stores.memory import MemoryStore
from acme_middleware.testing.clock import Clock

NAME = "shop.example"
SILENT = CAUnreachable("no answer", url="u")
LIMIT = CARefused("too many", problem=Problem("rateLimited", "x"), status=429, retry_after=60, url="u")
REFUSED = CARefused("no", problem=Problem("rejectedIdentifier", "x"), status=400, retry_after=None, url="u")
INVALID = ValidationFailed("could not validate", name=NAME, problem=Problem("unauthorized", "x"))


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock(datetime(2026, 11, 27, 12, tzinfo=UTC))
    with clocks.replaced(clock.now):
        yield clock


def chosen(store: MemoryStore, cas: str = "letsencrypt,zerossl,google", **given: str) -> str:
    options = Options(ca=cas, **given)  # type: ignore[arg-type]
    return choose(store, find_all(cas), options, [NAME]).id


def fail(store: MemoryStore, ca: str, *errors: AcmeMiddlewareError, account: str = "default") -> None:
    for error in errors:
        Ledger(store, ca, account, [NAME], NAME).failed(error)


@pytest.mark.parametrize(
    ("errors", "ca"),
    [
        pytest.param([], "letsencrypt", id="no failure"),
        pytest.param([SILENT], "letsencrypt", id="one"),
        pytest.param([SILENT, LIMIT], "letsencrypt", id="two"),
        pytest.param([SILENT, LIMIT, REFUSED], "zerossl", id="three, of any kind"),
        pytest.param([INVALID] * 9, "letsencrypt", id="validations, which the next CA would fail as well"),
        pytest.param([SILENT, SILENT, INVALID, SILENT], "letsencrypt", id="a validation in between"),
    ],
)
def test_next_ca_is_asked_after_three_failures_that_it_might_not_have(
    errors: list[AcmeMiddlewareError], ca: str, clock: Clock
) -> None:
    store = MemoryStore()
    fail(store, "letsencrypt", *errors)
    assert chosen(store) == ca


def test_third_ca_is_asked_where_two_fail_and_then_the_one_whose_pause_ends_first(clock: Clock) -> None:
    store = MemoryStore()
    fail(store, "letsencrypt", *[SILENT] * 4)
    fail(store, "zerossl", *[SILENT] * 3)
    assert chosen(store) == "google"
    fail(store, "google", *[REFUSED] * 4)
    assert chosen(store) == "zerossl"


def test_ca_that_failed_is_asked_again_a_day_later(clock: Clock) -> None:
    store = MemoryStore()
    fail(store, "letsencrypt", *[SILENT] * 5)
    clock.travel(hours=23)
    assert chosen(store) == "zerossl"
    clock.travel(hours=2)
    assert chosen(store) == "letsencrypt"
    fail(store, "letsencrypt", SILENT)
    assert chosen(store) == "zerossl"


def test_external_account_is_for_those_that_take_one() -> None:
    both = find_all("letsencrypt,zerossl")
    given = Options(eab_kid="kid", eab_hmac_key="key")
    assert [account_of(suited(given, both, ca)) for ca in both] == ["default", "kid"]
    assert suited(given, both, both[0]).eab_hmac_key is None
    alone = find_all("letsencrypt")
    assert account_of(suited(given, alone, alone[0])) == "kid"


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("letsencrypt, zerossl", id="comma and space"),
        pytest.param("letsencrypt zerossl", id="a space"),
        pytest.param(" letsencrypt,zerossl,", id="a comma too many"),
        pytest.param(["letsencrypt", "zerossl"], id="a list"),
        pytest.param(("letsencrypt", "https://acme.zerossl.com/v2/DV90"), id="a name and an URL"),
        pytest.param("letsencrypt,zerossl,letsencrypt", id="one twice"),
    ],
)
def test_list_of_cas_is_given_in_any_way(given: object) -> None:
    read = option_table.read(("setting", {"ca": given}))
    assert [ca.id for ca in find_all(read.ca)] == ["letsencrypt", "zerossl"]


@pytest.mark.parametrize("given", [["letsencrypt", 3], {"letsencrypt": 1}, 3])
def test_what_is_no_list_of_cas_is_refused(given: object) -> None:
    with pytest.raises(ConfigurationError, match=r"ACME_CA is .* takes text"):
        option_table.read(("setting", {"ca": given}))


def test_misspelt_ca_of_a_list_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no CA called 'zerosl'; did you mean zerossl"):
        find_all("letsencrypt, zerosl")


@dataclass
class Two:
    """A site with two CAs, the first of which is the site's own."""

    site: RenewalSite
    other: LocalCA

    @property
    def cas(self) -> tuple[str, str]:
        return self.site.ca.directory_url, self.other.directory_url

    def ca_of(self, name: str = NAME) -> str:
        """The one that issued: first or second."""
        return "first" if self.site.record(name).ca == find(self.cas[0]).id else "second"

    def fail_first(self, times: int) -> None:
        for _ in range(times):
            with pytest.raises(CARefused):
                self.site.issue(NAME, force=True)


@pytest.fixture
def two(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    keys = tmp_path / "keys"
    with (
        renewal_site(tmp_path, keys, authz_reuse=False) as site,
        LocalCA(state=keys, clock=site.clock.now, terms=False, resolve=site.ca.resolve) as other,
    ):
        running = Two(site, other)
        site.given["ca"] = ", ".join(running.cas)
        yield running


def test_second_ca_issues_after_three_failures_of_the_first_and_not_before(two: Two) -> None:
    two.site.ca.fault("server-error", times=None)
    two.fail_first(3)
    assert two.other.requests() == []
    assert two.site.issue(NAME).action is Action.ISSUED
    assert two.ca_of() == "second"
    assert two.site.record(NAME).options["ca"] == ",".join(two.cas)
    accounts = [AccountRecord.read(two.site.store, account_key(find(ca).id, "default")) for ca in two.cas]
    assert all(account is not None and account.url for account in accounts)


def test_next_renewal_begins_with_the_first_ca(two: Two) -> None:
    two.site.ca.fault("server-error", times=None)
    two.fail_first(3)
    two.site.issue(NAME)
    two.site.ca.faults.clear()
    assert ledger.read_all(two.site.store) == {}
    two.site.to_renewal(NAME)
    assert two.site.actions() == {NAME: "renewed"}
    assert two.ca_of() == "first"


def test_sweep_goes_on_to_the_second_ca_and_a_certificate_of_both_is_never_lost(two: Two) -> None:
    two.site.issue(NAME)
    two.site.to_renewal(NAME)
    two.site.ca.fault("server-error", times=None)
    actions = []
    for _ in range(30):
        actions += two.site.actions().values()
        two.site.clock.travel(minutes=1.2)
    assert actions.count("failed") == 3
    assert actions.index("renewed") == len(actions) - 1 - actions[::-1].index("renewed"), "renewed once"
    assert two.ca_of() == "second"
    assert two.site.record(NAME).not_after > two.site.clock.now() + timedelta(days=80)


def test_failed_validation_does_not_go_to_the_second_ca(two: Two) -> None:
    def nobody(environ: object, start_response: object) -> list[bytes]:
        start_response("404 Not Found", [])  # type: ignore[operator]
        return [b""]

    two.site.ca.resolve["*"] = nobody
    for _ in range(4):
        with pytest.raises(ValidationFailed):
            two.site.issue(NAME, force=True)
    with pytest.raises(NotYet):
        two.site.issue(NAME)
    assert two.other.requests() == []


def test_renewal_stays_with_the_ca_that_issued_and_has_the_others_of_the_list_behind_it(two: Two) -> None:
    """The list came after the certificate: it does not move certificates by itself."""
    two.site.issue(NAME, ca=two.cas[1])
    two.site.to_renewal(NAME)
    assert two.site.actions() == {NAME: "renewed"}
    assert two.ca_of() == "second"
    two.site.to_renewal(NAME)
    two.other.fault("server-error", times=None)
    for _ in range(4):
        two.site.sweep(NAME, force=True)
    assert two.ca_of() == "first"


def test_change_to_another_ca_leaves_no_failure_behind(two: Two) -> None:
    two.site.ca.fault("server-error")
    with pytest.raises(CARefused):
        two.site.issue(NAME, ca=two.cas[0])
    two.site.issue(NAME, ca=two.cas[1])
    assert ledger.read_all(two.site.store) == {}
    two.site.ca.fault("server-error")
    with pytest.raises(CARefused):
        two.site.issue(NAME, ca=two.cas[0], force=True)
    two.site.issue(NAME, ca=two.cas[1], force=True)
    item = plan.items(two.site.options(), two.site.store)[0]
    how = standing(item, ledger.read_all(two.site.store), None, two.site.clock.now(), any_declared=False)
    assert (how.state, how.failure) == ("ok", None)


def test_limit_that_is_met_here_leads_to_the_second_ca_as_one_that_is_met_there(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(domain=Limit(1, timedelta(days=7)))
    first = Authority("limited", "a CA with limits", two.cas[0], limits=limits)
    monkeypatch.setattr(authorities, "AUTHORITIES", {**authorities.AUTHORITIES, "limited": first})
    two.site.given["ca"] = f"limited, {two.cas[1]}"
    two.site.issue("a.example.com")
    for minutes in (1.2, 12, 120):
        with pytest.raises(NotYet, match=r"allows 1 certificates for example\.com"):
            two.site.issue("b.example.com")
        two.site.clock.travel(minutes=minutes)
    assert two.other.requests() == []
    assert two.site.issue("b.example.com").action is Action.ISSUED
    assert two.site.record("b.example.com").ca == find(two.cas[1]).id
    assert two.site.orders() == 1


def test_staging_is_the_first_ones_twin() -> None:
    first: Authority = authorities.find_all("letsencrypt,zerossl")[0]
    assert authorities.staging_of(first).id == "letsencrypt-staging"
