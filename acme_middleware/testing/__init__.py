"""
Contract suites for people who write a store of their own, as classes for pytest.

Subclass them in your tests and provide the fixtures; every rule of :mod:`acme_middleware.stores.base` is then tried::

    import pytest
    from acme_middleware.testing import ChallengeStoreContract, FetchLogContract, LeaseContract, StoreContract

    class TestMyStore(StoreContract, LeaseContract):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path / "database")           # empty

        @pytest.fixture
        def reopen(self, tmp_path, store):
            return lambda: MyStore(tmp_path / "database")   # another handle on the same data, as another process has it

    class TestMyChallenges(ChallengeStoreContract, FetchLogContract):   # the latter only for a store that logs fetches
        @pytest.fixture
        def challenges(self, tmp_path):
            return MyChallenges(tmp_path / "database")

        @pytest.fixture
        def reopen(self, tmp_path, challenges):
            return lambda: MyChallenges(tmp_path / "database")

        def held(self, challenges):
            return set(challenges.every_token_in_the_table())           # expired ones too

Threads call what ``reopen`` returns, several at once. A slow back end may raise the limits, which are class attributes.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "acme_middleware.testing.challenges", "acme_middleware.testing.leases", "acme_middleware.testing.stores"
)

from acme_middleware.testing.challenges import ChallengeStoreContract, FetchLogContract  # noqa: E402
from acme_middleware.testing.leases import LeaseContract  # noqa: E402
from acme_middleware.testing.stores import StoreContract  # noqa: E402

__all__ = ["ChallengeStoreContract", "FetchLogContract", "LeaseContract", "StoreContract"]
