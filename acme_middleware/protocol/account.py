"""Accounts at a CA (RFC 8555 section 7.3), with external account binding (section 7.3.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from acme import messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.jwk import JWK, JWKEC

from acme_middleware.errors import CARefused, ConfigurationError, TermsNotAgreed
from acme_middleware.protocol.directory import Directory
from acme_middleware.protocol.network import Network

BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class ExternalAccount:
    """What a CA gave its customer to bind ACME accounts to: a key id, and a MAC key in base64url, padded or not."""

    kid: str
    hmac_key: str = field(repr=False)


def new_key() -> bytes:
    """A fresh account key in PEM: P-256, which every CA takes. It is never the key of a certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def load_key(pem: bytes) -> JWK:
    """Read an account key from PEM."""
    return JWKEC(key=serialization.load_pem_private_key(pem, None))


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
