"""From names to files: what a certificate is for, its key, its files, and when another is ordered."""

from __future__ import annotations

import json
import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from both_cas import CA
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from killing import make_due
from pebble_lab import Site, fresh, load_pair, names_of, verify

from acme_middleware import authorities, events
from acme_middleware.errors import ConfigurationError
from acme_middleware.issuance.issuer import Action
from acme_middleware.issuance.records import RenewalRecord, certificate_key, order_key, renewal_key
from acme_middleware.protocol import directory as acme_directory
from acme_middleware.protocol import renewal_info
from acme_middleware.protocol.network import Network


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        pytest.param("{0}", "{0}", id="one name"),
        pytest.param("{0} www.{0}", "{0} www.{0}", id="two names"),
        pytest.param("WWW.{0}. {0}", "www.{0} {0}", id="capital letters and a trailing dot"),
        pytest.param("{0} {0} {0}.", "{0}", id="the same name three times"),
        pytest.param("bücher.{0}", "xn--bcher-kva.{0}", id="an internationalised name"),
        pytest.param("127.0.0.1", "127.0.0.1", id="an IPv4 address"),
        pytest.param("{0} 127.0.0.1", "{0} 127.0.0.1", id="a name and an address"),
        pytest.param(" ".join(f"n{i}.{{0}}" for i in range(25)), " ".join(f"n{i}.{{0}}" for i in range(25)), id="25 names"),
    ],
)
def test_certificate_is_for_the_names_asked_for(site: Site, typed: str, expected: str) -> None:
    unique = fresh()
    names = expected.format(unique).split()
    outcome = site.issue(*typed.format(unique).split())
    assert outcome.action is Action.ISSUED
    assert outcome.reason == "never issued"
    assert outcome.record.names == tuple(names)
    assert names_of(site.leaf(names[0])) == set(names)
    assert outcome.published == site.current(names[0])
    load_pair(site.current(names[0]))
    assert verify(site.current(names[0]), site.ca.roots()[0], tmp=site.folder).endswith(": OK")
    assert [e.identifier for e in site.events if isinstance(e, events.Validated)] == [
        e.identifier for e in site.events if isinstance(e, events.Presented)
    ]
    assert {e.identifier for e in site.events if isinstance(e, events.Presented)} == set(names)
    assert site.tokens() == []
    assert site.records().get(order_key(names[0])) is None
    assert len(site.orders()) == 1


@pytest.mark.parametrize(
    ("key_type", "kind", "size"),
    [
        pytest.param("ec256", ec.EllipticCurvePrivateKey, 256, id="P-256"),
        pytest.param("ec384", ec.EllipticCurvePrivateKey, 384, id="P-384"),
        pytest.param("rsa2048", rsa.RSAPrivateKey, 2048, id="RSA of 2048 bits"),
        pytest.param("rsa3072", rsa.RSAPrivateKey, 3072, id="RSA of 3072 bits"),
        pytest.param("rsa4096", rsa.RSAPrivateKey, 4096, id="RSA of 4096 bits"),
    ],
)
def test_key_is_of_the_type_asked_for(site: Site, key_type: str, kind: type, size: int) -> None:
    name = fresh()
    site.issue(name, key_type=key_type)
    key = load_pem_private_key((site.current(name) / "privkey.pem").read_bytes(), None)
    assert isinstance(key, kind)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    assert key.key_size == size
    load_pair(site.current(name))


def test_account_has_another_key_than_the_certificate(site: Site) -> None:
    name = fresh()
    site.issue(name)
    ((_, account),) = list(site.records().scan("account/"))
    key = load_pem_private_key(json.loads(account.value)["key_pem"].encode(), None).public_key()
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert key.public_bytes(*spki) != site.leaf(name).public_key().public_bytes(*spki)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=["umask 000", "umask 022", "umask 077"])
def test_modes_of_files_do_not_depend_on_the_umask(site: Site, umask: int) -> None:
    name = fresh()
    ended = site.run(name, umask=umask)
    assert ended.code == 0, ended.text

    def mode(path: object) -> int:
        return stat.S_IMODE((site.store / str(path)).stat().st_mode)

    files = {path.name: mode(path) for path in site.current(name).iterdir()}
    assert files == {"privkey.pem": 0o600, "bundle.pem": 0o600, "cert.pem": 0o644, "chain.pem": 0o644, "fullchain.pem": 0o644}
    assert {path.name: mode(path) for path in site.store.iterdir() if path.is_dir()} == {
        "account": 0o700,
        "certificate": 0o700,
        "lock": 0o700,
        "order": 0o700,
        "renewal": 0o700,
        "challenges": 0o755,
        "live": 0o755,
    }
    assert mode("") == 0o755
    assert mode("challenges/.well-known/acme-challenge") == 0o755
    assert mode(certificate_key(name)) == 0o600


