"""
Private records, encrypted in any store: who can read the database, or a backup of it, has no key of a certificate.

A sealed value is a line of text, a nonce and what AES-256-GCM made of the record::

    sealed 1 0123456789abcdef
    <12 bytes><ciphertext and tag>

The line says the version of this form and which key it was. The line and the record's own name are authenticated with it: a
record that was copied over another does not open. What is public about certificates is not sealed, so that ``status`` and
whoever decides what is due need no key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterator, Sequence

from acme_middleware.errors import ConfigurationError, RecordSealed
from acme_middleware.stores.base import Connected, Expect, Record, Store

__all__ = ["PRIVATE", "SealedStore", "key_id", "sealed_with"]

PRIVATE = ("account/", "certificate/", "order/")
"""How the names of records begin that hold a private key."""

BEGINNING = b"sealed "
HEADER = re.compile(rb"sealed 1 ([0-9a-f]{16})\n")
KEY_SIZE = 32
"""Bytes of an AES-256 key."""

NONCE = 12
"""Bytes; NIST SP 800-38D section 8.3 allows 2**32 random ones for a key: more than any fleet will ever write."""


class SealedStore:
    """
    A store whose private records are encrypted, around one that keeps them.

    With keys, a private record that was saved without is read as it is, and sealed when it is next written. Without keys
    nothing is sealed, and one that is sealed is refused: it must never count as absent, or everything would be issued anew.

    Args:
        inner: The store.
        keys: Of 32 bytes each: the first one seals, all open. Or a callable that gives them, called when they are needed.

    Raises:
        ConfigurationError: a key is none.

    See :mod:`acme_middleware.stores.base` for what its methods do. ``get`` and ``scan`` raise RecordSealed, too, for a
    record that no key opens; ``record`` names it.
    """

    def __init__(self, inner: Store, keys: Sequence[bytes] | Callable[[], Sequence[bytes]] = ()) -> None:
        if not callable(keys) and not all(isinstance(entry, bytes) and len(entry) == KEY_SIZE for entry in keys):
            raise ConfigurationError(
                f"encryption keys are bytes, {KEY_SIZE} of them each",
                hint="acme_middleware.encryption_keys.read() makes them of text",
            )
        self.inner = inner
        self._given = keys

    def __repr__(self) -> str:
        return f"SealedStore({self.inner!r})"

    @property
    def keys(self) -> Sequence[bytes]:
        """The keys, the one that seals first; none where nothing is sealed."""
        return self._given() if callable(self._given) else self._given

    def get(self, key: str) -> Record | None:
        record = self.inner.get(key)
        return None if record is None else self.opened(key, record)

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        return self.inner.put(key, self._sealed(key, value), expect=expect)

    def delete(self, key: str, *, expect: str | Expect = Expect.ANY) -> bool:
        return self.inner.delete(key, expect=expect)

    def scan(self, prefix: str) -> Iterator[tuple[str, Record]]:
        found = self.inner.scan(prefix)
        if not any(kind.startswith(prefix) or prefix.startswith(kind) for kind in PRIVATE):
            return found
        return ((key, self.opened(key, record)) for key, record in found)

    def check(self, *, writable: bool) -> None:
        """
        Try the store as it will be used; with ``writable`` that the keys can be had, too.

        Raises:
            StoreMisconfigured, StoreUnavailable, ConfigurationError: as the store does, and who gives the keys.
        """
        self.inner.check(writable=writable)
        if writable:
            _ = self.keys

    def close_connections(self) -> None:
        """Give back the connections that the store keeps, if it is one that does."""
        if isinstance(self.inner, Connected):
            self.inner.close_connections()

    def opened(self, key: str, record: Record) -> Record:
        """
        A record of the store around which this is, as it was before it was sealed.

        Raises:
            RecordSealed: no key opens it, or it was changed.
        """
        if not (key.startswith(PRIVATE) and record.value.startswith(BEGINNING)):
            return record
        return Record(self._plain(key, record.value), record.version)

    def _sealed(self, key: str, value: bytes) -> bytes:
        if not key.startswith(PRIVATE) or not (keys := self.keys):
            return value
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # which stand-by processes and pollers never need

        header = BEGINNING + f"1 {key_id(keys[0])}\n".encode()
        nonce = secrets.token_bytes(NONCE)
        return header + nonce + AESGCM(keys[0]).encrypt(nonce, value, header + key.encode())

    def _plain(self, key: str, value: bytes) -> bytes:
        header, used = value.partition(b"\n")[0] + b"\n", sealed_with(value)
        if used is None:
            raise _refused(
                f"the record {key} is sealed in a way that this version does not know",
                "a newer acme-middleware wrote it: upgrade this one; or it is damaged: restore it from a backup",
                key,
            )
        if not self.keys:
            raise _refused(
                f"the record {key} is sealed, and no key is set that could open it",
                "set ACME_ENCRYPTION_KEYS, or ACME_ENCRYPTION_KEYS_FILE, to what the hosts that wrote it have",
                key,
            )
        opener = next((entry for entry in self.keys if key_id(entry) == used), None)
        if opener is None:
            raise _refused(
                f"the record {key} is sealed with another key ({used}) than those in ENCRYPTION_KEYS",
                "put that key back, behind the first one, and run `keys rotate` before it is taken out again",
                key,
            )
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, rest = value[len(header) : len(header) + NONCE], value[len(header) + NONCE :]
        try:
            return AESGCM(opener).decrypt(nonce, rest, header + key.encode())
        except (InvalidTag, ValueError):  # cut so short that it has no nonce
            raise _refused(
                f"the record {key} was changed after it was sealed, or belongs to another name",
                "restore it from a backup; somebody, or a disk, has written to the store past acme-middleware",
                key,
            ) from None


def key_id(key: bytes) -> str:
    """What a sealed record calls the key that it needs. It tells nobody the key."""
    return hmac.new(key, b"acme-middleware key id", hashlib.sha256).hexdigest()[:16]


def sealed_with(value: bytes) -> str | None:
    """The id of the key that sealed a value, None where none did."""
    header = HEADER.match(value)
    return None if header is None else header[1].decode()


def _refused(message: str, hint: str, record: str) -> RecordSealed:
    return RecordSealed(message, hint=hint, record=record)
