"""A site whose private records are encrypted: it renews as any other, may change its key meanwhile, and is never blind."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from renewal_site import RenewalSite

from acme_middleware import encryption_keys
from acme_middleware.cli import main
from acme_middleware.errors import RecordSealed, StoreMisconfigured
from acme_middleware.issuance.issuer import Action
from acme_middleware.issuance.records import CertificateRecord, account_key, certificate_key, order_key, renewal_key
from acme_middleware.issuance.resealing import leased, reseal
from acme_middleware.issuance.standing import key_warnings
from acme_middleware.lease import lease
from acme_middleware.stores.base import key
from acme_middleware.stores.memory import MemoryStore
from acme_middleware.stores.sealed import PRIVATE, SealedStore, key_id, sealed_with

OLD, NEW = encryption_keys.new(), encryption_keys.new()
NAMES = ["a.example", "b.example", "c.example"]

Run = Callable[..., tuple[int, dict[str, Any]]]


def raw(written: str) -> bytes:
    found = encryption_keys.read(written)
    assert found is not None
    return found()[0]


@pytest.fixture
def run(site: RenewalSite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command with the site's options and these keys; returns its exit code and what it printed as JSON."""
    for name, value in site.usual.items():
        monkeypatch.setenv(f"ACME_{name.upper()}", value)

    def run(*words: str, keys: str = "") -> tuple[int, dict[str, Any]]:
        monkeypatch.setenv("ACME_ENCRYPTION_KEYS", keys)
        capsys.readouterr()
        code = main([*words, "--json"])
        said = capsys.readouterr()
        assert not any(secret in said.out + said.err for secret in (OLD, NEW))
        return code, json.loads(said.out)

    return run


def sealed_by(site: RenewalSite) -> set[str | None]:
    """The ids of the keys that the private records are sealed with; None for one that is not."""
    return {sealed_with(record.value) for kind in PRIVATE for _, record in site.store.scan(kind)}


def test_what_is_private_is_encrypted_from_the_first_issue_on(site: RenewalSite) -> None:
    site.given["encryption_keys"] = NEW
    assert site.issue("a.example").action is Action.ISSUED
    files = [path for path in (site.folder / "acme").rglob("*") if path.is_file() and "live" not in path.parts]
    assert files
    assert not [path for path in files if b"PRIVATE KEY" in path.read_bytes()]
    assert sealed_by(site) == {key_id(raw(NEW))}
    assert b"PRIVATE KEY" in (site.folder / "acme/live/a.example/current/privkey.pem").read_bytes()
    site.to_renewal("a.example")
    assert site.actions() == {"a.example": "renewed"}
    assert site.orders() == 2


@pytest.mark.parametrize("keys", [pytest.param(None, id="no key is set any more"), pytest.param(NEW, id="another key is set")])
def test_without_its_key_nothing_is_ordered_forced_or_not(site: RenewalSite, keys: str | None) -> None:
    site.issue("a.example", encryption_keys=OLD)
    before = {where: record.value for kind in PRIVATE for where, record in site.store.scan(kind)}
    for force in (False, True):
        site.to_renewal("a.example")
        with pytest.raises(RecordSealed, match=r"the record certificate/a\.example is sealed"):
            site.issue("a.example", force=force, encryption_keys=keys)
        result = site.sweep(encryption_keys=keys)["a.example"]
        assert isinstance(result.error, RecordSealed)
    with pytest.raises(RecordSealed, match="the record account/"):
        site.issue("new.example", encryption_keys=keys)
    assert site.orders() == 1
    assert {where: record.value for kind in PRIVATE for where, record in site.store.scan(kind)} == before
    assert site.sweep(encryption_keys=OLD)["a.example"].action == "renewed"


def test_an_order_that_cannot_be_opened_is_not_replaced(site: RenewalSite) -> None:
    site.issue("a.example", encryption_keys=OLD)
    sealed = SealedStore(site.store, [raw(OLD)])
    sealed.put("order/b.example", b'{"schema": 1}')
    for kind in PRIVATE[:2]:  # all but the order can be opened
        for where, record in list(sealed.scan(kind)):
            site.store.put(where, record.value)
    with pytest.raises(RecordSealed, match=r"the record order/b\.example"):
        site.issue("b.example")
    assert site.orders() == 1


def test_status_needs_no_key(site: RenewalSite, run: Run) -> None:
    site.issue("a.example", encryption_keys=OLD)
    code, said = run("status")
    assert (code, [one["state"] for one in said["certificates"]]) == (0, ["ok"])


