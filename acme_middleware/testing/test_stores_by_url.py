"""
The contracts, tried against the stores that the command line names by URL::

    pytest -p acme_middleware.testing.plugin --pyargs acme_middleware.testing --acme-store=URL --acme-challenge-store=URL

The stores must be empty, and each test empties them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.base import ChallengeStore, Store
from acme_middleware.testing import ChallengeStoreContract, FetchLogContract, LeaseContract, StoreContract
from acme_middleware.testing import challenges as challenge_contract
from acme_middleware.testing import stores as store_contract
from acme_middleware.testing.by_url import CHALLENGES, STORE, Recorded, empty, fill, recorded


class TestStore(StoreContract, LeaseContract):
    @pytest.fixture
    def store(self, request: pytest.FixtureRequest) -> Iterator[Store]:
        opened = open_store(request.config.getoption(STORE))
        empty(opened)  # a run that was killed left its records
        yield opened
        empty(opened)

    @pytest.fixture
    def reopen(self, request: pytest.FixtureRequest, store: Store) -> store_contract.Reopen:
        return lambda: open_store(request.config.getoption(STORE))

    def fill(self, store: Store, records: Iterable[tuple[str, bytes]]) -> None:
        fill(store, records)


class _WithChallenges:
    @pytest.fixture
    def presented(self) -> set[str]:
        return set()

    @pytest.fixture
    def challenges(self, request: pytest.FixtureRequest, presented: set[str]) -> Iterator[ChallengeStore]:
        opened = recorded(open_challenges(request.config.getoption(CHALLENGES)), presented)
        yield opened
        for token in presented:
            opened.remove(token)

    @pytest.fixture
    def reopen(
        self, request: pytest.FixtureRequest, challenges: ChallengeStore, presented: set[str]
    ) -> challenge_contract.Reopen:
        return lambda: recorded(open_challenges(request.config.getoption(CHALLENGES)), presented)


class TestChallengeStore(_WithChallenges, ChallengeStoreContract):
    def held(self, challenges: ChallengeStore) -> set[str]:
        assert isinstance(challenges, Recorded)
        return challenges.held()

    def test_presenting_sweeps_what_has_expired_and_nothing_else(self, challenges: ChallengeStore) -> None:
        assert isinstance(challenges, Recorded)
        if not challenges.lists:
            pytest.skip("this store has no tokens(), so that nobody can see whether expired ones are removed")
        super().test_presenting_sweeps_what_has_expired_and_nothing_else(challenges)


class TestFetchLog(_WithChallenges, FetchLogContract):
    pass
