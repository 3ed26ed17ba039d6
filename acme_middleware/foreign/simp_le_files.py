"""
The files of simp_le, each of which is called after what it holds: read into our form, and written from it.

A file that its ``-f`` does not name is neither read nor written.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from acme_middleware.foreign import pems
from acme_middleware.foreign.pems import PrivateKey
from acme_middleware.foreign.tree import Damaged, Tree

KEY, CERT, CHAIN, ACCOUNT_KEY, ACCOUNT = "key", "certificate", "chain", "account key", "account"

HOLDS: Mapping[str, frozenset[str]] = {
    "account_key.json": frozenset({ACCOUNT_KEY}),
    "account_reg.json": frozenset({ACCOUNT}),
    "key.pem": frozenset({KEY}),
    "key.der": frozenset({KEY}),
    "cert.pem": frozenset({CERT}),
    "cert.der": frozenset({CERT}),
    "chain.pem": frozenset({CHAIN}),
    "fullchain.pem": frozenset({CERT, CHAIN}),
    "full.pem": frozenset({KEY, CERT, CHAIN}),
}
"""What each file holds."""

PRIVATE = frozenset(name for name, parts in HOLDS.items() if parts & {KEY, ACCOUNT_KEY})
NEEDED = (KEY, CERT, CHAIN)
"""What a certificate is of no use without."""


@dataclass(frozen=True, slots=True)
class Held:
    """
    What a folder has; "" for what it has not.

    Attributes:
        account: What stands in account_reg.json.
        missing: The files that are not there.
    """

    key_pem: str = field(default="", repr=False)
    cert_pem: str = ""
    chain_pem: str = ""
    account_key_pem: str = field(default="", repr=False)
    account: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def account_url(self) -> str:
        """The account's URL, or ""."""
        url = self.account.get("uri")
        return url if isinstance(url, str) else ""


def uncovered(files: Sequence[str]) -> list[str]:
    """What of key, certificate and chain none of the files holds."""
    return [part for part in NEEDED if not any(part in HOLDS[name] for name in files)]


def load(folder: Path, files: Sequence[str]) -> Held:
    """
    Read the files that are there, and hold them against each other.

    Raises:
        NoTree: the folder cannot be read.
        Damaged: one of them cannot be read, or two of them contradict each other.
    """
    tree = Tree(folder)
    there = {name for name in files if tree.has(name)}
    found: dict[str, dict[str, str]] = {KEY: {}, CERT: {}, CHAIN: {}}
    for name in sorted(there - {"account_key.json", "account_reg.json"}):
        for part, text in _parts(name, tree.read(name)).items():
            found[part][name] = text
    for part, said in found.items():
        if len(set(said.values())) > 1:
            raise Damaged(f"{' and '.join(said)} have different {part}s")
    key, cert, chain = (next(iter(found[part].values()), "") for part in (KEY, CERT, CHAIN))
    if key and cert:
        pems.pair(key.encode(), cert.encode(), chain.encode())
    account_key = ""
    if "account_key.json" in there:
        account_key = pems.to_pem(pems.jwk(tree.json("account_key.json"), "account_key.json"))
    account = tree.json("account_reg.json") if "account_reg.json" in there else {}
    return Held(key, cert, chain, account_key, account, tuple(name for name in files if name not in there))


def _parts(name: str, data: bytes) -> dict[str, str]:
    """What a file says of key, certificate and chain, in PEM."""
    parts: dict[str, str] = {}
    if KEY in HOLDS[name]:
        parts[KEY] = pems.to_pem(_der_key(data) if name == "key.der" else pems.key(data, name))
    if not HOLDS[name] & {CERT, CHAIN}:
        return parts
    try:
        if name == "cert.der":
            chain = [x509.load_der_x509_certificate(data)]
        else:
            chain = x509.load_pem_x509_certificates(data) if data.strip() else []
        texts = [certificate.public_bytes(Encoding.PEM).decode() for certificate in chain]
    except (ValueError, UnsupportedAlgorithm):
        raise Damaged(f"{name} is no certificate") from None
    if CERT in HOLDS[name]:
        if not texts:
            raise Damaged(f"{name} is empty")
        parts[CERT] = texts.pop(0)
    if CHAIN in HOLDS[name]:
        parts[CHAIN] = "".join(texts)
    return parts


def _der_key(data: bytes) -> PrivateKey:
    try:
        found = load_der_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, PrivateKey):
        raise Damaged("key.der is no EC or RSA key without a password")
    return found


def content(name: str, held: Held) -> bytes:
    """
    What is to stand in a file. The certificate comes before its chain, and in full.pem the key before both.

    Args:
        held: All of what the file holds.
    """
    if name == "account_key.json":
        return (json.dumps(to_jwk(held.account_key_pem)) + "\n").encode()
    if name == "account_reg.json":
        return (json.dumps(dict(held.account)) + "\n").encode()
    if name == "key.der":
        key = load_pem_private_key(held.key_pem.encode(), None)
        return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    if name == "cert.der":
        return x509.load_pem_x509_certificate(held.cert_pem.encode()).public_bytes(Encoding.DER)
    texts = {KEY: held.key_pem, CERT: held.cert_pem, CHAIN: held.chain_pem}
    return "".join(text for part, text in texts.items() if part in HOLDS[name]).encode()


def to_jwk(key_pem: str) -> dict[str, str]:
    """A private key as a JSON Web Key (RFC 7518 section 6)."""
    key = pems.key(key_pem.encode(), "the account's key")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        of_ec = key.private_numbers()
        length = (key.key_size + 7) // 8
        curve = next(name for name, curve in pems.CURVES.items() if isinstance(key.curve, curve))
        point = of_ec.public_numbers
        numbers = {"x": point.x, "y": point.y, "d": of_ec.private_value}
        return {"kty": "EC", "crv": curve} | {name: _base64url(number, length) for name, number in numbers.items()}
    of_rsa = key.private_numbers()
    public = of_rsa.public_numbers
    numbers = {"n": public.n, "e": public.e, "d": of_rsa.d, "p": of_rsa.p, "q": of_rsa.q}
    numbers |= {"dp": of_rsa.dmp1, "dq": of_rsa.dmq1, "qi": of_rsa.iqmp}
    return {"kty": "RSA"} | {name: _base64url(number, (number.bit_length() + 7) // 8) for name, number in numbers.items()}


def _base64url(number: int, length: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(length, "big")).rstrip(b"=").decode()
