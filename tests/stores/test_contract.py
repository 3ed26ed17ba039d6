"""Every back end that needs no server keeps the contracts."""

from __future__ import annotations

import pytest

from acme_middleware.stores.base import new_version
from acme_middleware.stores.challenges import WebrootChallengeStore
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.stores.memory import MemoryChallengeStore, MemoryStore
from acme_middleware.testing import ChallengeStoreContract, FetchLogContract, LeaseContract, StoreContract


class TestMemoryStore(StoreContract, LeaseContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()

    @pytest.fixture
    def reopen(self, store):
        return lambda: store


class TestDirectoryStore(StoreContract, LeaseContract):
    @pytest.fixture
    def store(self, tmp_path):
        return DirectoryStore(tmp_path / "state")

    @pytest.fixture
    def reopen(self, tmp_path):
        return lambda: DirectoryStore(tmp_path / "state")

    def fill(self, store, records):
        # As put() leaves them, without waiting ten thousand times for the disk.
        for name, value in records:
            store._place(name).parent.mkdir(parents=True, exist_ok=True)
            store._place(name).write_bytes(new_version().encode() + b"\n" + value)


class TestMemoryChallengeStore(ChallengeStoreContract, FetchLogContract):
    @pytest.fixture
    def challenges(self):
        return MemoryChallengeStore()

    @pytest.fixture
    def reopen(self, challenges):
        return lambda: challenges

    def held(self, challenges):
        return set(challenges._presented)


class TestWebrootChallengeStore(ChallengeStoreContract):
    @pytest.fixture
    def challenges(self, tmp_path):
        return WebrootChallengeStore(tmp_path / "site", make_root=True)

    @pytest.fixture
    def reopen(self, tmp_path):
        return lambda: WebrootChallengeStore(tmp_path / "site", make_root=True)

    def held(self, challenges):
        folder = challenges.root / ".well-known" / "acme-challenge"
        return {path.name.removeprefix(".expires-") for path in folder.iterdir()}
