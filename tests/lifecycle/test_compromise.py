"""A compromised key goes out of use, whatever else is done or is broken in the store at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from renewal_site import RenewalSite, renewal_site

from acme_middleware import encryption_keys
from acme_middleware.cli import main
from acme_middleware.errors import Conflict, LeaseHeld
from acme_middleware.issuance.issuer import Action
from acme_middleware.issuance.records import (
    CertificateRecord,
    RenewalRecord,
    account_key,
    certificate_key,
    order_key,
    renewal_key,
)
from acme_middleware.issuance.renewal import record_of
from acme_middleware.issuance.revoking import revoke_file, revoke_stored
from acme_middleware.lease import lease
from acme_middleware.stores.base import Expect, Record
from acme_middleware.stores.memory import MemoryStore
from acme_middleware.stores.sealed import SealedStore

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


def unreadable(store: Watched, key: str) -> None:
    """Save a record that is sealed with a key which is set nowhere."""
    SealedStore(store, encryption_keys.read(encryption_keys.new()) or ()).put(key, b"{}")


@pytest.mark.parametrize("broken", [certificate_key("other.example"), order_key(NAME)])
def test_record_that_no_key_opens_is_named_and_stops_nothing(site: RenewalSite, store: Watched, broken: str) -> None:
    site.issue(NAME, reuse_key=True)
    first = stored(store)
    unreadable(store, broken)
    done = revoke_stored(site.options(), NAME, reason="keyCompromise")
    assert (done.due, done.unread) == ((NAME,), (broken,))
    public = RenewalRecord.read(store, renewal_key(NAME))
    assert public is not None
    assert (stored(store).revoked, public.revoked) == ("keyCompromise", "keyCompromise")
    store.delete(order_key(NAME))
    assert site.issue(NAME, reuse_key=True).action is Action.RENEWED
    assert stored(store).key_pem != first.key_pem


def test_certificate_of_a_file_is_revoked_and_found_among_records_that_no_key_opens(site: RenewalSite, store: Watched) -> None:
    site.issue(NAME)
    unreadable(store, certificate_key("other.example"))
    done = revoke_file(site.options(), stored(store).cert_pem.encode(), reason="superseded")
    assert (done.due, done.unread) == ((NAME,), ())


def test_own_key_revokes_where_no_account_can_be_read(site: RenewalSite, store: Watched) -> None:
    site.issue(NAME)
    made = stored(store)
    unreadable(store, account_key(made.ca, "an-older-one"))
    done = revoke_stored(site.options(), NAME, reason="unspecified")
    assert (done.by, done.already) == ("account", False)
    unreadable(store, account_key(made.ca, "default"))
    given = site.options()
    done = revoke_stored(given, NAME, reason="keyCompromise")
    assert (done.by, done.already, done.due) == ("key", True, (NAME,))
    store.delete(certificate_key(NAME))
    done = revoke_file(given, made.cert_pem.encode(), reason="keyCompromise", key_pem=made.key_pem.encode())
    assert (done.by, done.already, done.due) == ("key", True, ())


def test_person_is_told_which_records_could_not_be_read(
    site: RenewalSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.given = {}
    site.issue(NAME)
    site.store.put(certificate_key("other.example"), b"damaged")
    for option, value in site.usual.items():
        monkeypatch.setenv(f"ACME_{option.upper()}", value)
    assert main(["revoke", NAME, "--reason", "keyCompromise"]) == 0
    assert "unread      certificate/other.example: " in capsys.readouterr().out


def test_marker_that_was_stopped_for_long_does_not_write_over_what_a_successor_has_made_public(
    site: RenewalSite, store: Watched
) -> None:
    site.issue(NAME)

    def succeed() -> None:
        store.delete(f"lock/{NAME}")  # as it is when it has lapsed
        site.issue(NAME, force=True)

    store.before("put", renewal_key(NAME), succeed)
    with pytest.raises(Conflict):
        revoke_stored(site.options(), NAME, reason="superseded")
    public = RenewalRecord.read(store, renewal_key(NAME))
    assert public is not None
    assert (public.fingerprint, public.revoked) == (record_of(stored(store)).fingerprint, "")


def test_certificate_of_a_file_is_revoked_and_not_the_successor_that_has_just_taken_its_place(
    site: RenewalSite, store: Watched
) -> None:
    site.issue(NAME)
    old = stored(store)
    # After the certificate was found by its file, and before anything is asked of the CA.
    reads = [lambda: site.issue(NAME, force=True)]
    scan = store.scan

    def found_then_renewed(prefix: str) -> object:
        records = list(scan(prefix))
        if prefix == certificate_key("") and reads:
            reads.pop()()
        return iter(records)

    store.scan = found_then_renewed  # type: ignore[assignment, method-assign]
    done = revoke_file(site.options(), old.cert_pem.encode(), reason="superseded")
    assert done.serial == record_of(old).serial
    assert (stored(store).revoked, stored(store).cert_pem != old.cert_pem) == ("", True)
    assert site.issue(NAME).action is Action.NOT_DUE


def test_certificate_that_another_process_works_on_keeps_no_other_in_use(site: RenewalSite, store: Watched) -> None:
    made = [stored(store, name) for name in (NAME, "www.shop.example") if site.issue(name, reuse_key=True)]
    # The key of the one is that of the other too.
    replace(made[1], key_pem=made[0].key_pem, cert_pem=made[0].cert_pem).write(store, certificate_key("www.shop.example"))
    with lease(store, NAME), pytest.raises(LeaseHeld) as caught:
        revoke_stored(site.options(wait=0), NAME, reason="keyCompromise")
    assert "the CA has revoked it" in caught.value.hint
    assert [stored(store, one.name).revoked for one in made] == ["", "keyCompromise"]
