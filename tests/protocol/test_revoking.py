"""Revoking: who signs, what the CA makes of it, and that a successor with another key comes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from both_cas import CA
from cryptography import x509
from pebble_lab import Site, fresh
from stored_certificates import at_site, keys_of

from acme_middleware import clock
from acme_middleware.issuance.issuer import Action
from acme_middleware.issuance.records import (
    AccountRecord,
    CertificateRecord,
    OrderRecord,
    RenewalRecord,
    certificate_key,
    order_key,
    renewal_key,
)
from acme_middleware.issuance.renewal import due, state
from acme_middleware.protocol.revocation import REASONS


def stored(site: Site, name: str) -> CertificateRecord:
    found = CertificateRecord.read(site.records(), certificate_key(name))
    assert found is not None
    return found


def renewal(site: Site, name: str) -> RenewalRecord:
    found = RenewalRecord.read(site.records(), renewal_key(name))
    assert found is not None
    return found


def key_of(leaf: x509.Certificate) -> object:
    return leaf.public_key()


@pytest.mark.parametrize("reason", sorted(set(REASONS) - {"keyCompromise"}))
def test_account_revokes_for_the_reason_that_is_given_and_the_next_run_replaces(site: Site, reason: str) -> None:
    name = fresh()
    site.issue(name)
    leaf = site.leaf(name)
    ended = at_site(site, "revoke", name, "--reason", reason, "--json")
    assert ended.code == 0, ended.text
    said = json.loads(ended.out)
    assert said == {
        "action": "revoked",
        "names": [name],
        "serial": f"{leaf.serial_number:x}",
        "ca": said["ca"],
        "by": "account",
        "already": False,
        "reason": reason,
        "due": [name],
        "unread": [],
    }
    assert site.ca.revoked_for(leaf) == REASONS[reason]
    record = renewal(site, name)
    assert record.renew_after <= clock.now()
    assert due(record, [name], trusted=True, now=clock.now()) == f"revoked ({reason})"
    assert state(record, clock.now()) == "overdue"
    outcome = site.issue(name)
    assert (outcome.action, outcome.reason) == (Action.RENEWED, f"revoked ({reason})")
    assert site.ca.revoked_for(site.leaf(name)) is None
    assert renewal(site, name).revoked == ""
    assert site.issue(name).action is Action.NOT_DUE


def test_sweep_replaces_what_was_revoked(site: Site) -> None:
    name = fresh()
    site.issue(name)
    leaf = site.leaf(name)
    ended = at_site(site, "revoke", name)
    assert ended.code == 0, ended.text
    assert "`acme-middleware renew` replaces it" in ended.out
    ended = at_site(site, "renew", name)
    assert ended.code == 0, ended.text
    assert site.leaf(name) != leaf


def test_compromised_key_signs_itself_and_is_never_used_again_though_keys_are_kept(site: Site) -> None:
    name = fresh()
    site.issue(name, reuse_key=True)
    site.issue(name, reuse_key=True, force=True)
    leaf = site.leaf(name)
    ended = at_site(site, "revoke", name, "--reason", "keycompromise")
    assert ended.code == 0, ended.text
    assert "signed by the certificate's own key" in ended.out
    assert site.ca.revoked_for(leaf) == 1
    site.issue(name, reuse_key=True)
    assert key_of(site.leaf(name)) != key_of(leaf)
    # It is forgiven: the new key is kept again.
    new = site.leaf(name)
    site.issue(name, reuse_key=True, force=True)
    assert key_of(site.leaf(name)) == key_of(new)


def test_key_is_kept_after_a_revocation_that_is_not_about_it(site: Site) -> None:
    name = fresh()
    site.issue(name, reuse_key=True)
    leaf = site.leaf(name)
    assert at_site(site, "revoke", name, "--reason", "superseded").code == 0
    site.issue(name, reuse_key=True)
    assert site.leaf(name) != leaf
    assert key_of(site.leaf(name)) == key_of(leaf)


def test_order_under_way_for_a_compromised_key_is_dropped(site: Site) -> None:
    name = fresh()
    site.issue(name, reuse_key=True)
    made = stored(site, name)
    order = OrderRecord(
        url=made.order_url, account_url=made.account_url, ca=made.ca, names=made.names, profile="", key_type="ec256",
        key_pem=made.key_pem,
    )  # fmt: skip
    order.write(site.records(), order_key(name))
    assert at_site(site, "revoke", name, "--reason", "keyCompromise").code == 0
    assert OrderRecord.read(site.records(), order_key(name)) is None


def test_other_certificate_with_the_compromised_key_is_due_as_well(site: Site) -> None:
    name = fresh()
    site.issue(name, reuse_key=True)
    old = site.current(name).joinpath("cert.pem").read_text()
    site.issue(name, reuse_key=True, force=True)
    now = stored(site, name)
    assert now.cert_pem != old
    (site.folder / "old.pem").write_text(old)
    (site.folder / "key.pem").write_text(now.key_pem)
    ended = at_site(site, "revoke", "--cert", "old.pem", "--key", "key.pem", "--reason", "keyCompromise", "--json")
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["due"] == [name]
    assert stored(site, name).revoked == "keyCompromise"
    assert site.ca.revoked_for(x509.load_pem_x509_certificate(old.encode())) == 1


@pytest.mark.parametrize("key_type", ["ec256", "ec384", "rsa2048"])
def test_own_key_of_any_kind_revokes_a_certificate_of_which_the_store_knows_nothing(site: Site, key_type: str) -> None:
    name = fresh()
    site.issue(name, key_type=key_type)
    made, leaf = stored(site, name), site.leaf(name)
    (site.folder / "cert.pem").write_text(made.cert_pem + made.chain_pem)
    (site.folder / "key.pem").write_text(made.key_pem)
    for key in keys_of(site.store):
        site.records().delete(key)
    ended = at_site(site, "revoke", "--cert", "cert.pem", "--key", "key.pem", "--json")
    assert ended.code == 0, ended.text
    said = json.loads(ended.out)
    assert (said["action"], said["by"], said["due"]) == ("revoked", "key", [])
    assert site.ca.revoked_for(leaf) is not None
    assert keys_of(site.store) == set()


def test_file_without_a_key_is_revoked_by_the_account(site: Site) -> None:
    name = fresh()
    site.issue(name)
    old = site.leaf(name)
    (site.folder / "cert.pem").write_text(stored(site, name).cert_pem)
    site.issue(name, force=True)
    ended = at_site(site, "revoke", "--cert", "cert.pem", "--json")
    assert ended.code == 0, ended.text
    said = json.loads(ended.out)
    assert (said["by"], said["due"]) == ("account", [])
    assert site.ca.revoked_for(old) is not None
    assert site.ca.revoked_for(site.leaf(name)) is None
    assert renewal(site, name).revoked == ""


def test_file_of_a_certificate_in_use_is_known_for_that(site: Site) -> None:
    name = fresh()
    site.issue(name)
    (site.folder / "full.pem").write_bytes(site.current(name).joinpath("fullchain.pem").read_bytes())
    ended = at_site(site, "revoke", "--cert", "full.pem", "--json")
    assert json.loads(ended.out)["due"] == [name], ended.text


def test_second_time_says_that_it_was_done_and_is_no_failure(site: Site) -> None:
    name = fresh()
    site.issue(name)
    assert at_site(site, "revoke", name).code == 0
    # As one that was killed between the CA's answer and the marking of the records leaves it.
    replace(stored(site, name), revoked="").write(site.records(), certificate_key(name))
    replace(renewal(site, name), revoked="").write(site.records(), renewal_key(name))
    ended = at_site(site, "revoke", name)
    assert ended.code == 0, ended.text
    assert "had been revoked before" in ended.out
    assert renewal(site, name).revoked == "unspecified"


def test_certificate_whose_account_is_gone_is_revoked_by_its_own_key(site: Site) -> None:
    name = fresh()
    site.issue(name)
    for key in keys_of(site.store):
        if key.startswith("account/"):
            site.records().delete(key)
    ended = at_site(site, "revoke", name, "--json")
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["by"] == "key"


def test_account_that_the_ca_does_not_let_revoke_is_followed_by_the_own_key(site: Site) -> None:
    name = fresh()
    site.issue(name)
    ((where, record),) = list(site.records().scan("account/"))
    known = AccountRecord.decode(where, record.value, record.version)
    site.records().delete(where)
    site.issue(fresh())
    ((where, record),) = list(site.records().scan("account/"))
    other = AccountRecord.decode(where, record.value, record.version)
    # An account with the key of another: nothing that it signs is taken.
    replace(other, url=known.url).write(site.records(), where)
    ended = at_site(site, "revoke", name, "--json")
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["by"] == "key"
    assert site.ca.revoked_for(site.leaf(name)) is not None


def test_delete_afterwards_leaves_no_record(site: Site) -> None:
    name, other = fresh(), fresh()
    site.issue(name)
    site.issue(other)
    leaf = site.leaf(name)
    ended = at_site(site, "revoke", name, "--delete")
    assert ended.code == 0, ended.text
    assert site.ca.revoked_for(leaf) is not None
    assert not [key for key in keys_of(site.store) if name in key]
    assert [key for key in keys_of(site.store) if other in key]
    assert re.search(r"removed +" + re.escape(name), ended.out)
    assert "is valid until" not in ended.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param((), "name one certificate", id="nothing"),
        pytest.param(("a.example", "--cert", "cert.pem"), "name one certificate", id="two"),
        pytest.param(("unknown.example",), "there is no certificate", id="unknown name"),
        pytest.param(("--cert", "none.pem"), "cannot read none.pem", id="no file"),
        pytest.param(("--cert", "key.pem"), "no certificate in PEM", id="key in place of the certificate"),
        pytest.param(("--cert", "cert.pem", "--key", "cert.pem"), "no private key", id="certificate in place of the key"),
        pytest.param(("--cert", "cert.pem", "--key", "key.pem"), "not the key of the certificate", id="another key"),
        pytest.param(("--cert", "cert.pem", "--ca", "zerossl"), "no account at ZeroSSL", id="no account there"),
    ],
)
def test_wrong_words_are_refused_before_the_ca_is_asked(site: Site, words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    from acme_middleware.testing.certificates import self_made

    (site.folder / "cert.pem").write_bytes(self_made("a.example").cert)
    (site.folder / "key.pem").write_bytes(self_made("a.example").key)
    site.records().check(writable=True)
    ended = at_site(site, "revoke", *words)
    assert ended.code == 2, ended.text
    assert says in ended.err
    assert site.requests() == []


def test_certificate_of_another_ca_is_refused_in_the_cas_words(
    site: Site, make_site: Callable[..., Site], start_ca: Callable[..., CA]
) -> None:
    other = make_site(start_ca())
    name = fresh()
    other.issue(name)
    site.issue(fresh())
    (site.folder / "cert.pem").write_text(stored(other, name).cert_pem)
    ended = at_site(site, "revoke", "--cert", "cert.pem")
    assert ended.code == 1, ended.text
    assert "the CA refused" in ended.err
