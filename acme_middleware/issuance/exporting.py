"""One certificate as one file, for what cannot read a folder: PEM, or PKCS#12 under a password."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from acme_middleware.errors import StoreMisconfigured
from acme_middleware.issuance import keys
from acme_middleware.issuance.records import CertificateRecord


def to_pem(made: CertificateRecord) -> bytes:
    """The certificate, its chain and its key, in the order that servers with one file for all take."""
    _parsed(made)
    return b"".join(part.strip().encode() + b"\n" for part in (made.cert_pem, made.chain_pem, made.key_pem) if part.strip())


def to_pkcs12(made: CertificateRecord, password: bytes) -> bytes:
    """
    The same as PKCS#12 (RFC 7292), under AES-256.

    Args:
        password: Not empty; it protects the key.
    """
    key, leaf, chain = _parsed(made)
    return pkcs12.serialize_key_and_certificates(made.name.encode(), key, leaf, chain, BestAvailableEncryption(password))


def _parsed(made: CertificateRecord) -> tuple[keys.PrivateKey, x509.Certificate, list[x509.Certificate]]:
    try:
        key = keys.load(made.key_pem.encode())
        leaf = x509.load_pem_x509_certificate(made.cert_pem.encode())
        chain = x509.load_pem_x509_certificates(made.chain_pem.encode()) if made.chain_pem.strip() else []
        matches = leaf.public_key() == key.public_key()
    except (ValueError, TypeError):
        # Not the library's words, which may quote its input.
        raise StoreMisconfigured(
            f"the stored certificate {made.name} cannot be read",
            hint="restore it from a backup, or issue it again with --force",
        ) from None
    if not matches:
        raise StoreMisconfigured(
            f"the stored key of {made.name} is not the key of its certificate",
            hint="restore it from a backup, or issue it again with --force",
        )
    return key, leaf, chain
