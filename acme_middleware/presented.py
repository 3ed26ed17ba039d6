"""What is wrong with a certificate and its chain as a server presents them, decided from what it sent."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING

from acme_middleware import clock
from acme_middleware._text import printable

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["kind_of", "problem_of"]


def problem_of(chain: Sequence[bytes], name: str, presented: str, expected: str, *, chained: bool = True) -> str:
    """
    What is wrong with what a server sent to a client that asked for ``name``; "" if nothing is.

    Args:
        chain: All that it sent, in DER, the certificate first.
        presented: The fingerprint of that certificate.
        expected: The fingerprint of the one that it should have sent.
        chained: Whether there is a chain that it should have sent with it: none where the CA issues from its root.
    """
    from cryptography import x509  # whoever imports this may never come to look at a certificate
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        leaf, names = certificates[0], _names(certificates[0])
        until = leaf.not_valid_after_utc
        about = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" or "no name"
        if not _is_for(name, names):
            return f"another certificate is served, for {printable(about, 200)}: none for this name"
        if presented != expected:
            validity = "expired at" if until <= clock.now() else "is valid until"
            return f"another certificate is served, serial {leaf.serial_number:x}, which {validity} {until:%Y-%m-%d %H:%M} UTC"
        if until <= clock.now():
            return f"the certificate is served, and expired at {until:%Y-%m-%d %H:%M} UTC"
        return _problem_of_chain(leaf, certificates[1:], chained=chained)
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        return f"a certificate is served that cannot be read: {printable(error, 200)}"


def kind_of(certificate: bytes) -> str:
    """The kind of the key in a certificate (in DER), as TLS 1.2 asks for it: "RSA" or "ECDSA"; "" if it is none of them."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return ""
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA"
    return "ECDSA" if isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) else ""


def _problem_of_chain(leaf: x509.Certificate, others: Sequence[x509.Certificate], *, chained: bool) -> str:
    """Clients take the chain in any order (RFC 8446 section 4.4.2), but none of them searches for what was not sent."""
    if leaf.issuer == leaf.subject or not (others or chained):
        return ""  # self-signed, or signed by a root, which clients have: there is nothing to send besides
    above = [one for one in others if _has_issued(one, leaf)]
    if not others:
        return "the certificate is served without its chain: the server needs fullchain.pem, not cert.pem"
    if not above:
        return "the certificate is served with a chain that is not its own: none of it has issued the certificate"
    if all(one.not_valid_after_utc <= clock.now() for one in above):
        return f"the certificate is served with a chain that expired at {above[0].not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def _has_issued(above: x509.Certificate, below: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _names(certificate: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    hosts = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    return [*hosts, *(address.compressed for address in names.get_values_for_type(x509.IPAddress))]


def _is_for(name: str, names: Sequence[str]) -> bool:
    """RFC 6125 section 6.4.3: a wildcard stands for one whole label, the leftmost; and for no part of an address."""
    try:
        return ipaddress.ip_address(name).compressed in names
    except ValueError:
        return name.lower() in names or "*." + name.lower().partition(".")[2] in names
