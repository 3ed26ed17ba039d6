"""A holder that was frozen around its order leaves the order of its successor, in the same place of the store, as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from acme_middleware import options
from acme_middleware.errors import AcmeMiddlewareError, CertificateRejected, Conflict
from acme_middleware.issuance.issuer import Issuer
from acme_middleware.local_ca import LocalCA
from acme_middleware.stores.base import Expect, Record
from acme_middleware.stores.memory import MemoryChallengeStore, MemoryStore
from acme_middleware.wsgi import AcmeMiddleware

NAME, SUCCESSORS = "frozen.example", b"the order of the successor"


class Woken(MemoryStore):
    """A store where the holder before us, frozen just before it saved, wakes up: it saves, and its order is gone."""

    def get(self, key: str) -> Record | None:
        found = super().get(key)
        if key.startswith("order/") and super().get(f"certificate/{NAME}") is None:
            super().put(f"certificate/{NAME}", b"the certificate of the holder before")
        return found


class Overtaken(MemoryStore):
    """A store where, just before a call, a successor has saved its order: as if the caller had been frozen for a minute."""

    def __init__(self, call: str) -> None:
        super().__init__()
        self._call = call

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        self._overtake("put", key)
        return super().put(key, value, expect=expect)

    def delete(self, key: str, *, expect: str | Expect = Expect.ANY) -> bool:
        self._overtake("delete", key)
        return super().delete(key, expect=expect)

    def _overtake(self, call: str, key: str) -> None:
        if call == self._call and key.startswith("order/"):
            self._call = ""
            super().put(key, SUCCESSORS)


@pytest.fixture
def challenges() -> MemoryChallengeStore:
    return MemoryChallengeStore()


@pytest.fixture
def ca(challenges: MemoryChallengeStore) -> Iterator[LocalCA]:
    def nothing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("404 Not Found", [])
        return [b""]

    with LocalCA(resolve={"*": AcmeMiddleware(nothing, store=challenges)}, perspectives=1) as ca:
        yield ca


def issue(ca: LocalCA, store: MemoryStore, challenges: MemoryChallengeStore) -> None:
    given = {
        "store": store,
        "challenge_store": challenges,
        "ca": ca.directory_url,
        "ca_bundle": str(ca.ca_bundle),
        "agree_tos": True,
        "self_check": "skip",
    }
    Issuer(options.read(("test", given))).issue([NAME])


def left(store: MemoryStore) -> bytes | None:
    record = store.get(f"order/{NAME}")
    return record.value if record else None


def test_frozen_before_it_saves_its_order(ca: LocalCA, challenges: MemoryChallengeStore) -> None:
    store = Overtaken("put")
    with pytest.raises(Conflict):
        issue(ca, store, challenges)
    assert left(store) == SUCCESSORS


def test_frozen_before_it_deletes_an_order_that_has_failed(ca: LocalCA, challenges: MemoryChallengeStore) -> None:
    store = Overtaken("delete")
    ca.fault("finalize-fails")
    with pytest.raises(CertificateRejected):
        issue(ca, store, challenges)
    assert left(store) == SUCCESSORS


def test_frozen_before_it_deletes_an_order_that_has_brought_its_certificate(
    ca: LocalCA, challenges: MemoryChallengeStore
) -> None:
    store = Overtaken("delete")
    issue(ca, store, challenges)
    assert store.get(f"certificate/{NAME}") is not None
    assert left(store) == SUCCESSORS


def test_taken_over_from_one_that_wakes_up_and_saves_no_further_order_is_placed(
    ca: LocalCA, challenges: MemoryChallengeStore
) -> None:
    with pytest.raises(Conflict, match="issued by another process just now"):
        issue(ca, Woken(), challenges)
    assert ca.requests("new-order") == []


def test_overtaken_by_nobody_it_leaves_no_order(ca: LocalCA, challenges: MemoryChallengeStore) -> None:
    store = MemoryStore()
    ca.fault("finalize-fails")
    with pytest.raises(AcmeMiddlewareError):
        issue(ca, store, challenges)
    assert left(store) is None
    issue(ca, store, challenges)
    assert left(store) is None
