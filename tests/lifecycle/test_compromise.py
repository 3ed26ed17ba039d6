"""A compromised key goes out of use, whatever else is done or is broken in the store at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from renewal_site import RenewalSite, renewal_site

from acme_middleware.issuance.issuer import Action
from acme_middleware.issuance.records import CertificateRecord, certificate_key
from acme_middleware.issuance.revoking import revoke_stored
from acme_middleware.stores.base import Expect, Record
from acme_middleware.stores.memory import MemoryStore

NAME = "shop.example"


class Watched(MemoryStore):
    """A store in which another process does something just before the first call of a kind, at a record of a kind."""

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[tuple[str, str], Callable[[], object]] = {}

    def before(self, call: str, key: str, act: Callable[[], object]) -> None:
        self._before[call, key] = act

    def get(self, key: str) -> Record | None:
        self._meanwhile("get", key)
        return super().get(key)

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        self._meanwhile("put", key)
        return super().put(key, value, expect=expect)

    def _meanwhile(self, call: str, key: str) -> None:
        self._before.pop((call, key), lambda: None)()


@pytest.fixture
def store() -> Watched:
    return Watched()


@pytest.fixture
def site(tmp_path: Path, store: Watched) -> Iterator[RenewalSite]:
    """A site whose records are in ``store``."""
    with renewal_site(tmp_path, tmp_path / "ca") as site:
        site.given = {"challenge_store": site.usual["store"], "store": store}
        yield site


def stored(store: Watched, name: str = NAME) -> CertificateRecord:
    found = CertificateRecord.read(store, certificate_key(name))
    assert found is not None
    return found


def test_key_that_a_renewal_has_just_used_again_goes_out_of_use_too(site: RenewalSite, store: Watched) -> None:
    site.issue(NAME, reuse_key=True)
    first = stored(store)
    # Before the lease is had: as if it was waited for while the renewal held it.
    store.before("get", f"lock/{NAME}", lambda: site.issue(NAME, reuse_key=True, force=True))
    done = revoke_stored(site.options(), NAME, reason="keyCompromise")
    second = stored(store)
    assert second.cert_pem != first.cert_pem
    assert second.key_pem == first.key_pem
    assert (done.due, second.revoked) == ((NAME,), "keyCompromise")
    assert site.issue(NAME, reuse_key=True).action is Action.RENEWED
    assert stored(store).key_pem != first.key_pem


@pytest.mark.parametrize(
    ("reason", "reuse_key"),
    [
        pytest.param("keyCompromise", False, id="another key"),
        pytest.param("superseded", True, id="the same key, which is no matter"),
    ],
)
def test_certificate_that_was_renewed_just_now_stays_in_use(
    site: RenewalSite, store: Watched, reason: str, reuse_key: bool
) -> None:
    site.issue(NAME)
    store.before("get", f"lock/{NAME}", lambda: site.issue(NAME, reuse_key=reuse_key, force=True))
    assert revoke_stored(site.options(), NAME, reason=reason).due == ()
    assert stored(store).revoked == ""
    assert site.issue(NAME).action is Action.NOT_DUE
