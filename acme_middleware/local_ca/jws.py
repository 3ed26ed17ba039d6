"""JSON Web Signatures as ACME uses them (RFC 7515, RFC 8555 section 6.2): flattened, with one protected header."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from josepy import errors, jwa
from josepy.jwk import JWK, JWKEC, JWKRSA

from acme_middleware.local_ca import base64url
from acme_middleware.local_ca.clauses import Rules
from acme_middleware.local_ca.problems import Refused

ALGORITHMS: Mapping[str, jwa.JWASignature] = {
    "RS256": jwa.RS256,
    "RS384": jwa.RS384,
    "RS512": jwa.RS512,
    "ES256": jwa.ES256,
    "ES384": jwa.ES384,
    "ES512": jwa.ES512,
}
EC_BITS = {"ES256": 256, "ES384": 384, "ES512": 521}
RSA_BITS = range(2048, 8193)


@dataclass(frozen=True, slots=True)
class Jws:
    """A signed object whose signature was not looked at yet; ``signed`` is the text that it is over."""

    protected: Mapping[str, Any]
    payload: bytes
    signature: bytes
    signed: bytes

    def verify(self, key: JWK, rules: Rules) -> None:
        """
        Hold the signature against a public key.

        Raises:
            Refused: another algorithm than the key's, or it is not by that key.
        """
        name = self.protected["alg"]
        rules.demand(
            "8555-6.2-algorithm-of-the-key",
            _fits(name, key),
            Refused("badPublicKey", f"the algorithm {name} is not for this kind of key"),
        )
        try:
            good = ALGORITHMS[name].verify(key.key, self.signed, self.signature)
        except (ValueError, TypeError, AttributeError):
            good = False
        rules.demand("8555-6.2-signature", good, Refused("malformed", "the signature of the JWS is not by its key"))

    def verify_mac(self, mac_key: bytes) -> bool:
        """Whether this is a MAC by HS256 under a secret (RFC 8555 section 7.3.4)."""
        expected = hmac.digest(mac_key, self.signed, hashlib.sha256)
        return self.protected.get("alg") == "HS256" and hmac.compare_digest(expected, self.signature)


def parse(data: bytes | Mapping[str, Any], rules: Rules) -> Jws:
    """
    Read the flattened JSON serialization.

    Raises:
        Refused: it is anything else.
    """
    document = load_object(data, "the body is no JSON object") if isinstance(data, bytes) else data
    rules.demand(
        "8555-6.2-one-signature",
        "signatures" not in document,
        Refused("malformed", "the JWS has `signatures`: only one is allowed, in the flattened serialization"),
    )
    rules.demand(
        "8555-6.2-no-unprotected-header",
        "header" not in document,
        Refused("malformed", "the JWS has an unprotected header"),
    )
    try:
        payload, signature = base64url.decode(document.get("payload")), base64url.decode(document.get("signature"))
        protected = load_object(base64url.decode(document.get("protected")), "the protected header is no JSON object")
    except ValueError:
        if rules.kept("8555-6.1-base64url"):
            raise Refused("malformed", "the JWS lacks payload, protected or signature in base64url without padding") from None
        payload, signature = (base64url.decode_leniently(document.get(part)) for part in ("payload", "signature"))
        protected = load_object(base64url.decode_leniently(document.get("protected")), "the protected header is no JSON object")
    return Jws(protected, payload, signature, f"{document['protected']}.{document['payload']}".encode())


def load_object(data: bytes, otherwise: str) -> dict[str, Any]:
    """
    Read a JSON object.

    Raises:
        Refused: it is something else; ``otherwise`` is the detail.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused("malformed", otherwise)
    return value


def demand_algorithm(protected: Mapping[str, Any], rules: Rules) -> None:
    """
    Let only signatures through that this CA knows (section 6.2): no MAC, and not "none".

    Raises:
        Refused: of the type badSignatureAlgorithm, with the list of those it takes.
    """
    name = protected.get("alg")
    known = isinstance(name, str) and name in ALGORITHMS
    members = {"algorithms": list(ALGORITHMS)} if rules.kept("8555-6.2-algorithms-listed") else {}
    if not known:
        raise Refused("badSignatureAlgorithm", f"the algorithm {name!r} is not one that this CA takes", members=members)


def load_key(jwk: object, rules: Rules) -> JWK:
    """
    Read a public key (RFC 7517).

    Raises:
        Refused: of the type badPublicKey: unreadable, too weak, or not public.
    """
    try:
        key = JWK.from_json(jwk) if isinstance(jwk, dict) and "d" not in jwk else None
    except (errors.Error, ValueError, TypeError, KeyError, AttributeError):
        key = None
    if not isinstance(key, JWKRSA | JWKEC):
        raise Refused("badPublicKey", "the JWK is no public key that this CA can read: RSA, or EC on P-256, P-384 or P-521")
    rules.demand(
        "8555-6.2-key-strength",
        isinstance(key, JWKEC) or (key.key.key_size in RSA_BITS and key.key.public_numbers().e >= 65537),
        Refused("badPublicKey", f"an RSA key of {key.key.key_size} bits: it takes 2048 to 8192, with an exponent from 65537"),
    )
    return key


def thumbprint(key: JWK) -> str:
    """The thumbprint of a key (RFC 7638, RFC 8555 section 8.1)."""
    return base64url.encode(key.thumbprint())


def _fits(name: str, key: JWK) -> bool:
    if isinstance(key, JWKEC):
        return bool(EC_BITS.get(name) == key.key.key_size)
    return name.startswith("RS")
