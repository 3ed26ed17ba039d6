"""Certificates: the request for one, what one says, and whether it is the one that was asked for."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from acme_middleware import clock
from acme_middleware.errors import CertificateRejected
from acme_middleware.issuance.keys import PrivateKey
from acme_middleware.protocol.identifier import Identifier

UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What reading a certificate raises that is none, or not like any that we know; not all of it when it is loaded."""


class Facts(NamedTuple):
    """
    What a certificate says.

    Attributes:
        names: Its subject alternative names; the common name is not looked at, and many certificates have none.
        serial: In lower-case hexadecimal.
        fingerprint: SHA-256 of the DER, in lower-case hexadecimal.
    """

    names: tuple[str, ...]
    serial: str
    fingerprint: str
    not_before: datetime
    not_after: datetime


def facts(certificate: x509.Certificate) -> Facts:
    """Read the facts of a certificate."""
    return Facts(
        names=tuple(entry.value for entry in _identifiers(certificate)),
        serial=f"{certificate.serial_number:x}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def request(key: PrivateKey, wanted: Sequence[Identifier]) -> bytes:
    """
    A certificate signing request in DER (RFC 8555 section 7.4): the names as subject alternative names, an empty subject.

    A common name would be limited to 64 characters, and the newer profiles drop it.
    """
    names: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address(entry.value)) if entry.type == "ip" else x509.DNSName(entry.value)
        for entry in wanted
    ]
    builder = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def accept(pem: bytes, wanted: Sequence[Identifier], key: PrivateKey) -> list[x509.Certificate]:
    """
    Read a chain from the CA and hold it against the request.

    Returns:
        The chain, the certificate itself first.

    Raises:
        CertificateRejected: it cannot be read, it is not for this key or not for exactly these names, it has expired already,
            or a certificate of the chain was not issued by the next one.
    """
    try:
        chain = x509.load_pem_x509_certificates(pem)
        leaf = chain[0]
        public, got = _public(leaf.public_key()), set(_identifiers(leaf))
    except UNREADABLE as error:
        raise _rejected("what the CA sent as the certificate cannot be read") from error
    if public != _public(key.public_key()):
        raise _rejected("the CA's certificate is for another key")
    if got != set(wanted):
        shown = ", ".join(sorted(entry.value for entry in got)) or "none"
        raise _rejected(f"the CA's certificate is for other names than the request: {shown}")
    if leaf.not_valid_after_utc <= clock.now():
        raise _rejected(f"the CA's certificate has expired already, on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if len(chain) < 2:
        raise _rejected("the CA sent the certificate without the chain that browsers need")
    for below, above in pairwise(chain):
        try:
            below.verify_directly_issued_by(above)
        except (*UNREADABLE, TypeError, InvalidSignature):
            raise _rejected("the CA's chain is broken: a certificate in it was not issued by the next one") from None
    return chain


def choose(chains: Sequence[bytes], preferred: str | None) -> tuple[bytes, bool]:
    """
    The chain whose topmost certificate was issued by ``preferred``, a common name, else the first. A number is that of a chain:
    0 is the CA's default one, 1 the first of the others. An empty one is not there.

    Returns:
        The chain in PEM, and whether it is the one that was preferred (True too where nothing was).
    """
    if preferred and preferred.isdecimal():
        number = int(preferred)
        return (chains[number], True) if number < len(chains) and chains[number] else (chains[0], number == 0)
    for pem in chains if preferred else ():
        try:
            issuer = x509.load_pem_x509_certificates(pem)[-1].issuer
        except UNREADABLE:
            continue  # if it is the default chain, it is rejected when it is held against the request
        if preferred in [attribute.value for attribute in issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]:
            return pem, True
    return chains[0], not preferred


def to_pem(chain: Sequence[x509.Certificate]) -> bytes:
    """A chain in PEM, without anything that stood between the certificates."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)


def _identifiers(certificate: x509.Certificate) -> list[Identifier]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    found = [Identifier("dns", name.lower()) for name in names.get_values_for_type(x509.DNSName)]
    return found + [Identifier("ip", address.compressed) for address in names.get_values_for_type(x509.IPAddress)]


def _public(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]  # every kind of public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _rejected(reason: str) -> CertificateRejected:
    return CertificateRejected(reason, hint="it was not saved, and the certificate in use is untouched; tell the CA")
