"""Private keys of certificates."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

GENERATORS: Mapping[str, Callable[[], PrivateKey]] = {
    "ec256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ec384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa3072": lambda: rsa.generate_private_key(65537, 3072),
    "rsa4096": lambda: rsa.generate_private_key(65537, 4096),
}
"""The option KEY_TYPE's values."""


def generate(key_type: str) -> bytes:
    """A fresh key in PEM (PKCS#8)."""
    return GENERATORS[key_type]().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load(pem: bytes) -> PrivateKey:
    """Read a key from PEM. Raises ValueError for another kind of key; the message never shows it."""
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, PrivateKey):
        raise ValueError("the key is neither EC nor RSA")
    return key
