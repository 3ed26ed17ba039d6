"""Budgets: what a CA with known limits is not asked, counted by every process that shares the store."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from acme_middleware import clock as clocks
from acme_middleware.authorities import AUTHORITIES, Limit, Limits, find
from acme_middleware.errors import NotYet
from acme_middleware.issuance.budgets import Budgets, registered_domain
from acme_middleware.issuance.ledger import when
from acme_middleware.issuance.names import identifiers
from acme_middleware.protocol.identifier import Identifier
from acme_middleware.stores.base import Store
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.stores.memory import MemoryStore
from acme_middleware.testing.clock import Clock

LETSENCRYPT = find("letsencrypt")
DAY = timedelta(days=1)
START = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock(START)
    with clocks.replaced(clock.now):
        yield clock


def budgets(store: Store, *, ca: str = "letsencrypt", account: str = "default") -> Budgets:
    return Budgets(store, find(ca), account)


def demand_refused(ours: Budgets, *names: str, says: str, at: datetime) -> None:
    with pytest.raises(NotYet) as early:
        ours.refuse_order(names[0], identifiers(names))
    assert says in str(early.value)
    assert early.value.exit_code == 75
    assert early.value.name == names[0]
    assert timedelta(0) <= early.value.allowed_at - at < timedelta(seconds=5)
    assert f"allowed again from {when(early.value.allowed_at, up=True)} on" in early.value.hint


def test_sixth_certificate_for_the_same_names_waits_for_a_week_from_the_first(clock: Clock) -> None:
    store = MemoryStore()
    wanted = identifiers(["a.example.com", "example.com"])
    for _ in range(5):
        budgets(store).refuse_order("a.example.com", wanted)
        budgets(store).issued(wanted)
        clock.travel(hours=1)
    demand_refused(
        budgets(store),
        "example.com",
        "a.example.com",
        says="Let's Encrypt allows 5 certificates for exactly these names in 7 days, and example.com has used them up",
        at=START + 7 * DAY,
    )
    budgets(store).refuse_order("example.com", identifiers(["example.com"]))
    budgets(store, account="other").refuse_order("example.com", wanted)
    budgets(store, ca="zerossl").refuse_order("example.com", wanted)
    clock.move_to(START + 7 * DAY + timedelta(seconds=2))
    budgets(store).refuse_order("example.com", wanted)


def test_fifty_certificates_below_one_registered_domain(clock: Clock) -> None:
    store = MemoryStore()
    for number in range(50):
        budgets(store).issued(identifiers([f"c{number}.example.co.uk"]))
    demand_refused(
        budgets(store), "new.example.co.uk", says="50 certificates for example.co.uk and below in 7 days", at=START + 7 * DAY
    )
    budgets(store).refuse_order("x", identifiers(["other.co.uk"]))


def test_three_hundred_orders_in_three_hours(clock: Clock) -> None:
    store = MemoryStore()
    for _ in range(300):
        budgets(store).ordered()
    demand_refused(budgets(store), "new.example", says="300 new orders in 3 hours", at=START + timedelta(hours=3))
    clock.travel(hours=3, seconds=2)
    budgets(store).refuse_order("new.example", identifiers(["new.example"]))


def test_five_failed_validations_of_a_name_in_an_hour(clock: Clock) -> None:
    store, wanted = MemoryStore(), identifiers(["a.example", "b.example"])
    said = []
    for _ in range(5):
        budgets(store).refuse_validation("a.example", wanted)
        said.append(budgets(store).failed(["b.example"]))
    assert [spent and spent.words for spent in said] == [f"{count} of 5 failed validations this hour" for count in range(1, 6)]
    assert [spent and spent.full_until for spent in said] == [*[None] * 4, START + timedelta(hours=1, seconds=1)]
    with pytest.raises(NotYet, match=r"5 failed validations of b\.example in 1 hour"):
        budgets(store).refuse_validation("a.example", wanted)
    budgets(store).refuse_validation("a.example", wanted[:1])
    clock.travel(hours=1, seconds=2)
    budgets(store).refuse_validation("a.example", wanted)
    again = budgets(store).failed(["b.example"])
    assert again == ("1 of 5 failed validations this hour", None)


@pytest.mark.parametrize("ca", ["zerossl", "https://ca.example/directory", "local"])
def test_ca_without_known_limits_costs_no_record(ca: str, clock: Clock) -> None:
    store, wanted = MemoryStore(), identifiers(["a.example"])
    ours = budgets(store, ca=ca)
    for _ in range(400):
        ours.refuse_order("a.example", wanted)
        ours.ordered()
        ours.issued(wanted)
    assert ours.failed(["a.example"]) is None
    assert list(store.scan("")) == []


def test_staging_has_a_larger_row_of_its_own() -> None:
    strict, generous = LETSENCRYPT.limits, find("letsencrypt-staging").limits
    assert strict is not None
    assert strict == Limits(
        orders=Limit(300, timedelta(hours=3)),
        failures=Limit(5, timedelta(hours=1)),
        same_names=Limit(5, 7 * DAY),
        domain=Limit(50, 7 * DAY),
    )
    assert generous is not None
    assert generous.requests_per_second == 20
    assert generous.orders is not None
    assert generous.orders.most > 300


def test_records_stay_small_and_old_ones_go(clock: Clock) -> None:
    store = MemoryStore()
    for day in range(30):
        for number in range(60):
            budgets(store).ordered()
            budgets(store).issued(identifiers([f"d{day}-{number}.example"]))
            budgets(store).failed([f"d{day}-{number}.example"])
            budgets(store).issued(identifiers(["always.example"]))
        clock.travel(days=1)
    records = dict(store.scan("budget/"))
    assert max(len(record.value) for record in records.values()) < 5000
    # A week of sets and domains, and a day of failures, not a month of each.
    assert len(records) < 8 * 120 + 60 + 10
    budgets(store).tidy(clock.travel(days=8))
    assert list(store.scan("budget/")) == []


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"{", id="half a document"),
        pytest.param(b'{"schema": 2}', id="of a newer version"),
        pytest.param(b'{"schema": 1, "times": ["x", null], "window": 1}', id="times that are none"),
    ],
)
def test_damaged_record_counts_as_none(value: bytes, clock: Clock) -> None:
    store, wanted = MemoryStore(), identifiers(["a.example"])
    for _ in range(5):
        budgets(store).issued(wanted)
    for where, _ in store.scan("budget/"):
        store.put(where, value)
    budgets(store).refuse_order("a.example", wanted)
    budgets(store).issued(wanted)
    times = {len(json.loads(record.value)["times"]) for _, record in store.scan("budget/")}
    assert times == {1}
    store.put(next(iter(store.scan("budget/")))[0], value)
    budgets(store).tidy(clocks.now())


@pytest.mark.parametrize("back", [pytest.param(timedelta(hours=2), id="two hours"), pytest.param(3650 * DAY, id="ten years")])
def test_clock_that_was_wrong_does_not_use_up_a_budget(back: timedelta, clock: Clock) -> None:
    store, wanted = MemoryStore(), identifiers(["a.example"])
    for _ in range(5):
        budgets(store).issued(wanted)
    clock.move_to(START - back)
    budgets(store).refuse_order("a.example", wanted)


def test_counts_of_several_hosts_add_up(tmp_path: Path, clock: Clock) -> None:
    def count(_: int) -> None:
        Budgets(DirectoryStore(tmp_path), LETSENCRYPT, "default").issued(identifiers(["a.example"]))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    ours = budgets(DirectoryStore(tmp_path))
    ours.refuse_order("a.example", identifiers(["a.example"]))
    count(0)
    demand_refused(ours, "a.example", says="exactly these names", at=START + 7 * DAY)


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("example.com", "example.com"),
        ("a.b.example.com", "example.com"),
        ("www.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("me.github.io", "me.github.io"),
        ("deep.me.github.io", "me.github.io"),
        ("xn--bcher-kva.example.xn--fiqs8s", "example.xn--fiqs8s"),
        ("host.internal-zone-of-ours", "host.internal-zone-of-ours"),
    ],
)
def test_registered_domain(name: str, domain: str) -> None:
    assert registered_domain(Identifier("dns", name)) == domain


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_address_counts_by_itself(address: str, clock: Clock) -> None:
    assert registered_domain(Identifier("ip", address)) == address
    store = MemoryStore()
    budgets(store).issued([Identifier("ip", address)])
    assert len(list(store.scan("budget/letsencrypt/default/domain-"))) == 1


def test_smaller_limits_come_from_the_table(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setitem(AUTHORITIES, "zerossl", replace(find("zerossl"), limits=Limits(same_names=Limit(1, DAY))))  # type: ignore[arg-type]
    store, wanted = MemoryStore(), identifiers(["a.example"])
    budgets(store, ca="zerossl").issued(wanted)
    with pytest.raises(NotYet, match="ZeroSSL allows 1 certificates for exactly these names in 1 day"):
        budgets(store, ca="zerossl").refuse_order("a.example", wanted)


@pytest.mark.parametrize(
    ("ca", "loaded"),
    [
        pytest.param("zerossl", "", id="a CA without known limits"),
        pytest.param("letsencrypt", "acme_middleware.issuance.budgets publicsuffixlist", id="a CA with limits"),
    ],
)
def test_list_of_public_suffixes_is_loaded_only_where_it_counts(ca: str, loaded: str) -> None:
    program = f"""
import sys
from acme_middleware import authorities, events
from acme_middleware.issuance import issuer
from acme_middleware.issuance.attempt import Attempt
from acme_middleware.protocol.identifier import Identifier
from acme_middleware.stores.memory import MemoryStore

wanted = [Identifier("dns", "a.example")]
Attempt(MemoryStore(), authorities.find({ca!r}), "default", wanted, "a.example", emit=events.log).refuse(None)
print(*[name for name in ("acme", "acme_middleware.issuance.budgets", "publicsuffixlist") if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == loaded
