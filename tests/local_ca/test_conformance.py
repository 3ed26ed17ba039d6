"""
Each clause that the CA implements: a test that holds, and that fails where the CA breaks the clause.

A test of this file takes a lab and nothing else, and begins from a CA with default settings or starts one with its own.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ca_lab import Lab, key_change, renewal_info
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from raw_acme import Client, Key, b64, certificate_id, csr, der, jwk, mac_jws, new_key, unb64

from acme_middleware.errors import ConfigurationError
from acme_middleware.local_ca import LocalCA
from acme_middleware.local_ca.clauses import CLAUSES

clause = pytest.mark.clause

MAC = bytes(range(32))
EAB = {"kid-1": b64(MAC)}


@clause("RFC 8555 6.1", "8555-6.1-base64url")
def test_padding_in_base64url_is_refused(lab: Lab) -> None:
    client = lab.client()
    answer = client.post(client.account, body=lambda jws: jws.update(signature=jws["signature"] + "=="))
    answer.refused("malformed", 400)


@clause("RFC 8555 6.1", "8555-6.1-user-agent")
def test_request_without_user_agent_is_refused(lab: Lab) -> None:
    client = lab.stranger()
    client.request("GET", client.directory_url, headers={"User-Agent": None}).refused("malformed", 400)


@clause("RFC 8555 6.1", "8555-6.1-cors")
def test_directory_may_be_read_by_any_page(lab: Lab) -> None:
    client = lab.stranger()
    assert client.request("GET", client.directory_url).headers["Access-Control-Allow-Origin"] == "*"


@clause("RFC 8555 6.2", "8555-6.2-content-type")
def test_other_content_types_are_415(lab: Lab) -> None:
    client = lab.client()
    client.post(client.account, content_type="application/json").refused("malformed", 415)


@clause("RFC 8555 6.2", "8555-6.2-one-signature")
def test_several_signatures_are_refused(lab: Lab) -> None:
    client = lab.client()
    client.post(client.account, body=lambda jws: jws.update(signatures=[])).refused("malformed", 400)


@clause("RFC 8555 6.2", "8555-6.2-no-unprotected-header")
def test_unprotected_header_is_refused(lab: Lab) -> None:
    client = lab.client()
    client.post(client.account, body=lambda jws: jws.update(header={"kid": client.account})).refused("malformed", 400)


@clause("RFC 8555 6.2", "8555-6.2-algorithms-listed")
def test_unknown_algorithm_is_answered_with_those_that_are_known(lab: Lab) -> None:
    client = lab.client()
    for name in ("none", "HS256", "XX1", None):
        answer = client.post(client.account, protected=lambda header, name=name: header.update(alg=name))
        assert {"RS256", "ES256"} <= set(answer.refused("badSignatureAlgorithm", 400).json().get("algorithms", []))


@clause("RFC 8555 6.2", "8555-6.2-algorithm-of-the-key")
def test_algorithm_of_another_curve_is_refused(lab: Lab) -> None:
    client = lab.client()

    def by_es384(signed: dict[str, Any]) -> None:
        # A signature that is good, by an algorithm that is not for this curve.
        header = {**json.loads(unb64(signed["protected"])), "alg": "ES384"}
        text = f"{b64(json.dumps(header).encode())}.{signed['payload']}"
        assert isinstance(client.key, ec.EllipticCurvePrivateKey)
        signed.update(protected=text.partition(".")[0], signature=b64(sign_p256_by_sha384(client.key, text.encode())))

    client.post(client.account, body=by_es384).refused("badPublicKey", 400)


@clause("RFC 8555 6.2", "8555-6.2-key-strength")
def test_short_rsa_account_key_is_refused(lab: Lab) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    lab.stranger(weak).register().refused("badPublicKey", 400)


@clause("RFC 8555 6.2", "8555-6.2-signature")
def test_signature_by_another_key_is_refused(lab: Lab) -> None:
    client = lab.client()
    client.post(client.account, key=new_key()).refused("malformed", 400)


@clause("RFC 8555 6.2", "8555-6.2-jwk-or-kid")
def test_both_jwk_and_kid_are_refused(lab: Lab) -> None:
    client = lab.client()
    client.post(client.account, protected=lambda header: header.update(jwk=jwk(client.key))).refused("malformed", 400)


@clause("RFC 8555 6.2", "8555-6.2-jwk-for-new-accounts")
def test_new_account_by_kid_is_refused(lab: Lab) -> None:
    client = lab.client()
    answer = client.post(client.directory["newAccount"], {"termsOfServiceAgreed": True})
    answer.refused("malformed", 400)
    assert answer.json()["detail"] == "new-account is signed with `jwk`, not with `kid`"


@clause("RFC 8555 6.2", "8555-6.2-kid-for-all-else")
def test_order_by_jwk_is_refused(lab: Lab) -> None:
    client = lab.client()
    request = {"identifiers": [{"type": "dns", "value": lab.name()}]}
    client.post(client.directory["newOrder"], request, by_key=True).refused("malformed", 400)


@clause("RFC 8555 6.3", "8555-6.3-post-as-get")
def test_get_is_405_where_a_signature_is_needed(lab: Lab) -> None:
    client = lab.client()
    answer = client.request("GET", client.account)
    answer.refused("malformed", 405)
    assert answer.headers["Allow"] == "POST"


@clause("RFC 8555 6.3", "8555-6.3-directory-by-post")
def test_directory_answers_post_as_get(lab: Lab) -> None:
    client = lab.client()
    assert client.post(client.directory_url).ok().json() == client.directory


@clause("RFC 8555 6.3", "8555-6.3-empty-payload")
def test_payload_for_what_can_only_be_read_is_refused(lab: Lab) -> None:
    client = lab.client()
    order = client.new_order(lab.name()).ok(201)
    client.post(order.location, {}).refused("malformed", 400)


@clause("RFC 8555 6.4", "8555-6.4-url")
def test_request_signed_for_another_url_is_refused(lab: Lab) -> None:
    client = lab.client()
    url = client.directory["newOrder"]
    client.post(client.account, protected=lambda header: header.update(url=url)).refused("unauthorized", 403)


@clause("RFC 8555 6.5", "8555-6.5-nonce-in-replies")
def test_every_reply_to_a_post_brings_a_nonce(lab: Lab) -> None:
    client = lab.client()
    nonces = [client.post(url).headers["Replay-Nonce"] for url in (client.account, f"{client.account}x", client.directory_url)]
    assert all(nonces)
    assert len(set(nonces)) == len(nonces)
    assert client.post(client.account, protected=lambda header: header.update(nonce=nonces[0])).status == 200


@clause("RFC 8555 6.5", "8555-6.5-nonce-used-once")
def test_nonce_is_good_for_one_request(lab: Lab) -> None:
    client = lab.client()
    nonce = client.nonce()

    def use(header: dict[str, Any]) -> None:
        header["nonce"] = nonce

    client.post(client.account, protected=use).ok()
    again = client.post(client.account, protected=use)
    again.refused("badNonce", 400)
    client.post(client.account, protected=lambda header: header.update(nonce=again.headers["Replay-Nonce"])).ok()
    client.post(client.account, protected=lambda header: header.update(nonce=b64(b"never given out"))).refused("badNonce", 400)


@clause("RFC 8555 6.5.2", "8555-6.5.2-nonce-is-base64url")
def test_nonce_that_is_no_base64url_is_malformed(lab: Lab) -> None:
    client = lab.client()
    for nonce in ("+/==", "a", 7, None):
        client.post(client.account, protected=lambda header, nonce=nonce: header.update(nonce=nonce)).refused("malformed", 400)


@clause("RFC 8555 6.7", "8555-6.7-problem-type")
def test_errors_are_problem_documents(lab: Lab) -> None:
    client = lab.client()
    answer = client.post(f"{client.account}x")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:ietf:params:acme:error:unauthorized"
    assert answer.json()["status"] == answer.status == 403


@clause("RFC 8555 6.7.1", "8555-6.7.1-subproblems")
def test_each_refused_identifier_has_a_subproblem(lab: Lab) -> None:
    problem = lab.client().new_order("*.a.test", "good.test", "under_score.test").json()
    assert [entry["identifier"]["value"] for entry in problem.get("subproblems", [])] == ["*.a.test", "under_score.test"]
    assert problem["type"].endswith(":compound")
    assert "identifier" not in problem


@clause("RFC 8555 7.1", "8555-7.1-link-index")
def test_replies_link_to_the_directory(lab: Lab) -> None:
    client = lab.client()
    assert client.post(client.account).links("index") == [client.directory_url]
    assert client.request("HEAD", client.directory["newNonce"]).links("index") == [client.directory_url]
    assert client.request("GET", client.directory_url).links("index") == []


@clause("RFC 8555 7.1.1", "8555-7.1.1-terms-in-meta")
def test_directory_says_where_the_terms_are(lab: Lab) -> None:
    client = lab.stranger()
    url = client.directory["meta"].get("termsOfService", "")
    assert url.startswith("https://")
    client.request("GET", url).ok()


@clause("RFC 8555 7.1.1", "8555-7.1.1-binding-in-meta")
def test_directory_says_that_a_binding_is_needed(lab: Lab) -> None:
    lab.start(eab=EAB)
    assert lab.stranger().directory["meta"].get("externalAccountRequired") is True


@clause("RFC 8555 7.1.2.1", "8555-7.1.2.1-orders-listed")
def test_orders_of_an_account_are_listed(lab: Lab) -> None:
    client = lab.client()
    first, second, third = (client.new_order(lab.name()).ok(201) for _ in range(3))
    client.post(second.json()["authorizations"][0], {"status": "deactivated"}).ok()
    listed = client.post(client.post(client.account).ok().json()["orders"]).ok().json()["orders"]
    assert listed == [first.location, third.location]


@clause("RFC 8555 7.1.3", "8555-7.1.3-authorization-for-each")
def test_order_has_an_authorization_for_each_identifier(lab: Lab) -> None:
    client = lab.client()
    order = client.new_order("a.test", "b.test").ok(201).json()
    assert [found["identifier"] for _, found in lab.authorizations(client, order)] == order["identifiers"]


@clause("RFC 8555 7.1.3", "8555-7.1.3-wildcard")
def test_wildcard_is_refused(lab: Lab) -> None:
    answer = lab.client().new_order("*.example.test")
    assert answer.refused("rejectedIdentifier", 400).json()["identifier"] == {"type": "dns", "value": "*.example.test"}


@clause("RFC 8555 7.1.4", "8555-7.1.4-dns-name")
def test_identifier_that_is_no_name_is_refused(lab: Lab) -> None:
    client = lab.client()
    for value in ("under_score.test", "bücher.test", "a..test", "-a.test", "a b.test", "127.0.0.1", "", f"{'a' * 64}.test"):
        client.new_order(value).refused("malformed", 400)


@clause("RFC 8555 7.1.6", "8555-7.1.6-ready-when-all-valid")
def test_order_is_ready_when_all_authorizations_are_valid(lab: Lab) -> None:
    client, name = lab.client(), lab.name()
    lab.issue(client, name)
    placed = client.new_order(name, "b.test").ok(201)
    assert [found["status"] for _, found in lab.authorizations(client, placed.json())] == ["valid", "pending"]
    assert placed.json()["status"] == "pending"
    lab.respond(client, placed.json())
    client.poll(placed.location, until=lambda order: order["status"] == "ready")


@clause("RFC 8555 7.1.6", "8555-7.1.6-invalid-with-one")
def test_order_is_invalid_when_one_authorization_is(lab: Lab) -> None:
    client = lab.client()
    placed = client.new_order("a.test", "b.test").ok(201)
    [_, (url, found)] = lab.authorizations(client, placed.json())
    client.post(found["challenges"][0]["url"], {}).ok()  # nobody answers for it
    client.poll(url, until=lambda found: found["status"] == "invalid")
    order = client.post(placed.location).ok().json()
    assert order["status"] == "invalid"
    assert "b.test" in order["error"]["detail"]


@clause("RFC 8555 7.1.6", "8555-7.1.6-order-expires")
def test_order_that_has_expired_is_invalid(lab: Lab) -> None:
    client = lab.client()
    placed = client.new_order(lab.name()).ok(201)
    lab.clock.ahead = datetime.fromisoformat(placed.json()["expires"]) - datetime.now(UTC)
    assert client.post(placed.location).ok().json()["status"] == "invalid"


@clause("RFC 8555 7.1.6", "8555-7.1.6-challenge-once")
def test_challenge_is_responded_to_once(lab: Lab) -> None:
    client = lab.client()
    _, order = lab.ready(client)
    [(_, authorization)] = lab.authorizations(client, order)
    client.post(authorization["challenges"][0]["url"], {}).refused("malformed", 400)


@clause("RFC 8555 7.2", "8555-7.2-head-200")
def test_new_nonce_is_200_for_head_and_204_for_get(lab: Lab) -> None:
    client = lab.stranger()
    url = client.directory["newNonce"]
    assert (client.request("HEAD", url).status, client.request("GET", url).status) == (200, 204)
    assert client.request("GET", url).headers["Replay-Nonce"]


@clause("RFC 8555 7.2", "8555-7.2-no-store")
def test_new_nonce_is_not_cached(lab: Lab) -> None:
    client = lab.stranger()
    for method in ("HEAD", "GET"):
        assert client.request(method, client.directory["newNonce"]).headers["Cache-Control"] == "no-store"


@clause("RFC 8555 7.3", "8555-7.3-created")
def test_new_account_is_201_with_its_url(lab: Lab) -> None:
    client = lab.stranger()
    answer = client.register()
    assert answer.status == 201
    assert client.post(answer.location).ok().json() == answer.json()


@clause("RFC 8555 7.3", "8555-7.3-terms-agreed")
def test_account_without_agreement_is_refused(lab: Lab) -> None:
    client = lab.stranger()
    answer = client.register(termsOfServiceAgreed=False).refused("userActionRequired", 403)
    assert answer.json()["instance"] == client.directory["meta"]["termsOfService"]


@clause("RFC 8555 7.3", "8555-7.3-contact-scheme")
def test_contact_of_another_scheme_is_refused(lab: Lab) -> None:
    lab.stranger().register(contact=["tel:+49301234"]).refused("unsupportedContact", 400)


@clause("RFC 8555 7.3", "8555-7.3-contact-mailto")
def test_contact_with_more_than_an_address_is_refused(lab: Lab) -> None:
    for contact in ("mailto:a@b.test,c@d.test", "mailto:a@b.test?subject=x", "mailto:nobody"):
        lab.stranger().register(contact=[contact]).refused("invalidContact", 400)


@clause("RFC 8555 7.3", "8555-7.3-own-account")
def test_account_of_another_is_refused(lab: Lab) -> None:
    mine, other = lab.client(), lab.client()
    mine.post(other.account).refused("unauthorized", 403)
    mine.post(f"{other.account}/orders").refused("unauthorized", 403)


@clause("RFC 8555 7.3.1", "8555-7.3.1-account-found-by-key")
def test_known_key_finds_its_account(lab: Lab) -> None:
    client = lab.client()
    again = lab.stranger(client.key)
    answer = again.register(onlyReturnExisting=True)
    assert (answer.status, answer.location) == (200, client.account)


@clause("RFC 8555 7.3.1", "8555-7.3.1-only-return-existing")
def test_unknown_key_makes_no_account_when_asked_not_to(lab: Lab) -> None:
    client = lab.stranger()
    client.register(onlyReturnExisting=True).refused("accountDoesNotExist", 400)
    assert client.register().status == 201


@clause("RFC 8555 7.3.2", "8555-7.3.2-status-not-set")
def test_account_status_can_not_be_set_freely(lab: Lab) -> None:
    client = lab.client()
    client.post(client.account, {"status": "revoked"}).refused("malformed", 400)
    assert client.post(client.account).ok().json()["status"] == "valid"


@clause("RFC 8555 7.3.4", "8555-7.3.4-binding-required")
def test_account_without_binding_is_refused(lab: Lab) -> None:
    lab.start(eab=EAB)
    lab.stranger().register().refused("externalAccountRequired", 403)


@clause("RFC 8555 7.3.4", "8555-7.3.4-binding-url")
def test_binding_for_another_url_is_refused(lab: Lab) -> None:
    lab.start(eab=EAB)
    client = lab.stranger()
    client.register(externalAccountBinding=binding(client, url=client.directory["newOrder"])).refused("malformed", 400)


@clause("RFC 8555 7.3.4", "8555-7.3.4-binding-no-nonce")
def test_binding_with_a_nonce_is_refused(lab: Lab) -> None:
    lab.start(eab=EAB)
    client = lab.stranger()
    client.register(externalAccountBinding=binding(client, nonce=client.nonce())).refused("malformed", 400)


@clause("RFC 8555 7.3.4", "8555-7.3.4-binding-key")
def test_binding_of_another_key_is_refused(lab: Lab) -> None:
    lab.start(eab=EAB)
    client = lab.stranger()
    client.register(externalAccountBinding=binding(client, key=new_key())).refused("malformed", 400)


@clause("RFC 8555 7.3.4", "8555-7.3.4-binding-mac")
def test_binding_by_another_secret_is_refused(lab: Lab) -> None:
    lab.start(eab=EAB)
    client = lab.stranger()
    client.register(externalAccountBinding=binding(client, mac=bytes(32))).refused("unauthorized", 403)
    client.register(externalAccountBinding=binding(client, kid="kid-2")).refused("unauthorized", 403)
    answer = client.register(externalAccountBinding=binding(client)).ok(201)
    assert answer.json()["externalAccountBinding"] == binding(client)


@clause("RFC 8555 7.3.5", "8555-7.3.5-inner-key")
def test_key_change_without_the_new_key_is_refused(lab: Lab) -> None:
    client = lab.client()
    answer = key_change(client, new_key(), protected=lambda header: header.pop("jwk")).refused("malformed", 400)
    assert "inner JWS" in answer.json()["detail"]


@clause("RFC 8555 7.3.5", "8555-7.3.5-inner-url")
def test_key_change_with_two_urls_is_refused(lab: Lab) -> None:
    client = lab.client()
    key_change(client, new_key(), protected=lambda header: header.update(url=client.account)).refused("malformed", 400)


@clause("RFC 8555 7.3.5", "8555-7.3.5-no-inner-nonce")
def test_key_change_with_an_inner_nonce_is_refused(lab: Lab) -> None:
    client = lab.client()
    key_change(client, new_key(), protected=lambda header: header.update(nonce=client.nonce())).refused("malformed", 400)


@clause("RFC 8555 7.3.5", "8555-7.3.5-account")
def test_key_change_of_another_account_is_refused(lab: Lab) -> None:
    client, other = lab.client(), lab.client()
    key_change(client, new_key(), account=other.account).refused("malformed", 400)


@clause("RFC 8555 7.3.5", "8555-7.3.5-old-key")
def test_key_change_with_a_wrong_old_key_is_refused(lab: Lab) -> None:
    client = lab.client()
    key_change(client, new_key(), oldKey=jwk(new_key())).refused("malformed", 400)


@clause("RFC 8555 7.3.5", "8555-7.3.5-key-in-use")
def test_key_change_to_a_key_in_use_is_409_with_its_account(lab: Lab) -> None:
    client, other = lab.client(), lab.client()
    assert key_change(client, other.key).refused("malformed", 409).location == other.account


@clause("RFC 8555 7.3.5", "8555-7.3.5-key-replaced")
def test_new_key_signs_and_the_old_one_does_not(lab: Lab) -> None:
    client, fresh = lab.client(), new_key()
    assert key_change(client, fresh).ok().location == client.account
    client.post(client.account).refused("malformed", 400)
    client.post(client.account, key=fresh).ok()


@clause("RFC 8555 7.3.6", "8555-7.3.6-authorizations-too")
def test_deactivated_account_takes_its_pending_authorizations_along(lab: Lab) -> None:
    client = lab.client()
    client.new_order(lab.name()).ok(201)
    client.post(client.account, {"status": "deactivated"}).ok()
    # Its URL is of no use any more: the account can sign nothing.
    assert {entry.status for entry in lab.ca.state.authorizations.values()} == {"deactivated"}


@clause("RFC 8555 7.3.6", "8555-7.3.6-deactivated-account")
def test_deactivated_account_can_sign_nothing(lab: Lab) -> None:
    client = lab.client()
    assert client.post(client.account, {"status": "deactivated"}).ok().json()["status"] == "deactivated"
    client.post(client.account).refused("unauthorized", 401)
    client.new_order(lab.name()).refused("unauthorized", 401)


@clause("RFC 8555 7.3.6", "8555-7.3.6-deactivated-key")
def test_key_of_a_deactivated_account_gets_no_other(lab: Lab) -> None:
    client = lab.client()
    client.post(client.account, {"status": "deactivated"}).ok()
    lab.stranger(client.key).register().refused("unauthorized", 403)


@clause("RFC 8555 7.4", "8555-7.4-created")
def test_new_order_is_201_with_its_url(lab: Lab) -> None:
    client = lab.client()
    answer = client.new_order(lab.name())
    assert answer.status == 201
    assert client.post(answer.location).ok().json() == answer.json()


@clause("RFC 8555 7.4", "8555-7.4-dates-refused")
def test_dates_are_refused_by_a_ca_that_would_not_honour_them(lab: Lab) -> None:
    client = lab.client()
    for name in ("notBefore", "notAfter"):
        client.new_order(lab.name(), **{name: "2030-01-01T00:00:00Z"}).refused("malformed", 400)


@clause("RFC 8555 7.4", "8555-7.4-identifier-type")
def test_identifier_of_an_unknown_type_is_refused(lab: Lab) -> None:
    client = lab.client()
    request = {"identifiers": [{"type": "email", "value": "a@b.test"}]}
    client.post(client.directory["newOrder"], request).refused("unsupportedIdentifier", 400)


@clause("RFC 8555 7.4", "8555-7.4-own-order")
def test_order_of_another_is_refused(lab: Lab) -> None:
    client, other = lab.client(), lab.client()
    order = client.new_order(lab.name()).ok(201)
    other.post(order.location).refused("unauthorized", 403)
    other.post(order.json()["finalize"], {"csr": der(csr(new_key(), ["a.test"]))}).refused("unauthorized", 403)


@clause("RFC 8555 7.4", "8555-7.4-order-ready")
def test_order_that_is_not_ready_can_not_be_finalized(lab: Lab) -> None:
    client, name = lab.client(), lab.name()
    order = client.new_order(name).ok(201).json()
    lab.finalize(client, order).refused("orderNotReady", 403)


@clause("RFC 8555 7.4", "8555-7.4-csr-signature")
def test_csr_with_a_broken_signature_is_refused(lab: Lab) -> None:
    client = lab.client()
    _, order = lab.ready(client)
    good = csr(new_key(), [order["identifiers"][0]["value"]]).public_bytes(serialization.Encoding.DER)
    # The end of a CSR is its signature; the last byte of an ECDSA one is part of a number.
    client.post(order["finalize"], {"csr": b64(good[:-1] + bytes([good[-1] ^ 1]))}).refused("badCSR", 400)


@clause("RFC 8555 7.4", "8555-7.4-csr-names")
def test_csr_for_other_names_is_refused(lab: Lab) -> None:
    client = lab.client()
    _, order = lab.ready(client, "one.test", "two.test")
    for names in (["one.test"], ["one.test", "two.test", "three.test"], []):
        client.post(order["finalize"], {"csr": der(csr(new_key(), names))}).refused("badCSR", 400)
    both = csr(new_key(), ["one.test", "two.test"], common_name="three.test")
    client.post(order["finalize"], {"csr": der(both)}).refused("badCSR", 400)


@clause("RFC 8555 7.4", "8555-7.4-csr-key-strength")
def test_csr_with_a_weak_key_is_refused(lab: Lab) -> None:
    client = lab.client()
    weak: list[Key] = [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP521R1())]
    for key in weak:
        _, order = lab.ready(client)
        lab.finalize(client, order, key).refused("badCSR", 400)


@clause("RFC 8555 7.4.2", "8555-7.4.2-content-type")
def test_certificate_is_a_pem_chain(lab: Lab) -> None:
    assert lab.issue(lab.client()).answer.headers["Content-Type"] == "application/pem-certificate-chain"


@clause("RFC 8555 7.4.2", "8555-7.4.2-leaf-first")
def test_chain_begins_with_the_certificate(lab: Lab) -> None:
    lab.start(chain_length=2)
    issued = lab.issue(lab.client())
    assert len(issued.chain) == 3
    assert issued.leaf.public_key() == issued.key.public_key()
    for below, above in pairwise(issued.chain):
        below.verify_directly_issued_by(above)


@clause("RFC 8555 7.4.2", "8555-7.4.2-alternates")
def test_chain_links_to_the_others(lab: Lab) -> None:
    lab.start(alternates=2)
    client = lab.client()
    issued = lab.issue(client)
    others = [client.post(url).ok() for url in issued.answer.links("alternate")]
    assert len({issued.answer.body, *(answer.body for answer in others)}) == 3


@clause("RFC 8555 7.4.2", "8555-7.4.2-own-certificate")
def test_certificate_of_another_is_not_given_out(lab: Lab) -> None:
    issued = lab.issue(lab.client())
    lab.client().post(issued.url).refused("unauthorized", 403)


@clause("RFC 8555 7.5", "8555-7.5-own-authorization")
def test_authorization_of_another_is_refused(lab: Lab) -> None:
    client, other = lab.client(), lab.client()
    order = client.new_order(lab.name()).ok(201).json()
    [(url, authorization)] = lab.authorizations(client, order)
    other.post(url).refused("unauthorized", 403)
    other.post(authorization["challenges"][0]["url"], {}).refused("unauthorized", 403)


@clause("RFC 8555 7.5.1", "8555-7.5.1-link-up")
def test_challenge_links_to_its_authorization(lab: Lab) -> None:
    client = lab.client()
    [(url, authorization)] = lab.authorizations(client, client.new_order(lab.name()).ok(201).json())
    assert client.post(authorization["challenges"][0]["url"]).ok().links("up") == [url]


@clause("RFC 8555 7.5.2", "8555-7.5.2-only-deactivated")
def test_authorization_can_only_be_deactivated(lab: Lab) -> None:
    client = lab.client()
    placed = client.new_order(lab.name()).ok(201)
    [url] = placed.json()["authorizations"]
    client.post(url, {"status": "valid"}).refused("malformed", 400)
    assert client.post(url, {"status": "deactivated"}).ok().json()["status"] == "deactivated"
    assert client.post(placed.location).ok().json()["status"] == "invalid"


@clause("RFC 8555 7.6", "8555-7.6-revoked-by-who-may")
def test_stranger_can_not_revoke(lab: Lab) -> None:
    issued, other = lab.issue(lab.client()), lab.client()
    request = {"certificate": der(issued.leaf)}
    other.post(other.directory["revokeCert"], request).refused("unauthorized", 403)
    other.post(other.directory["revokeCert"], request, key=new_key(), by_key=True).refused("unauthorized", 403)
    other.post(other.directory["revokeCert"], request, key=issued.key, by_key=True).ok()


@clause("RFC 8555 7.6", "8555-7.6-reason")
def test_reason_of_a_ca_is_refused(lab: Lab) -> None:
    client = lab.client()
    issued = lab.issue(client)
    for reason in (2, 6, 7, 10, -1, "1", True):
        request = {"certificate": der(issued.leaf), "reason": reason}
        client.post(client.directory["revokeCert"], request).refused("badRevocationReason", 400)


@clause("RFC 8555 7.6", "8555-7.6-already-revoked")
def test_certificate_is_revoked_once(lab: Lab) -> None:
    client = lab.client()
    request = {"certificate": der(lab.issue(client).leaf), "reason": 4}
    client.post(client.directory["revokeCert"], request).ok()
    client.post(client.directory["revokeCert"], request).refused("alreadyRevoked", 400)


@clause("RFC 8555 8.3", "8555-8.3-token")
def test_token_has_128_bits(lab: Lab) -> None:
    client = lab.client()
    order = client.new_order("a.test", "b.test").ok(201).json()
    tokens = [found["challenges"][0]["token"] for _, found in lab.authorizations(client, order)]
    assert len(set(tokens)) == 2
    assert all(len(unb64(token)) >= 16 for token in tokens)


@clause("RFC 8555 8.3", "8555-8.3-redirects")
def test_redirect_of_a_token_is_followed(lab: Lab) -> None:
    def redirecting(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("302 Found", [("Location", f"http://www.site.test{environ['PATH_INFO']}")])
        return [b""]

    lab.start(resolve={"www.site.test": lab.site, "*": redirecting})
    assert validated(lab)["status"] == "valid"


@clause("RFC 8555 8.3", "8555-8.3-white-space")
def test_white_space_after_the_key_authorization_is_ignored(lab: Lab) -> None:
    client = lab.client()
    order = client.new_order(lab.name()).ok(201).json()
    [(url, authorization)] = lab.authorizations(client, order)
    challenge = authorization["challenges"][0]
    lab.site.tokens[challenge["token"]] = client.key_authorization(challenge["token"]).encode() + b" \r\n"
    client.post(challenge["url"], {}).ok()
    assert client.poll(url, until=lambda found: found["status"] != "pending")["status"] == "valid"


@clause("RFC 8555 8.3", "8555-8.3-status-200")
def test_right_answer_with_another_status_is_invalid(lab: Lab) -> None:
    lab.site.status = "203 Non-Authoritative Information"
    assert validated(lab)["status"] == "invalid"


@clause("RFC 8555 8.3", "8555-8.3-key-authorization")
def test_wrong_key_authorization_is_invalid(lab: Lab) -> None:
    client = lab.client()
    order = client.new_order(lab.name()).ok(201).json()
    [(url, authorization)] = lab.authorizations(client, order)
    challenge = authorization["challenges"][0]
    lab.site.tokens[challenge["token"]] = challenge["token"].encode() + b".of-another-account"
    client.post(challenge["url"], {}).ok()
    found = client.poll(url, until=lambda found: found["status"] != "pending")
    assert found["status"] == "invalid"
    assert found["challenges"][0]["error"]["type"].endswith(":unauthorized")


@clause("RFC 8555 11.1", "8555-11.1-csr-not-the-account-key")
def test_account_key_gets_no_certificate(lab: Lab) -> None:
    client = lab.client()
    _, order = lab.ready(client)
    lab.finalize(client, order, client.key).refused("badCSR", 400)


@clause("RFC 8738 3", "8738-3-canonical-address")
def test_address_in_a_long_form_is_refused(lab: Lab) -> None:
    client = lab.client()
    for value in ("2001:0db8::1", "::ffff:192.0.2.1"):
        request = {"identifiers": [{"type": "ip", "value": value}]}
        client.post(client.directory["newOrder"], request).refused("malformed", 400)
    for value in ("192.0.2.1", "2001:db8::1"):
        client.post(client.directory["newOrder"], {"identifiers": [{"type": "ip", "value": value}]}).ok(201)


@clause("RFC 9773 4.1", "9773-4.1-id")
def test_id_that_is_malformed_is_told_from_one_that_is_unknown(lab: Lab) -> None:
    client = lab.stranger()
    url = client.directory["renewalInfo"]
    # One part, three parts, padding, a serial that is not in its shortest form, one that is negative.
    for path in ("AAAA", "AAAA.AQ.AQ", "AAAA.AQ=", "AAAA.AAE", "AAAA.gA"):
        client.request("GET", f"{url}/{path}").refused("malformed", 400)
    client.request("GET", f"{url}/AAAA.AQ").refused("malformed", 404)


@clause("RFC 9773 4.2", "9773-4.2-window")
def test_window_is_within_the_life_of_the_certificate(lab: Lab) -> None:
    client = lab.client()
    leaf = lab.issue(client).leaf
    window = renewal_info(client, leaf).json()["suggestedWindow"]
    start, end = (datetime.fromisoformat(window[edge]) for edge in ("start", "end"))
    assert leaf.not_valid_before_utc < start < end < leaf.not_valid_after_utc


@clause("RFC 9773 4.2", "9773-4.2-revoked-is-past")
def test_window_of_a_revoked_certificate_is_past(lab: Lab) -> None:
    client = lab.client()
    issued = lab.issue(client)
    client.post(client.directory["revokeCert"], {"certificate": der(issued.leaf)}).ok()
    window = renewal_info(client, issued.leaf).json()["suggestedWindow"]
    start, end = (datetime.fromisoformat(window[edge]) for edge in ("start", "end"))
    assert start < end < lab.clock()


@clause("RFC 9773 4.3", "9773-4.3-retry-after")
def test_renewal_info_says_when_to_ask_again(lab: Lab) -> None:
    lab.start(renewal_retry_after=777)
    client = lab.client()
    assert renewal_info(client, lab.issue(client).leaf).headers["Retry-After"] == "777"


@clause("RFC 9773 5", "9773-5-replaces-known-certificate")
def test_replacing_an_unknown_certificate_is_refused(lab: Lab) -> None:
    client = lab.client()
    client.new_order(lab.name(), replaces=f"{b64(bytes(20))}.{b64(b'12345')}").refused("malformed", 404)


@clause("RFC 9773 5", "9773-5-replaces-own-certificate")
def test_replacing_the_certificate_of_another_is_refused(lab: Lab) -> None:
    name = lab.name()
    issued = lab.issue(lab.client(), name)
    lab.client().new_order(name, replaces=certificate_id(issued.leaf)).refused("unauthorized", 403)


@clause("RFC 9773 5", "9773-5-replaces-shares-a-name")
def test_replacing_a_certificate_for_other_names_is_refused(lab: Lab) -> None:
    client = lab.client()
    issued = lab.issue(client)
    client.new_order(lab.name(), replaces=certificate_id(issued.leaf)).refused("malformed", 400)


@clause("RFC 9773 5", "9773-5-replaces-shown")
def test_order_shows_what_it_replaces(lab: Lab) -> None:
    client, name = lab.client(), lab.name()
    replaces = certificate_id(lab.issue(client, name).leaf)
    placed = client.new_order(name, replaces=replaces).ok(201)
    assert placed.json().get("replaces") == client.post(placed.location).json().get("replaces") == replaces


@clause("RFC 9773 7.4", "9773-7.4-already-replaced")
def test_second_replacement_is_409(lab: Lab) -> None:
    client, name = lab.client(), lab.name()
    replaces = certificate_id(lab.issue(client, name).leaf)
    client.new_order(name, replaces=replaces).ok(201)
    client.new_order(name, replaces=replaces).refused("alreadyReplaced", 409)


@clause("draft-ietf-acme-profiles 3", "profiles-3-listed")
def test_directory_lists_the_profiles(lab: Lab) -> None:
    lab.start(profiles={"one": timedelta(days=1), "two": timedelta(days=2)})
    assert list(lab.stranger().directory["meta"].get("profiles", {})) == ["one", "two"]


@clause("draft-ietf-acme-profiles 3", "profiles-3-shown")
def test_order_shows_its_profile(lab: Lab) -> None:
    client = lab.client()
    assert client.new_order(lab.name(), profile="shortlived").ok(201).json().get("profile") == "shortlived"


@clause("draft-ietf-acme-profiles 3", "profiles-3-known-profile")
def test_unknown_profile_is_refused(lab: Lab) -> None:
    client = lab.client()
    client.new_order(lab.name(), profile="no-such").refused("invalidProfile", 400)
    client.new_order(lab.name(), profile="shortlived").ok(201)


def sign_p256_by_sha384(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA384())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def binding(
    client: Client, *, kid: str = "kid-1", mac: bytes = MAC, key: Key | None = None, url: str = "", **header: str
) -> dict[str, Any]:
    """An external account binding (RFC 8555 section 7.3.4)."""
    protected = {"alg": "HS256", "kid": kid, "url": url or client.directory["newAccount"], **header}
    return mac_jws(mac, protected, json.dumps(jwk(key or client.key)).encode())


def validated(lab: Lab) -> dict[str, Any]:
    """The authorization of a new name once the CA has looked."""
    client = lab.client()
    order = client.new_order(lab.name()).ok(201).json()
    lab.respond(client, order)
    return client.poll(order["authorizations"][0], until=lambda found: found["status"] != "pending")


TESTS = {
    mark.args[1]: function
    for _, function in inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    for mark in getattr(function, "pytestmark", [])
    if mark.name == "clause"
}


@pytest.mark.parametrize("name", CLAUSES)
def test_clause_that_is_broken_fails_its_test(name: str, ca_state: Path) -> None:
    function = TESTS[name]
    [mark] = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "clause"]
    assert mark.args[0] == CLAUSES[name].place
    with Lab(ca_state, broken=[name]) as broken, pytest.raises(AssertionError):
        function(broken)


def test_every_test_of_a_clause_is_of_one_that_there_is() -> None:
    assert set(TESTS) == set(CLAUSES)


def test_clause_that_does_not_exist_can_not_be_broken() -> None:
    with pytest.raises(ConfigurationError, match="there is no clause") as caught:
        LocalCA(broken={"8555-6.5-nonce-used"})
    assert caught.value.hint == "did you mean 8555-6.5-nonce-used-once?"
