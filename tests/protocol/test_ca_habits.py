"""
CAs differ in many habits at once. Each row is a CA of its own; every two habits meet in some row (pairwise, not the full
cross), and in each row a first name is issued and then a second by the same account.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import pytest
from pebble_lab import Site, fresh, load_pair, names_of, verify
from pebble_server import Pebble

from acme_middleware.protocol.network import NONCE_TRIES

KID, MAC_KEY = "kid-7", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
RETRY_AFTER = 1

HABITS: Mapping[str, Sequence[Any]] = {
    "nonce_reject": (0, 30, 50),
    "zone": ("UTC", "Europe/Warsaw", "America/New_York"),
    "authz_reuse": (0, 100),
    "retry_after": (0, RETRY_AFTER),
    "eab": (False, True),
    "strict": (False, True),
    "alternate_roots": (0, 2),
    "chain_length": (1, 2),
    "sleeps": (False, True),
}
SPELLED: Mapping[str, Callable[[Any], str]] = {
    "nonce_reject": lambda value: f"{value}% nonces refused",
    "zone": str,
    "authz_reuse": lambda value: "authorizations reused" if value else "",
    "retry_after": lambda value: "Retry-After" if value else "",
    "eab": lambda value: "EAB" if value else "",
    "strict": lambda value: "strict" if value else "",
    "alternate_roots": lambda value: "three roots" if value else "",
    "chain_length": lambda value: "two intermediates" if value == 2 else "",
    "sleeps": lambda value: "slow validation" if value else "",
}


def pairs(row: tuple[Any, ...]) -> set[tuple[Any, ...]]:
    """Every two habits that meet in a row."""
    return set(combinations(enumerate(row), 2))


def pairwise() -> list[tuple[Any, ...]]:
    """Rows in which every two values of every two habits meet: always the one that brings the most new pairs."""
    rows = list(product(*HABITS.values()))
    missing = set().union(*map(pairs, rows))
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(pairs(row) & missing))
        missing -= pairs(best)
        chosen.append(best)
    return chosen


def spelled(row: tuple[Any, ...]) -> str:
    return ", ".join(filter(None, (SPELLED[habit](value) for habit, value in zip(HABITS, row, strict=True))))


@pytest.mark.parametrize("row", [pytest.param(row, id=spelled(row)) for row in pairwise()])
def test_issues_whatever_the_habits_of_the_ca(
    row: tuple[Any, ...], pebble: Callable[..., Pebble], make_site: Callable[..., Site]
) -> None:
    habits = dict(zip(HABITS, row, strict=True))
    zone, eab, sleeps, seconds = (habits.pop(habit) for habit in ("zone", "eab", "sleeps", "retry_after"))
    ca = pebble(
        **habits,
        eab={KID: MAC_KEY} if eab else None,
        retry_after={"authz": seconds, "order": seconds},
        va_nosleep=not sleeps,
        va_sleep=2,
    )
    site = make_site(ca, eab_kid=KID if eab else None)
    environment = {"TZ": zone, **({"ACME_EAB_HMAC_KEY": MAC_KEY} if eab else {})}
    first, second = fresh("first"), fresh("second")
    began = time.monotonic()
    for names in ([first], [second, f"www.{second}"]):
        ended = site.run(*names, env=environment)
        assert ended.code == 0, ended.text
        assert names_of(site.leaf(names[0])) == set(names)
        load_pair(site.current(names[0]))
        assert verify(site.current(names[0]), ca.root(), tmp=site.folder).endswith(": OK")
        assert (site.current(names[0]) / "chain.pem").read_text().count("BEGIN CERTIFICATE") == habits["chain_length"]
    took = time.monotonic() - began
    assert site.tokens() == []
    assert len(site.orders()) == 2
    assert site.accounts() == 1
    # Polls are bounded, however Retry-After is written and wherever the machine stands: a date that is read as local time
    # brings thousands of them, or one after an hour.
    refused = NONCE_TRIES if habits["nonce_reject"] else 1
    assert len(site.requests("my-order")) <= 2 * 2 * 10 * refused
    if not habits["nonce_reject"]:
        assert len(site.requests("my-order")) <= 2 * (12 if not seconds else 8)
    assert took < 60


def test_every_two_habits_meet() -> None:
    rows = pairwise()
    met = set().union(*map(pairs, rows))
    for (i, first), (j, second) in combinations(enumerate(HABITS.values()), 2):
        for value, other in product(first, second):
            assert ((i, value), (j, other)) in met
    assert len(rows) < 20
