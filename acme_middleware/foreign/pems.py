"""Keys and certificates as other clients write them, made into our form, and held against each other."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from acme_middleware.foreign.tree import Damaged

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# OpenSSL writes the curve before an EC key, in a block of its own.
KEY_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.{1,100000}?-----END \1-----", re.DOTALL)
LONGEST_CHAIN = 20
SHORTEST_KEY = 1024
LONGEST_KEY = 16_384
CURVES: Mapping[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}


class Pair(NamedTuple):
    """A certificate and the key that belongs to it, as a :class:`~acme_middleware.foreign.found.Lineage` has them."""

    names: tuple[str, ...]
    key_pem: str
    key_type: str
    cert_pem: str
    chain_pem: str
    not_before: datetime
    not_after: datetime


def key(pem: bytes, what: str) -> PrivateKey:
    """Read a private key, EC or RSA. Raises Damaged; it never shows the key."""
    block = KEY_BLOCK.search(pem)
    try:
        found = load_pem_private_key(block.group(0), None) if block else None
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        found = None
    if not isinstance(found, PrivateKey):
        raise Damaged(f"{what} is no EC or RSA key without a password")
    return found


def jwk(document: Mapping[str, Any], what: str) -> PrivateKey:
    """Read a private key from a JSON Web Key (RFC 7518 section 6). Raises Damaged."""
    try:
        if document.get("kty") == "EC":
            numbers = ec.EllipticCurvePublicNumbers(_int(document["x"]), _int(document["y"]), CURVES[document["crv"]]())
            return ec.EllipticCurvePrivateNumbers(_int(document["d"]), numbers).private_key()
        n, e, d = (_int(document[name]) for name in ("n", "e", "d"))
        # Numbers that are no key's would keep older libraries busy for ever, looking for its prime factors.
        if not (SHORTEST_KEY <= n.bit_length() <= LONGEST_KEY and 2 < e < n and 2 < d < n and pow(pow(2, e, n), d, n) == 2):
            raise ValueError
        # All the rest follows from the prime factors.
        p, q = (_int(document[name]) for name in ("p", "q")) if "p" in document else rsa.rsa_recover_prime_factors(n, e, d)
        return rsa.RSAPrivateNumbers(
            p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), rsa.RSAPublicNumbers(e, n)
        ).private_key()
    except (ValueError, TypeError, KeyError, ZeroDivisionError, AttributeError, UnsupportedAlgorithm):
        raise Damaged(f"{what} is no private key as a JSON Web Key") from None


def to_pem(found: PrivateKey) -> str:
    """A key in PEM (PKCS#8)."""
    return found.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def pair(key_pem: bytes, *certificates: bytes) -> Pair:
    """
    Hold a certificate, its chain and its key against each other.

    Args:
        certificates: PEM files: the certificate first, then its chain; what stands in several counts once.

    Raises:
        Damaged: something cannot be read, the key is another's, or the chain has a gap.
    """
    own = key(key_pem, "its key")
    try:
        loaded = [entry for pem in certificates if pem.strip() for entry in x509.load_pem_x509_certificates(pem)]
        leaf, *chain = dict.fromkeys(loaded[:LONGEST_CHAIN])
        matches = leaf.public_key() == own.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise Damaged("its certificate or its chain cannot be read") from None
    if not matches:
        raise Damaged("its key is not the key of its certificate")
    for below, above in pairwise([leaf, *chain]):
        try:
            below.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            raise Damaged("its chain is broken: a certificate in it was not issued by the next one") from None
    names = _names(leaf)
    if not names:
        raise Damaged("its certificate is for no name")
    return Pair(
        names,
        to_pem(own),
        _key_type(own),
        _pem(leaf),
        "".join(map(_pem, chain)),
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
    )


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return (*(name.lower() for name in found.get_values_for_type(x509.DNSName)), *addresses)


def _key_type(found: PrivateKey) -> str:
    if isinstance(found, rsa.RSAPrivateKey):
        return f"rsa{found.key_size}" if found.key_size in (2048, 3072, 4096) else ""
    return {"secp256r1": "ec256", "secp384r1": "ec384"}.get(found.curve.name, "")


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _int(value: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)), "big")