def test_files_hold_what_their_names_say(site: Site) -> None:
    name = fresh()
    site.issue(name)
    key, cert, chain, full, bundle = (
        (site.current(name) / f"{file}.pem").read_text() for file in ("privkey", "cert", "chain", "fullchain", "bundle")
    )
    assert (cert.count("BEGIN CERTIFICATE"), chain.count("BEGIN CERTIFICATE")) == (1, 1)
    assert full == cert + chain
    assert bundle == full + key
    assert "PRIVATE KEY" not in full
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(site.current(name) / "bundle.pem")


def test_second_run_is_not_due_and_asks_the_ca_nothing(site: Site) -> None:
    name = fresh()
    first = site.run(name)
    assert first.code == 0, first.text
    assert "valid until" in first.out
    asked, before = len(site.requests()), site.snapshot()
    second = site.run(name)
    assert second.code == 0, second.text
    assert "not due" in second.out
    assert len(site.requests()) == asked
    assert site.snapshot() == before
    assert len(site.orders()) == 1


def test_not_due_run_writes_lost_files_again(site: Site) -> None:
    name = fresh()
    site.issue(name)
    before = {path.name: path.read_bytes() for path in site.current(name).iterdir()}
    site.current(name).unlink()
    assert site.issue(name).action is Action.NOT_DUE
    assert {path.name: path.read_bytes() for path in site.current(name).iterdir()} == before
    assert len(site.orders()) == 1


def test_force_issues_what_is_not_due(site: Site) -> None:
    name = fresh()
    first = site.issue(name)
    second = site.issue(name, force=True)
    assert (second.action, second.reason) == (Action.RENEWED, "forced")
    assert second.record.serial != first.record.serial
    assert f"{site.leaf(name).serial_number:x}" == second.record.serial
    assert len(site.orders()) == 2


def test_renewal_comes_when_its_time_has_come(site: Site) -> None:
    name = fresh()
    site.issue(name)
    make_due(site.records(), name)
    outcome = site.issue(name)
    assert (outcome.action, outcome.reason) == (Action.RENEWED, "due for renewal")
    assert site.issue(name).action is Action.NOT_DUE


def test_adding_a_name_is_due_now(site: Site) -> None:
    name = fresh()
    site.issue(name)
    outcome = site.issue(name, f"www.{name}")
    assert outcome.reason == "names were added"
    assert names_of(site.leaf(name)) == {name, f"www.{name}"}


def test_dropping_a_name_must_be_said(site: Site) -> None:
    name = fresh()
    site.issue(name, f"www.{name}")
    before = site.snapshot()
    refused = site.run(name)
    assert refused.code == 2
    assert f"also for www.{name}" in refused.err
    assert "--drop-names" in refused.err
    assert site.snapshot() == before
    assert len(site.orders()) == 1
    agreed = site.run(name, "--drop-names")
    assert agreed.code == 0, agreed.text
    assert names_of(site.leaf(name)) == {name}


def test_name_keeps_two_certificates_for_one_host_apart(site: Site) -> None:
    name = fresh()
    site.issue(name, key_type="ec256")
    outcome = site.issue(name, name="with-rsa", key_type="rsa2048")
    assert outcome.action is Action.ISSUED
    assert outcome.published == site.current("with-rsa")
    assert names_of(site.leaf("with-rsa")) == {name}
    assert site.issue(name, name="with-rsa").action is Action.NOT_DUE


def test_order_of_the_names_is_no_difference(site: Site) -> None:
    name = fresh()
    site.issue(name, f"www.{name}")
    assert site.issue(f"www.{name}", name, name=name).action is Action.NOT_DUE


