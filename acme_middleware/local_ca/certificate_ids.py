"""The unique id of a certificate (RFC 9773 section 4.1)."""

from __future__ import annotations

from cryptography import x509

from acme_middleware.local_ca import base64url
from acme_middleware.local_ca.clauses import Rules
from acme_middleware.local_ca.problems import Refused


def of(certificate: x509.Certificate) -> str:
    """The key identifier of the issuer and the serial number as DER has it, each in base64url."""
    identifier = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    if identifier is None:
        raise ValueError("the certificate does not name its issuer's key")
    serial = certificate.serial_number
    # Positive, so with a zero in front where the first bit would be the sign.
    return f"{base64url.encode(identifier)}.{base64url.encode(serial.to_bytes(serial.bit_length() // 8 + 1, 'big'))}"


def parse(text: object, rules: Rules) -> None:
    """
    Check the form of an id.

    Raises:
        Refused: it is malformed; the part that is a serial must be the shortest DER content of a positive number.
    """
    if not rules.kept("9773-4.1-id"):
        return
    parts = text.split(".") if isinstance(text, str) else []
    try:
        identifier, content = (base64url.decode(part) for part in parts)
    except ValueError:
        raise Refused("malformed", f"{text!r} is no certificate id: two parts in base64url with a dot between") from None
    number = int.from_bytes(content, "big", signed=True)
    if not identifier or number <= 0 or number.bit_length() // 8 + 1 != len(content):
        raise Refused("malformed", f"{text!r} is no certificate id: the second part is no serial number in DER")