def test_status_says_which_key_is_missing(site: RenewalSite, run: Run) -> None:
    assert site.issue("a.example").action is Action.ISSUED
    assert run("status", keys=NEW)[1]["warnings"] == []
    assert run("keys", "rotate", keys=OLD)[0] == 0
    assert run("status", keys=f"{NEW},{OLD}")[1]["warnings"] == []
    [other] = run("status", keys=NEW)[1]["warnings"]
    assert other.startswith("none of ENCRYPTION_KEYS opens the record account/")
    assert f"put the key {key_id(raw(OLD))} back" in other
    [none] = run("status")[1]["warnings"]
    assert none.startswith("no encryption key is set here, so nothing opens the record account/")


def test_status_says_it_to_people_where_there_is_no_certificate_too(
    site: RenewalSite, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    SealedStore(site.store, [raw(OLD)]).put("account/ca/default", b"{}")
    run("status")
    assert main(["status"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: no encryption key is set here, so nothing opens the record account/ca/default: set ACME_ENCR" in said


def test_status_says_that_the_keys_cannot_be_had(site: RenewalSite) -> None:
    def fails() -> None:
        raise OSError("the key service is away")

    site.issue("a.example", encryption_keys=OLD)
    keys = encryption_keys.read(fails)
    assert keys is not None
    [said] = key_warnings(SealedStore(site.store, keys))
    assert "the callable in ENCRYPTION_KEYS failed with OSError" in said


class Closed(MemoryStore):
    """A store whose private records this user may not read."""

    def scan(self, prefix: str) -> Any:
        raise StoreMisconfigured("no rights")


def test_who_may_not_read_private_records_is_told_of_no_key() -> None:
    assert key_warnings(SealedStore(Closed())) == []


def test_a_certificate_that_nobody_can_open_can_be_deleted_and_issued_anew(site: RenewalSite, run: Run) -> None:
    site.issue("a.example", encryption_keys=OLD)
    assert run("delete", "a.example", "--yes", keys=NEW)[0] == 0
    assert run("keys", "rotate", "--forget-unreadable", "--yes", keys=NEW)[0] == 0
    assert site.issue("a.example", encryption_keys=NEW).action is Action.ISSUED


def test_rotating_seals_what_is_not_and_what_another_key_had(site: RenewalSite, run: Run) -> None:
    site.issue("a.example")
    site.issue("b.example", encryption_keys=OLD)
    site.issue("2001:db8::1", encryption_keys=OLD)
    assert sealed_by(site) == {None, key_id(raw(OLD))}
    code, said = run("keys", "rotate", keys=f"{NEW} {OLD}")
    assert (code, said["sealed"], said["same"]) == (0, 4, 0)
    assert said["key_id"] == key_id(raw(NEW))
    assert sealed_by(site) == {key_id(raw(NEW))}
    code, said = run("keys", "rotate", keys=NEW)
    assert (code, said["sealed"], said["same"]) == (0, 0, 4)
    results = site.sweep(force=True, encryption_keys=NEW).values()
    assert [(result.action, result.reason) for result in results] == [("renewed", "forced")] * 3


LONG = ".".join([letter * 60 for letter in "xyz"] + ["example"])


@pytest.mark.parametrize("name", ["a.example", "2001:db8::1", "*.a.example", "under_score", LONG])
def test_a_record_is_rotated_under_the_lease_that_issuing_takes(name: str) -> None:
    for record in (certificate_key(name), order_key(name)):
        assert key("lock", leased(record)) == key("lock", name)


@pytest.mark.parametrize("ca", ["letsencrypt", "localhost_14443_0123abcd"])
@pytest.mark.parametrize("account", ["default", "kid-1", "kid/with:what?"])
def test_an_account_is_rotated_under_the_lease_that_changing_it_takes(ca: str, account: str) -> None:
    assert leased(account_key(ca, account)) == f"account/{ca}/{account}"


def test_rotating_beside_renewals_fails_none_and_orders_nothing_more(site: RenewalSite) -> None:
    both = [f"{NEW} {OLD}", f"{OLD} {NEW}"]
    for name in NAMES:
        site.issue(name, encryption_keys=both[0])
    over, turns, sweeps = threading.Event(), 0, 0

    def rotate() -> None:
        nonlocal turns
        while not over.is_set():
            keys = [raw(written) for written in both[(turns + 1) % 2].split()]
            assert {step.action for step in reseal(SealedStore(site.store, keys), wait=60)} <= {"sealed", "same"}
            turns += 1

    rotating = threading.Thread(target=rotate)
    rotating.start()
    try:
        while sweeps < 3 or (turns < 3 and sweeps < 50):
            sweeps += 1
            swept = site.sweep(force=True, encryption_keys=both[0])
            assert {name: (result.action, result.error) for name, result in swept.items()} == dict.fromkeys(
                NAMES, ("renewed", None)
            )
    finally:
        over.set()
        rotating.join()
    assert turns >= 3
    assert site.orders() == len(NAMES) * (1 + sweeps)
    store = SealedStore(site.store, [raw(NEW), raw(OLD)])
    for name in NAMES:
        made = CertificateRecord.read(store, certificate_key(name))
        assert made is not None
        assert made.issued_at == site.record(name).issued_at


def test_a_certificate_that_is_being_worked_on_is_left_and_said(site: RenewalSite, run: Run) -> None:
    site.issue("a.example")
    with lease(site.store, "a.example"):
        code, said = run("keys", "rotate", "--wait", "0.1", keys=NEW)
    assert (code, said["sealed"]) == (75, 1)
    assert [held["record"] for held in said["held"]] == ["certificate/a.example"]
    assert run("keys", "rotate", keys=NEW)[0] == 0


def test_what_cannot_be_opened_stops_no_other_and_is_kept_until_somebody_says(site: RenewalSite, run: Run) -> None:
    site.issue("a.example", encryption_keys=OLD)
    account = account_key(next(iter(site.store.scan("account/")))[0].split("/")[1], "default")
    site.store.put(certificate_key("b.example"), b'{"schema": 1}')
    code, said = run("keys", "rotate", keys=NEW)
    assert (code, said["sealed"]) == (1, 1)
    assert {step["record"] for step in said["unreadable"]} == {account, "certificate/a.example"}
    assert all("put that key back" in step["reason"] for step in said["unreadable"])
    assert site.store.get(account) is not None
    code, said = run("keys", "rotate", "--forget-unreadable", keys=NEW)
    assert (code, said["error"]["option"]) == (2, "yes")
    code, said = run("keys", "rotate", "--forget-unreadable", "--yes", keys=NEW)
    assert code == 0
    assert {step["record"] for step in said["forgotten"]} == {account, "certificate/a.example"}
    assert site.store.get(account) is None
    assert site.store.get(renewal_key("a.example")) is not None


def test_rotating_without_a_key_says_how_to_get_one(run: Run, site: RenewalSite) -> None:
    site.issue("a.example")
    code, said = run("keys", "rotate")
    assert (code, said["error"]["option"]) == (2, "encryption_keys")
    assert "`keys new` prints one" in said["error"]["hint"]


def test_what_rotating_came_to_is_said_to_people(
    site: RenewalSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rotate(*words: str, keys: str) -> list[str]:
        monkeypatch.setenv("ACME_ENCRYPTION_KEYS", keys)
        main(["keys", "rotate", "--store", str(site.usual["store"]), *words])
        return capsys.readouterr().out.splitlines()

    monkeypatch.setenv("COLUMNS", "80")
    site.store.check(writable=True)
    assert rotate(keys=OLD) == ["  nothing     the store holds no private record"]
    site.issue("a.example")
    with lease(site.store, "a.example"):
        held = rotate("--wait", "0.1", keys=OLD)
    assert held[0].startswith("  held        certificate/a.example: a.example is being worked on by ")
    assert "  sealed      1 record with the first key; 0 were already" in held
    assert held[-2].startswith("  next        run the same command again when they are done")
    assert rotate(keys=OLD) == ["  sealed      1 record with the first key; 1 was already"]
    assert rotate(keys=f"{NEW} {OLD}") == [
        "  sealed      2 records with the first key; 0 were already",
        "  next        other keys can be taken out of ENCRYPTION_KEYS, once every host",
        "              has this one first",
    ]
    unreadable = rotate(keys=OLD)
    assert " ".join(unreadable).count("certificate/a.example") == 1
    assert all(len(line) <= 80 for line in unreadable)


def test_a_new_key_is_printed_and_can_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new"]) == 0
    made = capsys.readouterr().out.strip()
    assert len(raw(made)) == 32
    assert main(["keys", "new", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key"] != made
