"""What an app lets be ordered: names, and so many orders an hour, counted by every process that shares the store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from acme_middleware import clock as clocks
from acme_middleware.errors import ConfigurationError, Conflict, NotAllowed, NotYet
from acme_middleware.issuance.gate import PLACE, Gate
from acme_middleware.issuance.ledger import when
from acme_middleware.issuance.names import identifiers
from acme_middleware.stores.base import Expect, Store
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.stores.memory import MemoryStore
from acme_middleware.testing.clock import Clock

START = datetime(2026, 11, 27, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock(START)
    with clocks.replaced(clock.now):
        yield clock


def order(store: Store, *names: str, **rules: Any) -> None:
    """What the issuer does with the gate of one call."""
    gate, wanted = Gate(**rules), identifiers(names)
    gate.refuse(store, names[0], wanted, order_waits=False)
    gate.take(store, names[0], wanted)


def refused(store: Store, *names: str, **rules: Any) -> NotYet:
    with pytest.raises(NotYet) as early:
        order(store, *names, **rules)
    assert (early.value.exit_code, early.value.name) == (75, names[0])
    assert f"allowed again from {when(early.value.allowed_at, up=True)} on" in early.value.hint
    return early.value


def test_each_name_is_asked_once_as_the_certificate_will_have_it() -> None:
    asked: list[str] = []

    def allow(name: str) -> bool:
        asked.append(name)
        return True

    gate, wanted = Gate(allow=allow), identifiers(["Bücher.example", "WWW.example.com.", "192.0.2.1"])
    for _ in range(2):  # before the lease, and under it
        gate.refuse(MemoryStore(), "x", wanted, order_waits=False)
    assert asked == ["xn--bcher-kva.example", "www.example.com", "192.0.2.1"]


def test_name_that_is_refused_is_named_and_no_later_one_is_asked() -> None:
    asked: list[str] = []

    def allow(name: str) -> bool:
        asked.append(name)
        return name != "b.example"

    with pytest.raises(NotAllowed, match=r"^b\.example is not allowed$") as error:
        order(MemoryStore(), "a.example", "b.example", "c.example", allow=allow)
    assert (error.value.name, error.value.exit_code, asked) == ("b.example", 2, ["a.example", "b.example"])
    assert error.value.hint


async def later(name: str) -> bool:
    return True


class Later:
    """A callable that cannot be seen to be a coroutine function before it is called."""

    async def __call__(self, name: str) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(lambda name: None, "returned NoneType, and only True allows", id="a forgotten return"),
        pytest.param(lambda name: "no", "returned str", id="text, which is true"),
        pytest.param(lambda name: 1, "returned int", id="a number, which is true"),
        pytest.param(Later(), "returned coroutine", id="a coroutine, which is true"),
        pytest.param(lambda name: {}[name], r"failed with KeyError$", id="an exception"),
        pytest.param(lambda: True, r"failed with TypeError$", id="a function that takes no name"),
    ],
)
def test_anything_but_true_refuses_the_name(answer: Callable[[str], bool], says: str) -> None:
    with pytest.raises(NotAllowed, match=says) as error:
        order(MemoryStore(), "a.example", allow=answer)
    assert error.value.name == "a.example"


def test_what_an_exception_says_is_its_cause_and_not_in_the_message() -> None:
    def allow(name: str) -> bool:
        raise OSError("cannot connect as app:hunter2")

    with pytest.raises(NotAllowed) as error:
        order(MemoryStore(), "a.example", allow=allow)
    assert "hunter2" not in f"{error.value} {error.value.hint} {error.value!r}"
    assert isinstance(error.value.__cause__, OSError)


def test_what_interrupts_a_program_is_no_refusal() -> None:
    def allow(name: str) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        order(MemoryStore(), "a.example", allow=allow)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        pytest.param({"hourly": 0}, "hourly is 0", id="none at all"),
        pytest.param({"hourly": True}, "hourly is True", id="yes"),
        pytest.param({"hourly_per_domain": 2.5}, r"hourly_per_domain is 2\.5", id="a fraction"),
        pytest.param({"hourly_per_domain": "5"}, "hourly_per_domain is '5'", id="text"),
        pytest.param({"allow": later}, "allow is a coroutine function", id="an async allow"),
        pytest.param({"allow": ["a.example"]}, "allow is .'a.example'.", id="a list of names"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused_at_once(rules: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as error:
        Gate(**rules)
    assert error.value.option in rules


def test_a_registered_domain_has_so_many_orders_in_any_hour(clock: Clock) -> None:
    store, rules = MemoryStore(), {"hourly_per_domain": 3}
    for name in ("a.example.co.uk", "b.example.co.uk", "example.co.uk"):
        order(store, name, **rules)
        clock.travel(minutes=10)
    early = refused(store, "new.example.co.uk", **rules)
    assert "hourly_per_domain allows 3 orders for example.co.uk and below in an hour" in str(early)
    assert (early.allowed_at, early.cap) == (START + HOUR + timedelta(seconds=1), "hourly_per_domain")
    order(store, "other.co.uk", **rules)
    clock.move_to(early.allowed_at)
    order(store, "new.example.co.uk", **rules)
    refused(store, "new.example.co.uk", **rules)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("a.shop.newest", "b.x.shop.newest", id="a top-level domain that the list does not know"),
        pytest.param("shop.newest", "www.shop.newest", id="and the domain itself"),
        pytest.param("a.shop.co.uk", "shop.co.uk", id="one that the list knows"),
        pytest.param("a.shop.github.io", "b.shop.github.io", id="a suffix that a company gives out names below"),
        pytest.param("192.0.2.1", "192.0.2.1", id="an address"),
    ],
)
def test_names_of_one_domain_count_together(first: str, second: str, clock: Clock) -> None:
    store = MemoryStore()
    order(store, first, hourly_per_domain=1)
    refused(store, second, hourly_per_domain=1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("a.newest", "b.newest", id="below an unknown top-level domain"),
        pytest.param("a.co.uk", "b.co.uk", id="below a suffix of two parts"),
        pytest.param("a.github.io", "b.github.io", id="two customers of one company"),
        pytest.param("192.0.2.1", "192.0.2.2", id="two addresses"),
    ],
)
def test_names_of_two_domains_count_apart(first: str, second: str, clock: Clock) -> None:
    store = MemoryStore()
    order(store, first, hourly_per_domain=1)
    order(store, second, hourly_per_domain=1)


def test_one_certificate_counts_once_for_each_of_its_registered_domains(clock: Clock) -> None:
    store = MemoryStore()
    order(store, "a.example.com", "b.example.com", "example.org", hourly_per_domain=2)
    order(store, "c.example.com", hourly_per_domain=2)
    refused(store, "example.com", hourly_per_domain=2)
    order(store, "example.org", hourly_per_domain=2)
    refused(store, "example.org", hourly_per_domain=2)


def test_all_domains_together_have_so_many_orders_in_any_hour(clock: Clock) -> None:
    store = MemoryStore()
    for number in range(5):
        order(store, f"c{number}.com", hourly=5)
    early = refused(store, "new.com", hourly=5)
    assert "hourly allows 5 orders in all in an hour" in str(early)
    order(store, "new.com", hourly=6)
    clock.travel(hours=1, seconds=1)
    order(store, "new.com", hourly=1)
    assert "allows 1 order in all" in str(refused(store, "new.com", hourly=1))


def test_who_has_used_up_a_domain_takes_nothing_from_the_others(clock: Clock) -> None:
    store, rules = MemoryStore(), {"hourly_per_domain": 1, "hourly": 2}
    order(store, "a.com", **rules)
    for _ in range(5):
        assert refused(store, "a.com", **rules).cap == "hourly_per_domain"
    order(store, "b.com", **rules)


def test_a_call_with_a_lower_cap_leaves_the_count_of_one_with_a_higher(clock: Clock) -> None:
    store = MemoryStore()
    for number in range(4):
        order(store, f"c{number}.com", hourly=10)
    refused(store, "small.com", hourly=2)
    clock.travel(minutes=1)
    with pytest.raises(NotYet):
        Gate(hourly=2).take(store, "small.com", identifiers(["small.com"]))
    for number in range(6):
        order(store, f"d{number}.com", hourly=10)
    refused(store, "last.com", hourly=10)


def test_an_order_in_a_second_form_and_one_that_waits_count_no_more(clock: Clock) -> None:
    store, wanted = MemoryStore(), identifiers(["a.com"])
    gate = Gate(hourly=1)
    gate.refuse(store, "a.com", wanted, order_waits=False)
    gate.take(store, "a.com", wanted)
    gate.take(store, "a.com", wanted)
    Gate(hourly=1).refuse(store, "a.com", wanted, order_waits=True)
    refused(store, "a.com", hourly=1)
    assert sum("all" in where for where, _ in store.scan(PLACE)) == 1


def test_a_damaged_record_counts_as_none_and_is_made_anew(clock: Clock) -> None:
    store = MemoryStore()
    store.put(f"{PLACE}/all", b"garbage")
    order(store, "a.com", hourly=1)
    refused(store, "a.com", hourly=1)


def test_what_counts_no_more_is_dropped_within_the_next_hour(clock: Clock) -> None:
    store, rules = MemoryStore(), {"hourly_per_domain": 5, "hourly": 100}
    for number in range(30):
        order(store, f"c{number}.com", **rules)
    assert len(list(store.scan(PLACE))) == 32
    clock.travel(hours=2)
    order(store, "new.com", **rules)
    assert sorted(where.rpartition("/")[2] for where, _ in store.scan(PLACE)) == ["all", "domain-new.com", "tidied"]


class AlwaysLate(MemoryStore):
    """A store in which somebody else has always just written."""

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        raise Conflict("late", key=key)


def test_a_count_that_never_gets_through_is_an_error_and_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acme_middleware.issuance.gate.PAUSE", 0)
    with pytest.raises(Conflict, match="the orders in all could not be counted") as error:
        order(AlwaysLate(), "a.com", hourly=5)
    assert error.value.exit_code == 75


ORDERING = """
import sys
from acme_middleware.errors import NotYet
from acme_middleware.issuance.gate import Gate
from acme_middleware.issuance.names import identifiers
from acme_middleware.stores.directory import DirectoryStore

store, placed = DirectoryStore(sys.argv[1]), 0
sys.stdin.readline()
for number in range(10):
    try:
        Gate(hourly=25).take(store, "x", identifiers([f"c{number}.com"]))
        placed += 1
    except NotYet:
        continue
print(placed)
"""


def test_eight_processes_at_once_place_exactly_as_many_orders_as_the_cap_allows(tmp_path: Path) -> None:
    DirectoryStore(tmp_path).check(writable=True)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", ORDERING, tmp_path], **pipes) for _ in range(8)]  # type: ignore[call-overload]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert sum(map(int, said)) == 25
