"""A store that goes down in the middle of an order: what the CA did meanwhile is neither hidden nor lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from renewal_site import RenewalSite, renewal_site

from acme_middleware import events
from acme_middleware.authorities import AUTHORITIES, Authority, Limit, Limits
from acme_middleware.errors import CARefused, NotYet, StoreUnavailable, ValidationFailed
from acme_middleware.issuance import ledger
from acme_middleware.issuance.budgets import BudgetRecord
from acme_middleware.issuance.issuer import Action, Issuer
from acme_middleware.stores.base import Expect, Fetch, Record
from acme_middleware.stores.memory import MemoryChallengeStore, MemoryStore
from acme_middleware.wsgi import AcmeMiddleware

NAME = "shop.example"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RenewalSite]:
    with renewal_site(tmp_path, tmp_path / "ca", authz_reuse=False) as site:
        yield site


def no_page(environ: Any, start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [])
    return []


class FailingChallenges(MemoryChallengeStore):
    """Nothing of it works while it is down; ``held`` are the tokens in it."""

    is_down = False

    def _up(self) -> None:
        if self.is_down:
            raise StoreUnavailable("the challenge store is down")

    def key_authorization(self, token: str) -> str | None:
        self._up()
        return super().key_authorization(token)

    def fetches(self, token: str) -> list[Fetch]:
        self._up()
        return super().fetches(token)

    def present(self, token: str, key_authorization: str, *, ttl: float) -> None:
        self._up()
        super().present(token, key_authorization, ttl=ttl)

    def remove(self, token: str) -> None:
        self._up()
        super().remove(token)

    @property
    def held(self) -> list[str]:
        return list(self._presented)


def test_challenge_store_that_is_down_hides_no_failed_validation(site: RenewalSite) -> None:
    challenges = FailingChallenges()
    workers = AcmeMiddleware(no_page, store=challenges)

    def goes_down(environ: Any, start_response: Any) -> Iterable[bytes]:
        challenges.is_down = True
        return workers(environ, start_response)

    site.ca.resolve["*"] = goes_down
    with pytest.raises(ValidationFailed, match="could not validate"):
        site.issue(NAME, challenge_store=challenges)
    assert ledger.read_all(site.store)[NAME].kind == "validation"
    challenges.is_down = False
    with pytest.raises(NotYet):
        Issuer(site.options(challenge_store=challenges)).issue([NAME], by_hand=False)
    assert site.orders() == 1
    [token] = challenges.held
    [warned] = site.said(events.Warned)
    assert token in warned.message
    assert "the challenge store is down" in warned.message


class RestartedStore(MemoryStore):
    """It is down for a second from the moment on at which something has happened."""

    def __init__(self, happened: Callable[[], object]) -> None:
        super().__init__()
        self.happened, self.back = happened, 0.0

    def _up(self) -> None:
        if not self.back and self.happened():
            self.back = time.monotonic() + 1
        if time.monotonic() < self.back:
            raise StoreUnavailable("the store is being restarted")

    def get(self, key: str) -> Record | None:
        self._up()
        return super().get(key)

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        self._up()
        return super().put(key, value, expect=expect)


def test_store_that_restarts_when_the_order_was_placed_loses_neither_the_order_nor_its_count(
    site: RenewalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(orders=Limit(300, timedelta(hours=3)))
    limited = Authority("limited", "a CA with limits", site.ca.directory_url, limits=limits)
    monkeypatch.setitem(AUTHORITIES, "limited", limited)
    store, challenges = RestartedStore(site.orders), MemoryChallengeStore()
    site.ca.resolve["*"] = AcmeMiddleware(no_page, store=challenges)
    assert site.issue(NAME, ca="limited", store=store, challenge_store=challenges).action is Action.ISSUED
    assert store.back, "the store was never down"
    assert site.orders() == 1
    [(where, stored)] = store.scan("budget/")
    assert len(BudgetRecord.decode(where, stored.value, stored.version).times) == 1


def test_certificate_that_cannot_be_downloaded_at_first_is_counted_once(
    site: RenewalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(same_names=Limit(5, timedelta(days=7)))
    limited = Authority("limited", "a CA with limits", site.ca.directory_url, limits=limits)
    monkeypatch.setitem(AUTHORITIES, "limited", limited)
    store, challenges = MemoryStore(), MemoryChallengeStore()
    site.ca.resolve["*"] = AcmeMiddleware(no_page, store=challenges)
    for _ in range(2):
        site.ca.fault("rate-limited", where="certificate")
        with pytest.raises(CARefused, match="rateLimited"):
            site.issue(NAME, ca="limited", store=store, challenge_store=challenges, force=True)
    assert site.issue(NAME, ca="limited", store=store, challenge_store=challenges, force=True).action is Action.ISSUED
    assert site.orders() == 1
    [(where, stored)] = store.scan("budget/")
    assert len(BudgetRecord.decode(where, stored.value, stored.version).times) == 1
