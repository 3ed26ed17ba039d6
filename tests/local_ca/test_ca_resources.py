"""What the CA offers beside being strict: chains, profiles, waiting, reuse, revocation, renewal information, its clock."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from ca_lab import Lab, key_change, renewal_info
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from raw_acme import Client, certificate_id, csr, der, jwk, new_key

from acme_middleware.errors import ConfigurationError
from acme_middleware.local_ca import LocalCA


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("alternates", [0, 2])
def test_every_chain_leads_to_its_root(lab: Lab, tmp_path: Path, length: int, alternates: int) -> None:
    ca = lab.start(chain_length=length, alternates=alternates)
    client = lab.client()
    issued = lab.issue(client)
    urls = [issued.url, *issued.answer.links("alternate")]
    assert len(set(urls)) == alternates + 1
    for number, url in enumerate(urls):
        answer = client.post(url).ok()
        assert answer.headers["Content-Type"] == "application/pem-certificate-chain"
        assert set(answer.links("alternate")) == set(urls) - {url}
        chain = x509.load_pem_x509_certificates(answer.body)
        assert len(chain) == length + 1
        assert verify(chain, ca.root(number), tmp_path) == "OK"
        assert all(verify(chain, ca.root(other), tmp_path) != "OK" for other in range(alternates + 1) if other != number)


def test_chain_that_there_is_not_is_404(lab: Lab) -> None:
    client = lab.client()
    issued = lab.issue(client)
    client.post(f"{issued.url}/1").refused("malformed", 404)
    client.post(f"{issued.url}x").refused("malformed", 404)


def test_certificate_is_one_of_a_server_and_has_no_common_name(lab: Lab) -> None:
    client, name = lab.client(), lab.name()
    leaf = lab.issue(client, name).leaf
    assert list(leaf.subject) == []
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert (names.critical, names.value.get_values_for_type(x509.DNSName)) == (True, [name])
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert x509.ExtendedKeyUsageOID.SERVER_AUTH in leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value


@pytest.mark.parametrize("profile", ["first", "second", None])
def test_profile_decides_the_lifetime_and_the_first_is_the_default(lab: Lab, profile: str | None) -> None:
    lifetimes = {"first": timedelta(hours=160), "second": timedelta(days=45)}
    lab.start(profiles=lifetimes)
    more = {"profile": profile} if profile else {}
    leaf = lab.issue(lab.client(), **more).leaf
    # Both ends belong to it (RFC 5280 section 4.1.2.5).
    lasts = leaf.not_valid_after_utc - leaf.not_valid_before_utc + timedelta(seconds=1)
    assert lasts == lifetimes[profile or "first"]


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: rsa.generate_private_key(65537, 2048), id="RSA of 2048 bits"),
        pytest.param(lambda: rsa.generate_private_key(65537, 4096), id="RSA of 4096 bits"),
        pytest.param(new_key, id="P-256"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP384R1()), id="P-384"),
    ],
)
def test_certificate_keys_of_every_usual_kind_are_taken(lab: Lab, key: Any) -> None:
    made = key()
    assert lab.issue(lab.client(), key=made).leaf.public_key() == made.public_key()


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: rsa.generate_private_key(65537, 2048), id="RS256"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP384R1()), id="ES384"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP521R1()), id="ES512"),
    ],
)
def test_account_keys_of_every_usual_kind_are_taken(lab: Lab, key: Any) -> None:
    client = lab.client(key())
    lab.issue(client)


@pytest.mark.parametrize("value", ["127.0.0.1", "2001:db8::5"])
def test_addresses_get_certificates(lab: Lab, value: str) -> None:
    client = lab.client()
    request = {"identifiers": [{"type": "ip", "value": value}, {"type": "dns", "value": "site.test"}]}
    placed = client.post(client.directory["newOrder"], request).ok(201)
    lab.respond(client, placed.json())
    order = client.poll(placed.location, until=lambda order: order["status"] == "ready")
    names = x509.SubjectAlternativeName([x509.DNSName("site.test"), x509.IPAddress(address(value))])
    key = new_key()
    request_for_it = (
        x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, critical=False).sign(key, hashes.SHA256())
    )
    order = client.post(order["finalize"], {"csr": der(request_for_it)}).ok().json()
    leaf = x509.load_pem_x509_certificate(client.post(order["certificate"]).ok().body)
    assert set(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == set(names)


def test_identifiers_are_taken_once_and_in_lower_case(lab: Lab) -> None:
    order = lab.client().new_order("A.test", "a.TEST", "b.test").ok(201).json()
    assert order["identifiers"] == [{"type": "dns", "value": "a.test"}, {"type": "dns", "value": "b.test"}]
    assert len(order["authorizations"]) == 2


def test_common_name_of_a_csr_counts_as_a_name(lab: Lab) -> None:
    client = lab.client()
    _, order = lab.ready(client, "one.test", "two.test")
    good = csr(new_key(), ["two.test"], common_name="ONE.test")
    client.post(order["finalize"], {"csr": der(good)}).ok()


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({}, id="no CSR"),
        pytest.param({"csr": 7}, id="a number"),
        pytest.param({"csr": "AAAA"}, id="no DER"),
        pytest.param({"csr": "a+b/"}, id="another alphabet"),
    ],
)
def test_csr_that_cannot_be_read_is_refused_and_the_order_stays_ready(lab: Lab, payload: dict[str, Any]) -> None:
    client = lab.client()
    url, order = lab.ready(client)
    client.post(order["finalize"], payload).refused("badCSR", 400)
    assert client.post(url).ok().json()["status"] == "ready"
    lab.finalize(client, order).ok()


def test_order_is_finalized_after_as_many_polls_as_it_was_told(lab: Lab) -> None:
    lab.start(finalize_polls=2, order_retry_after=7)
    client = lab.client()
    url, order = lab.ready(client)
    answers = [lab.finalize(client, order).ok(), client.post(url), client.post(url)]
    assert [answer.json()["status"] for answer in answers] == ["processing", "processing", "valid"]
    assert [answer.headers["Retry-After"] for answer in answers] == ["7", "7", None]
    assert all(answer.location == url for answer in answers)
    lab.finalize(client, order).refused("orderNotReady", 403)


def test_retry_after_comes_with_what_is_pending(lab: Lab) -> None:
    lab.start(order_retry_after=3)
    client = lab.client()
    placed = client.new_order(lab.name()).ok(201)
    assert placed.headers["Retry-After"] == "3"
    authorization = client.post(placed.json()["authorizations"][0])
    challenge = client.post(authorization.json()["challenges"][0]["url"])
    assert authorization.headers["Retry-After"] == challenge.headers["Retry-After"] == "3"


@pytest.mark.parametrize("reuse", [True, False])
def test_valid_authorizations_are_reused_where_the_ca_is_told_so(lab: Lab, reuse: bool) -> None:
    lab.start(authz_reuse=reuse)
    client, name = lab.client(), lab.name()
    lab.issue(client, name)
    order = client.new_order(name, "another.test").ok(201).json()
    statuses = [found["status"] for _, found in lab.authorizations(client, order)]
    assert statuses == ["valid" if reuse else "pending", "pending"]
    assert client.new_order(name).ok(201).json()["status"] == ("ready" if reuse else "pending")


def test_authorizations_are_reused_by_their_own_account_only(lab: Lab) -> None:
    name = lab.name()
    lab.issue(lab.client(), name)
    assert lab.client().new_order(name).ok(201).json()["status"] == "pending"


def test_order_with_a_failed_authorization_is_invalid_and_says_why(lab: Lab) -> None:
    client = lab.client()
    placed = client.new_order(lab.name()).ok(201)
    [(_, found)] = lab.authorizations(client, placed.json())
    client.post(found["challenges"][0]["url"], {}).ok()
    order = client.poll(placed.location, until=lambda order: order["status"] != "pending")
    assert order["status"] == "invalid"
    assert order["error"]["type"] == "urn:ietf:params:acme:error:unauthorized"
    lab.finalize(client, order).refused("orderNotReady", 403)


def test_orders_authorizations_and_certificates_go_by_the_clock_of_the_ca(lab: Lab) -> None:
    lab.start(order_lifetime=timedelta(days=2), authz_lifetime=timedelta(days=5))
    client, name = lab.client(), lab.name()
    issued, waiting = lab.issue(client, name), client.new_order(lab.name()).ok(201)
    lab.clock.travel(days=3)
    assert client.post(waiting.location).json()["status"] == "invalid"
    [url] = waiting.json()["authorizations"]
    assert client.post(url).json()["status"] == "pending"
    assert client.new_order(name).ok(201).json()["status"] == "ready"
    lab.clock.travel(days=3)
    assert client.post(url).json()["status"] == "expired"
    assert client.new_order(name).ok(201).json()["status"] == "pending"
    assert client.post(issued.order_url).json()["status"] == "valid"
    later = lab.issue(client, lab.name()).leaf
    assert timedelta(days=5.9) < later.not_valid_before_utc - issued.leaf.not_valid_before_utc < timedelta(days=6.1)


def test_date_of_answers_is_the_clock_of_the_ca(lab: Lab) -> None:
    client = lab.stranger()
    lab.clock.travel(days=-400)
    date = parsedate_to_datetime(client.request("GET", client.directory_url).headers["Date"])
    assert abs(lab.clock() - date) < timedelta(seconds=10)


def test_orders_of_an_account_are_listed_page_by_page(lab: Lab) -> None:
    client = lab.client()
    placed = [client.new_order(f"n{number}.test").ok(201).location for number in range(103)]
    client.post(client.post(placed[0]).json()["authorizations"][0], {"status": "deactivated"}).ok()
    url = client.post(client.account).ok().json()["orders"]
    first = client.post(url).ok()
    [following] = first.links("next")
    second = client.post(following).ok()
    assert first.json()["orders"] + second.json()["orders"] == placed[1:], "the invalid one is left out"
    assert second.links("next") == []
    client.post(f"{url}?page=x").refused("malformed", 404)


def test_contact_can_be_changed_and_what_cannot_is_ignored(lab: Lab) -> None:
    client = lab.stranger()
    client.register(contact=["mailto:a@b.test"]).ok(201)
    change = {"contact": ["mailto:c@d.test"], "orders": "https://x.test/", "termsOfServiceAgreed": False, "future": 1}
    assert client.post(client.account, change).ok().json()["contact"] == ["mailto:c@d.test"]
    shown = client.post(client.account).ok().json()
    assert shown["contact"] == ["mailto:c@d.test"]
    assert shown["orders"].startswith(client.account)
    assert "future" not in shown


def test_new_key_signs_and_the_old_one_does_not(lab: Lab) -> None:
    client, old = lab.client(), None
    old, fresh = client.key, ec.generate_private_key(ec.SECP384R1())
    assert key_change(client, fresh).ok().location == client.account
    client.post(client.account).refused("badPublicKey", 400)
    client.key = fresh
    lab.issue(client)
    assert lab.stranger(fresh).register(onlyReturnExisting=True).location == client.account
    lab.stranger(old).register(onlyReturnExisting=True).refused("accountDoesNotExist", 400)


def test_account_with_all_the_names_may_revoke(lab: Lab) -> None:
    issued, other = lab.issue(lab.client(), "a.test", "b.test"), lab.client()
    request = {"certificate": der(issued.leaf)}
    lab.issue(other, "a.test")
    other.post(other.directory["revokeCert"], request).refused("unauthorized", 403)
    lab.issue(other, "b.test")
    other.post(other.directory["revokeCert"], request).ok()


def test_certificate_of_nobody_can_not_be_revoked(lab: Lab) -> None:
    client = lab.client()
    root = x509.load_pem_x509_certificate(lab.ca.root_pem.encode())
    client.post(client.directory["revokeCert"], {"certificate": der(root)}).refused("malformed", 404)
    client.post(client.directory["revokeCert"], {"certificate": "AAAA"}).refused("malformed", 400)


def test_window_is_a_fiftieth_of_the_lifetime_around_two_thirds(lab: Lab) -> None:
    client = lab.client()
    leaf = lab.issue(client).leaf
    start, end = window(client, leaf)
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert abs((end - start) - lifetime * 0.02) < timedelta(seconds=2)
    assert abs((start - leaf.not_valid_before_utc) - lifetime * (2 / 3 - 0.01)) < timedelta(seconds=2)


def test_window_can_be_set_with_an_explanation(lab: Lab) -> None:
    client = lab.client()
    leaf = lab.issue(client).leaf
    start = datetime(2030, 5, 1, 12, tzinfo=UTC)
    lab.ca.set_renewal_window(leaf, start, start + timedelta(hours=1), "https://ca.test/incident")
    assert window(client, leaf) == (start, start + timedelta(hours=1))
    assert renewal_info(client, leaf).json()["explanationURL"] == "https://ca.test/incident"


def test_ca_can_revoke_by_itself(lab: Lab) -> None:
    client = lab.client()
    leaf = lab.issue(client).leaf
    lab.ca.revoke(leaf, 4)
    assert window(client, leaf)[1] < lab.clock()
    client.post(client.directory["revokeCert"], {"certificate": der(leaf)}).refused("alreadyRevoked", 400)


def test_certificate_of_another_ca_has_no_window_here(lab: Lab) -> None:
    root = x509.load_pem_x509_certificate(lab.ca.root_pem.encode())
    with pytest.raises(KeyError):
        lab.ca.revoke(root)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("AAAA.AQ", 404, id="unknown"),
        pytest.param("AAAA", 400, id="one part"),
        pytest.param("AAAA.AQ.AQ", 400, id="three parts"),
        pytest.param("AAAA.AQ=", 400, id="padding"),
        pytest.param("AAAA.AAE", 400, id="a serial that is not in its shortest form"),
        pytest.param("AAAA.gA", 400, id="a serial without its leading zero"),
        pytest.param("AAAA.", 400, id="no serial"),
        pytest.param(".AQ", 400, id="no key identifier"),
    ],
)
def test_id_that_is_none_has_no_window(lab: Lab, path: str, status: int) -> None:
    client = lab.stranger()
    assert client.request("GET", f"{client.directory['renewalInfo']}/{path}").status == status


def test_serials_with_their_first_bit_set_have_ids_with_a_zero(lab: Lab) -> None:
    client = lab.client()
    name = lab.name()
    seen: set[bool] = set()
    while len(seen) < 2:
        leaf = lab.issue(client, name).leaf
        seen.add(leaf.serial_number.bit_length() % 8 == 0)
        renewal_info(client, leaf)


def test_replacement_may_be_tried_again_when_the_first_order_has_failed(lab: Lab) -> None:
    client, name = lab.client(), lab.name()
    replaces = certificate_id(lab.issue(client, name).leaf)
    placed = client.new_order(name, "second.test", replaces=replaces).ok(201)
    client.new_order(name, replaces=replaces).refused("alreadyReplaced", 409)
    client.post(placed.json()["authorizations"][1], {"status": "deactivated"}).ok()
    client.new_order(name, replaces=replaces).ok(201)


def test_private_key_as_jwk_is_refused(lab: Lab) -> None:
    client = lab.stranger()
    answer = client.post(
        client.directory["newAccount"],
        {"termsOfServiceAgreed": True},
        protected=lambda header: header.update(jwk={**jwk(client.key), "d": "AAAA"}),
    )
    answer.refused("badPublicKey", 400)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"resolve": {"a.test": "127.0.0.1"}}, "resolve: a.test cannot be at", id="an address without a port"),
        pytest.param({"resolve": {"*": "localhost:80"}}, "cannot be at 'localhost:80'", id="a name in place of an address"),
        pytest.param({"resolve": {"*": ["127.0.0.1:80", "::1"]}}, "cannot be at", id="one of two without a port"),
        pytest.param({"eab": {"kid": "a+b="}}, "MAC key of kid", id="a MAC key in another alphabet"),
        pytest.param({"chain_length": 0}, "intermediate", id="a chain without an intermediate"),
        pytest.param({"perspectives": 0}, "perspective", id="nobody who looks"),
        pytest.param({"host": "example.test"}, "no address", id="a host that is no address"),
        pytest.param({"host": "0.0.0.0"}, "may be reached from elsewhere", id="all addresses"),
        pytest.param({"host": "192.0.2.1"}, "may be reached from elsewhere", id="an address of the network"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        LocalCA(**settings)


def address(value: str) -> Any:
    import ipaddress

    return ipaddress.ip_address(value)


def window(client: Client, leaf: x509.Certificate) -> tuple[datetime, datetime]:
    found = renewal_info(client, leaf).json()["suggestedWindow"]
    assert found["start"].endswith("Z")
    return datetime.fromisoformat(found["start"]), datetime.fromisoformat(found["end"])


def verify(chain: list[x509.Certificate], root: str, tmp: Path) -> str:
    """What openssl says of a chain up to one root: "OK", or what is wrong."""
    from cryptography.hazmat.primitives.serialization import Encoding

    (tmp / "leaf.pem").write_bytes(chain[0].public_bytes(Encoding.PEM))
    (tmp / "chain.pem").write_bytes(b"".join(entry.public_bytes(Encoding.PEM) for entry in chain[1:]))
    (tmp / "root.pem").write_text(root)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-no-CApath", "-no-CAstore"]
    command += ["-CAfile", str(tmp / "root.pem"), "-untrusted", str(tmp / "chain.pem"), str(tmp / "leaf.pem")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "OK" if ended.returncode == 0 else ended.stderr
