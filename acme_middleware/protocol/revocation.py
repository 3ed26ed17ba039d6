"""Revoking certificates (RFC 8555 section 7.6)."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from josepy.b64 import b64encode

from acme_middleware.errors import CARefused, ConfigurationError
from acme_middleware.protocol.account import load_key
from acme_middleware.protocol.directory import Directory
from acme_middleware.protocol.network import Network

REASONS = {
    "unspecified": 0,
    "keyCompromise": 1,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
}
"""The reasons of RFC 5280 section 5.3.1 that CAs take from who has a certificate."""


def revoke(
    network: Network, directory: Directory, certificate: x509.Certificate, *, reason: str, key_pem: bytes | None = None
) -> bool:
    """
    Revoke a certificate.

    Args:
        network: Signs as the account that ordered the certificate, or that could order one for all its names.
        reason: One of REASONS.
        key_pem: The certificate's own key, to sign with that in place of the account. Afterwards the network signs for nobody.

    Returns:
        Whether it was revoked just now; False: it had been before.

    Raises:
        ConfigurationError: this CA revokes nothing by ACME.
        CARefused, CAUnreachable, UnexpectedAnswer: as :class:`Network`.
    """
    if not directory.revoke_cert:
        raise ConfigurationError(
            "the CA's directory names no place to revoke at", hint="ask the CA how it revokes", option="ca"
        )
    if key_pem is not None:
        network.sign_as(load_key(key_pem), None)
    request = {"certificate": b64encode(certificate.public_bytes(Encoding.DER)).decode(), "reason": REASONS[reason]}
    try:
        # To say it twice does no harm: the second is told that it was.
        network.post(directory.revoke_cert, request, idempotent=True)
    except CARefused as error:
        if error.problem.type != "alreadyRevoked":
            raise
        return False
    return True
