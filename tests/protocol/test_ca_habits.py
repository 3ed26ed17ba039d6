"""
CAs differ in many habits at once. Each row is a CA of its own; every two habits meet in some row (pairwise, not the full
cross), and in each row a first name is issued and then a second by the same account.

The habits that both CAs have, they share. Alone has Pebble: nonces refused and Retry-After written at random, an answer of its
own choice to what was validated before, ``-strict``; alone has the local CA: fewer perspectives, and orders that are processed
for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import both_cas
import pytest
from both_cas import CA, LocalLab
from pebble_lab import Site, fresh, load_pair, names_of, verify

from acme_middleware.protocol.network import NONCE_TRIES

KID, MAC_KEY = "kid-7", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
RETRY_AFTER = 1
NONCES_REFUSED = 6
POSTED = ("new-account", "new-order", "authorization", "challenge", "order", "finalize", "certificate")

SHARED: Mapping[str, Sequence[Any]] = {
    "zone": ("UTC", "Europe/Warsaw", "America/New_York"),
    "authz_reuse": (False, True),
    "retry_after": (0, RETRY_AFTER),
    "eab": (False, True),
    "alternates": (0, 2),
    "chain_length": (1, 2),
    "sleeps": (False, True),
}
HABITS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "Pebble": {"nonces": (0, 30, 50), "strict": (False, True), **SHARED},
    "the local CA": {"nonces": (0, 30), "perspectives": (1, 3), "finalize_polls": (0, 2), **SHARED},
}
SPELLED: Mapping[str, Callable[[Any], str]] = {
    "nonces": lambda value: f"{value}% nonces refused",
    "zone": str,
    "authz_reuse": lambda value: "authorizations reused" if value else "",
    "retry_after": lambda value: "Retry-After" if value else "",
    "eab": lambda value: "EAB" if value else "",
    "strict": lambda value: "strict" if value else "",
    "perspectives": lambda value: "one perspective" if value == 1 else "",
    "finalize_polls": lambda value: "slow finalizing" if value else "",
    "alternates": lambda value: "three roots" if value else "",
    "chain_length": lambda value: "two intermediates" if value == 2 else "",
    "sleeps": lambda value: "slow validation" if value else "",
}


def as_pebble_calls_them(*, nonces: int, retry_after: int, sleeps: bool, **habits: Any) -> dict[str, Any]:
    after = {"authz": retry_after, "order": retry_after}
    return {**habits, "nonce_reject": nonces, "retry_after": after, "va_nosleep": not sleeps, "va_sleep": 2}


def as_the_local_ca_calls_them(*, nonces: int, retry_after: int, sleeps: bool, **habits: Any) -> dict[str, Any]:
    return {**habits, "order_retry_after": retry_after or None, "validation_delay": 0.7 if sleeps else 0.0}


def refuse_nonces(ca: LocalLab) -> None:
    """Every third of them, for a while: the CA ends with an error if that was not met."""
    for number in range(NONCES_REFUSED):
        ca.ca.fault("bad-nonce", where=POSTED, skip=2 * number)


def pairs(row: tuple[Any, ...]) -> set[tuple[Any, ...]]:
    """Every two habits that meet in a row."""
    return set(combinations(enumerate(row), 2))


def pairwise(habits: Mapping[str, Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Rows in which every two values of every two habits meet: always the one that brings the most new pairs."""
    rows = list(product(*habits.values()))
    missing = set().union(*map(pairs, rows))
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(pairs(row) & missing))
        missing -= pairs(best)
        chosen.append(best)
    return chosen


def spelled(row: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (SPELLED[habit](value) for habit, value in row.items())))


def rows(which_ca: str) -> list[dict[str, Any]]:
    habits = HABITS[which_ca]
    return [dict(zip(habits, row, strict=True)) for row in pairwise(habits)]


@pytest.mark.parametrize(
    ("which", "row"),
    [pytest.param(which, row, id=f"{which}: {spelled(row)}") for which in both_cas.KINDS for row in rows(which)],
)
def test_issues_whatever_the_habits_of_the_ca(which: str, row: dict[str, Any], make_site: Callable[..., Site]) -> None:
    habits = dict(row)
    zone, eab = habits.pop("zone"), habits.pop("eab")
    spell = as_pebble_calls_them if which == "Pebble" else as_the_local_ca_calls_them
    with both_cas.start(which, eab={KID: MAC_KEY} if eab else None, **spell(**habits)) as ca:
        if row["nonces"] and isinstance(ca, LocalLab):
            refuse_nonces(ca)
        issue_twice(ca, make_site(ca, eab_kid=KID if eab else None), row, zone)


def issue_twice(ca: CA, site: Site, row: dict[str, Any], zone: str) -> None:
    environment = {"TZ": zone, **({"ACME_EAB_HMAC_KEY": MAC_KEY} if row["eab"] else {})}
    first, second = fresh("first"), fresh("second")
    began = time.monotonic()
    for names in ([first], [second, f"www.{second}"]):
        ended = site.run(*names, env=environment)
        assert ended.code == 0, ended.text
        assert names_of(site.leaf(names[0])) == set(names)
        load_pair(site.current(names[0]))
        assert verify(site.current(names[0]), ca.roots()[0], tmp=site.folder).endswith(": OK")
        assert (site.current(names[0]) / "chain.pem").read_text().count("BEGIN CERTIFICATE") == row["chain_length"]
    took = time.monotonic() - began
    assert site.tokens() == []
    assert len(site.orders()) == 2
    assert site.accounts() == 1
    # Polls are bounded, however Retry-After is written and wherever the machine stands: a date that is read as local time
    # brings thousands of them, or one after an hour.
    refused = NONCE_TRIES if row["nonces"] else 1
    assert len(site.requests("order")) <= 2 * 2 * 10 * refused
    if not row["nonces"]:
        assert len(site.requests("order")) <= 2 * (12 if not row["retry_after"] else 8)
    assert took < 60


@pytest.mark.parametrize("which", both_cas.KINDS)
def test_every_two_habits_meet(which: str) -> None:
    habits = HABITS[which]
    found = pairwise(habits)
    met = set().union(*map(pairs, found))
    for (i, first), (j, second) in combinations(enumerate(habits.values()), 2):
        for value, other in product(first, second):
            assert ((i, value), (j, other)) in met
    assert len(found) < 20
