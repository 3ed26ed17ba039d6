"""A published certificate as PKCS#12 (RFC 7292), for programs that read nothing else."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    KeySerializationEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from acme_middleware import _files
from acme_middleware.errors import ConfigurationError

__all__ = ["to_pkcs12"]


def to_pkcs12(name: str, directory: Path, password_file: Path, *, legacy: bool) -> bytes:
    """
    The key, the certificate and its chain in one.

    Args:
        name: The friendly name.
        directory: Of the version.
        password_file: Its first line is the password.
        legacy: Under triple DES and SHA-1, for old readers: Windows before Server 2019, macOS before 14, Java before 8u301.

    Raises:
        ConfigurationError: there is no password.
        OSError: a file cannot be read.
    """
    password = password_file.read_bytes().partition(b"\n")[0].rstrip(b"\r")
    if not password:
        raise ConfigurationError(f"the first line of {password_file} is empty", hint="a password there protects the key")
    leaf, *chain = x509.load_pem_x509_certificates(_files.read(directory / "fullchain.pem"))
    key = load_pem_private_key(_files.read(directory / "privkey.pem"), password=None)
    encryption: KeySerializationEncryption = BestAvailableEncryption(password)
    if legacy:
        encryption = (
            PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(50_000)
            .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
            .hmac_hash(hashes.SHA1())  # noqa: S303 - what such readers take
            .build(password)
        )
    return pkcs12.serialize_key_and_certificates(name.encode(), key, leaf, chain, encryption)  # type: ignore[arg-type]
