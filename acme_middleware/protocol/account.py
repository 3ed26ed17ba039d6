"""Accounts at a CA (RFC 8555 section 7.3), with external account binding (section 7.3.4)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from acme import jws, messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy.b64 import b64encode
from josepy.jwk import JWK, JWKEC, JWKRSA

from acme_middleware._text import printable
from acme_middleware.errors import CARefused, ConfigurationError, TermsNotAgreed
from acme_middleware.protocol.directory import Directory
from acme_middleware.protocol.network import Network, algorithm
from acme_middleware.protocol.reply import Reply

BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    """What a CA gave its customer to bind ACME accounts to: a key id, and a MAC key in base64url, padded or not."""

    kid: str
    hmac_key: str = field(repr=False)


class Account(NamedTuple):
    """What a CA says of an account: "valid", "deactivated" or "revoked", and the URLs to reach its owner by."""

    url: str
    status: str
    contact: tuple[str, ...]


def new_key() -> bytes:
    """A fresh account key in PEM: P-256, which every CA takes. It is never the key of a certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def load_key(pem: bytes) -> JWK:
    """Read a key from PEM: EC, or RSA as other clients have them. Raises ValueError for another; it never shows the key."""
    key = serialization.load_pem_private_key(pem, None)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return JWKEC(key=key)
    if isinstance(key, rsa.RSAPrivateKey):
        return JWKRSA(key=key)
    raise ValueError("the key is neither EC nor RSA")


def register(
    network: Network,
    directory: Directory,
    key: JWK,
    *,
    email: str | None,
    agree_tos: bool,
    external: ExternalAccount | None,
) -> tuple[str, bool]:
    """
    Register the account of a key, or find the one that it has (RFC 8555 section 7.3.1).

    Returns:
        The account's URL, and whether it is new. The network signs as that account from now on.

    Raises:
        TermsNotAgreed: the CA has terms and ``agree_tos`` is false. Nothing was sent.
        ConfigurationError: the CA needs an external account binding and there is none, or it refused the one that was given.
        CARefused, CAUnreachable, UnexpectedAnswer: as :class:`Network`.
    """
    if directory.terms and not agree_tos:
        raise TermsNotAgreed(
            f"the CA's terms of service must be agreed to: {directory.terms}",
            hint="read them, then pass --agree-tos or set ACME_AGREE_TOS",
            url=directory.terms,
        )
    if directory.eab_required and external is None:
        raise ConfigurationError(
            "this CA registers accounts only with an external account binding",
            hint="set ACME_EAB_KID and ACME_EAB_HMAC_KEY to what the CA's account page shows",
            option="eab_kid",
        )
    request: dict[str, Any] = {"termsOfServiceAgreed": True} if directory.terms else {}
    if email:
        request["contact"] = [f"mailto:{email}"]
    if external is not None:
        request["externalAccountBinding"] = _bind(directory, key, external)
    network.sign_as(key, None)
    try:
        # The same key twice is the same account: registering can be repeated.
        reply = network.post(directory.new_account, request, idempotent=True)
    except CARefused as error:
        if external is not None and error.status < 500 and error.status != 429:
            raise ConfigurationError(
                f"the CA refused the external account binding of key id {external.kid}: {error.problem.detail}",
                hint="are ACME_EAB_KID and ACME_EAB_HMAC_KEY of the same pair, and unused? Some CAs take each only once.",
                option="eab_kid",
            ) from error
        raise
    url = reply.location
    network.sign_as(key, url)
    return url, reply.status == 201


def find_account(network: Network, directory: Directory, key: JWK) -> str:
    """
    The URL of the account that a key has, "" if it has none (RFC 8555 section 7.3.1). The network signs with that key then.

    Raises:
        CARefused, CAUnreachable, UnexpectedAnswer: as :class:`Network`.
    """
    network.sign_as(key, None)
    try:
        return network.post(directory.new_account, {"onlyReturnExisting": True}, idempotent=True).location
    except CARefused as error:
        if error.problem.type != "accountDoesNotExist":
            raise
        return ""


def fetch_account(network: Network) -> Account:
    """What the CA knows of the account that the network signs as (RFC 8555 section 7.1.2)."""
    return _account(network, network.post_as_get(network.account_url))


def update_account(network: Network, *, email: str | None, agree_tos: bool) -> Account:
    """
    Change the contact address (RFC 8555 section 7.3.2).

    Args:
        email: "" for no address any more, None to leave it as it is.
        agree_tos: Say that the terms are agreed to, for a CA that wants to hear it again.

    Returns:
        What the CA made of it: some keep no addresses.
    """
    request: dict[str, Any] = {"termsOfServiceAgreed": True} if agree_tos else {}
    if email is not None:
        request["contact"] = [f"mailto:{email}"] if email else []
    return _account(network, network.post(network.account_url, request, idempotent=True))


def change_key(network: Network, directory: Directory, new: JWK) -> None:
    """
    Change the account's key (RFC 8555 section 7.3.5). The network signs with the new one from then on.

    Raises:
        ConfigurationError: this CA changes no keys.
        CARefused, CAUnreachable, UnexpectedAnswer: as :class:`Network`. Of the last two nobody knows which key the account has
            now: :func:`find_account` tells.
    """
    if not directory.key_change:
        raise ConfigurationError("the CA's directory names no place to change an account's key at", option="ca")
    old, url = network.key, network.account_url
    if old is None:
        raise RuntimeError("the network signs for no account yet")
    payload = json.dumps({"account": url, "oldKey": old.public_key().to_json()}).encode()
    inner = jws.JWS.sign(payload, key=new, alg=algorithm(new), nonce=None, url=directory.key_change)
    # Not repeated: a second request is signed with a key that the first may have ended.
    network.post(directory.key_change, json.loads(inner.json_dumps()))
    network.sign_as(new, url)


def deactivate_account(network: Network) -> None:
    """End the account that the network signs as, for ever (RFC 8555 section 7.3.6)."""
    network.post(network.account_url, {"status": "deactivated"}, idempotent=True)


def thumbprint(key: JWK) -> str:
    """What the answers to challenges end in (RFC 8555 section 8.1)."""
    return b64encode(key.thumbprint()).decode()


def _account(network: Network, reply: Reply) -> Account:
    document = reply.json()
    contact = document.get("contact")
    return Account(
        url=network.account_url,
        status=printable(document.get("status") or "unknown"),
        contact=tuple(printable(entry) for entry in contact[:100]) if isinstance(contact, list) else (),
    )


def _bind(directory: Directory, key: JWK, external: ExternalAccount) -> dict[str, Any]:
    # Pasted keys come padded or not, and in either alphabet; the library wants base64url without padding.
    mac_key = external.hmac_key.strip().rstrip("=").replace("+", "-").replace("/", "_")
    # Its decoder drops characters that it does not know, and would sign with what is left.
    if not BASE64URL.fullmatch(mac_key) or len(mac_key) % 4 == 1:
        raise ConfigurationError(
            "ACME_EAB_HMAC_KEY is no base64url", hint="copy it again from the CA's page, whole", option="eab_hmac_key"
        )
    binding: dict[str, Any] = messages.ExternalAccountBinding.from_data(
        key.public_key(), external.kid, mac_key, messages.Directory({"newAccount": directory.new_account})
    )
    return binding