@pytest.mark.parametrize("reuse", [True, False], ids=["kept with REUSE_KEY", "new without it"])
def test_key_of_a_renewal(site: Site, reuse: bool) -> None:
    name = fresh()
    site.issue(name)
    before = (site.current(name) / "privkey.pem").read_bytes()
    serial = site.leaf(name).serial_number
    site.issue(name, force=True, reuse_key=reuse)
    assert ((site.current(name) / "privkey.pem").read_bytes() == before) is reuse
    assert site.leaf(name).serial_number != serial


def test_key_is_not_kept_where_another_type_is_asked_for(site: Site) -> None:
    name = fresh()
    site.issue(name)
    site.issue(name, force=True, reuse_key=True, key_type="ec384")
    key = load_pem_private_key((site.current(name) / "privkey.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.key_size == 384


JSON_FIELDS = {
    "action",
    "reason",
    "name",
    "names",
    "ca",
    "profile",
    "serial",
    "fingerprint",
    "not_before",
    "not_after",
    "issued_at",
    "renew_after",
    "published",
    "undeployed",
}


def test_json_is_one_object_with_the_documented_fields(site: Site) -> None:
    name = fresh()
    first, second = site.run(name, "--json"), site.run(name, "--json")
    assert (first.code, first.err, first.out.count("\n")) == (0, "", 1)
    issued, not_due = json.loads(first.out), json.loads(second.out)
    assert set(issued) == set(not_due) == JSON_FIELDS
    assert (issued["action"], not_due["action"]) == ("issued", "not due")
    assert (issued["name"], issued["names"], issued["profile"]) == (name, [name], "default")
    leaf = site.leaf(name)
    assert issued["serial"] == not_due["serial"] == f"{leaf.serial_number:x}"
    assert datetime.fromisoformat(issued["not_after"]) == leaf.not_valid_after_utc
    assert all(issued[time].endswith("Z") for time in ("not_before", "not_after", "issued_at", "renew_after"))
    assert issued["published"] == str(site.current(name))


def test_json_of_an_error_is_one_object_too(site: Site) -> None:
    ended = site.run("*.example.com", "--json")
    assert (ended.code, ended.err) == (2, "")
    error = json.loads(ended.out)["error"]
    assert (error["type"], error["exit_code"], error["name"]) == ("NameRefused", 2, "*.example.com")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_preferred_chain_is_the_one_that_leads_to_that_root(site: Site, number: int) -> None:
    name, roots = fresh(), site.ca.roots()
    site.issue(name, preferred_chain=common_name(roots[number]))
    assert site.warnings() == []
    verdicts = [verify(site.current(name), root, tmp=site.folder).endswith(": OK") for root in roots]
    assert verdicts == [i == number for i in range(3)]


def test_preferred_chain_that_is_not_offered_is_a_warning(site: Site) -> None:
    name = fresh()
    site.issue(name, preferred_chain="Nobody's Root X9")
    assert site.warnings() == ["the CA offers no chain up to Nobody's Root X9; its default chain is used"]
    assert verify(site.current(name), site.ca.roots()[0], tmp=site.folder).endswith(": OK")


@pytest.mark.parametrize(("profile", "days"), [("default", 90), ("shortlived", 6)])
def test_profile_decides_the_lifetime(site: Site, profile: str, days: int) -> None:
    name = fresh()
    record = site.issue(name, profile=profile).record
    assert record.profile == profile
    assert abs(record.not_after - record.not_before - timedelta(days=days)) < timedelta(minutes=1)


def test_unknown_profile_is_a_warning_and_gets_the_default(site: Site) -> None:
    record = site.issue(fresh(), profile="tlsserver").record
    assert record.profile == ""
    (warning,) = site.warnings()
    assert "no profile 'tlsserver'" in warning
    assert "default, shortlived" in warning


def test_unknown_profile_that_is_required_is_refused_before_any_order(site: Site) -> None:
    ended = site.run(fresh(), "--require-profile", profile="tlsserver")
    assert ended.code == 2
    assert "no profile 'tlsserver'; it offers default, shortlived" in ended.err
    assert site.orders() == []
    assert site.accounts() == 0


def test_renewal_time_is_drawn_from_the_window_of_the_ca(site: Site) -> None:
    name = fresh()
    record = site.issue(name).record
    stored = RenewalRecord.read(site.records(), renewal_key(name))
    assert stored == record
    assert record.ari is not None
    assert record.ari.start <= record.ari.drawn <= record.ari.end < record.not_after
    assert record.renew_after == record.ari.drawn
    assert record.ari.ask_again > record.issued_at


def test_renewal_window_is_the_one_that_the_ca_has_set(site: Site) -> None:
    name = fresh()
    site.issue(name)
    network = Network(ca_bundle=site.ca.ca_bundle)
    directory = acme_directory.fetch(network, site.ca.directory_url)
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
    site.ca.set_renewal_window(site.leaf(name), begin, begin + timedelta(hours=2))
    found = renewal_info.fetch(network, directory, site.leaf(name))
    assert (found.start, found.end) == (begin, begin + timedelta(hours=2))


def test_renewal_tells_the_ca_what_it_replaces(site: Site) -> None:
    name = fresh()
    site.issue(name)
    assert site.watch.replacements() == []
    site.issue(name, force=True)
    first, second = site.orders()
    assert site.watch.replacements() == [(second, first)]


def test_replacement_that_the_ca_refuses_is_ordered_as_a_new_certificate(site: Site) -> None:
    name, store = fresh(), site.records()
    site.issue(name)
    backup = {key: record.value for kind in ("certificate", "renewal") for key, record in store.scan(f"{kind}/")}
    site.issue(name, force=True)
    # After restoring the backup the certificate in use is one that has been replaced already.
    for key, value in backup.items():
        store.put(key, value)
    outcome = site.issue(name, force=True)
    assert outcome.action is Action.RENEWED
    (warning,) = site.warnings()
    assert "refused to take this as a replacement" in warning
    assert len(site.orders()) == 3
    assert len(site.requests("new-order")) == 4


def test_certificate_for_other_names_replaces_nothing(site: Site) -> None:
    name, other = fresh(), fresh()
    site.issue(name)
    outcome = site.issue(other, name=name, drop_names=True)
    assert outcome.action is Action.RENEWED
    assert names_of(site.leaf(name)) == {other}
    assert site.watch.replacements() == []
    assert site.warnings() == []


def test_staging_never_replaces_a_trusted_certificate(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    name_authorities(monkeypatch, site)
    name = fresh()
    site.issue(name, ca="trusted-ca")
    before = site.snapshot()
    with pytest.raises(ConfigurationError, match="which is from trusted-ca") as refused:
        site.issue(name, ca="staging-ca", force=True)
    assert refused.value.exit_code == 2
    assert "--dry-run" in refused.value.hint
    assert site.snapshot() == before
    assert len(site.orders()) == 1
    # Beside it, under another name, it may.
    assert site.issue(name, name="rehearsal", ca="staging-ca").action is Action.ISSUED
    assert site.issue(name, ca="trusted-ca").action is Action.NOT_DUE


def test_trusted_certificate_after_staging_is_due_now(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    name_authorities(monkeypatch, site)
    name = fresh()
    site.issue(name, ca="staging-ca")
    assert site.issue(name, ca="staging-ca").action is Action.NOT_DUE
    outcome = site.issue(name, ca="trusted-ca")
    assert (outcome.action, outcome.reason) == (Action.RENEWED, "the one in use is from a staging CA")
    assert outcome.record.trusted
    assert site.watch.replacements() == []  # what another account has cannot be replaced


def test_order_that_comes_ready_is_not_answered(start_ca: Callable[..., CA], make_site: Callable[..., Site]) -> None:
    site, name = make_site(start_ca(authz_reuse=True)), fresh()
    site.issue(name)
    site.events.clear()
    outcome = site.issue(name, force=True)
    assert outcome.action is Action.RENEWED
    assert [event for event in site.events if isinstance(event, events.Presented)] == []
    assert len(site.requests("challenge")) == 1
    # One name is valid already and one is new: only the new one is answered.
    site.issue(name, f"www.{name}")
    assert [event.identifier for event in site.events if isinstance(event, events.Presented)] == [f"www.{name}"]


def name_authorities(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """Let the table of CAs have the test's CA twice, once as a CA that browsers trust and once as one that they do not."""
    both = {
        ca: authorities.Authority(ca, ca, site.ca.directory_url, trusted=trusted)
        for ca, trusted in (("trusted-ca", True), ("staging-ca", False))
    }
    monkeypatch.setattr(authorities, "AUTHORITIES", {**authorities.AUTHORITIES, **both})


def common_name(pem: str) -> str:
    (name,) = x509.load_pem_x509_certificate(pem.encode()).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(name.value)
