"""Certificate signing requests (RFC 8555 section 7.4): whether one is for the order, and its key fit for use."""

from __future__ import annotations

import ipaddress

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from acme_middleware.local_ca import base64url
from acme_middleware.local_ca.call import Desk
from acme_middleware.local_ca.model import Identifier, Order
from acme_middleware.local_ca.problems import Refused

CURVES = ("secp256r1", "secp384r1")
RSA_SIZES = (2048, 3072, 4096)


def read(given: object, order: Order, desk: Desk) -> x509.CertificateSigningRequest:
    """
    Read the request that an order is to be finalized with.

    Raises:
        Refused: of the type badCSR, with the reason.
    """
    try:
        csr = x509.load_der_x509_csr(base64url.decode(given))
        names, key = _identifiers(csr), csr.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.UnsupportedGeneralNameType):
        raise Refused("badCSR", "`csr` is no certificate signing request, in DER and base64url") from None
    try:
        signed = csr.is_signature_valid
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        signed = False
    desk.demand("8555-7.4-csr-signature", signed, Refused("badCSR", "the CSR is not signed by its own key"))
    shown = ", ".join(sorted(entry.value for entry in names)) or "none"
    desk.demand(
        "8555-7.4-csr-names",
        names == set(order.identifiers),
        Refused("badCSR", f"the names of the CSR are not those of the order: {shown}"),
    )
    strong = (isinstance(key, rsa.RSAPublicKey) and key.key_size in RSA_SIZES) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVES
    )
    desk.demand(
        "8555-7.4-csr-key-strength",
        strong,
        Refused("badCSR", "the key of the CSR is none of RSA with 2048, 3072 or 4096 bits, P-256 and P-384"),
    )
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    desk.demand(
        "8555-11.1-csr-not-the-account-key",
        key.public_bytes(*spki) != order.account.key.key.public_bytes(*spki),
        Refused("badCSR", "the key of the CSR is the key of the account"),
    )
    return csr


def _identifiers(csr: x509.CertificateSigningRequest) -> set[Identifier]:
    """The alternative names, and the common name where there is one (section 7.4)."""
    common = csr.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    found = {_identifier(str(attribute.value)) for attribute in common}
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return found
    found |= {Identifier("dns", name.lower()) for name in names.get_values_for_type(x509.DNSName)}
    return found | {Identifier("ip", address.compressed) for address in names.get_values_for_type(x509.IPAddress)}


def _identifier(text: str) -> Identifier:
    try:
        return Identifier("ip", ipaddress.ip_address(text).compressed)
    except ValueError:
        return Identifier("dns", text.lower())
