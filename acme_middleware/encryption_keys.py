"""The keys of the option ENCRYPTION_KEYS: how they are written, and that nothing shows them."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from acme_middleware.errors import AcmeMiddlewareError, ConfigurationError, StoreUnavailable

__all__ = ["EncryptionKeys", "new", "read"]

SIZE = 32
"""Bytes of an AES-256 key."""

# RFC 4648 section 5; what `openssl rand -base64 32` writes (section 4) is taken as well.
WRITTEN = re.compile(r"[A-Za-z0-9_+/-]{43}=?")

TAKES = "takes keys of 32 bytes in base64url, as `acme-middleware keys new` prints them"


class EncryptionKeys:
    """
    The keys that private records are sealed with: the first one seals, all open. Called, it gives them.

    Args:
        given: The keys; or a callable that gives them in any form that :func:`read` takes. It is called once, when a private
            record is read or written for the first time, and again only where it had failed.
    """

    def __init__(self, given: Sequence[bytes] | Callable[[], Any]) -> None:
        self._source = given if callable(given) else None
        self._keys = () if callable(given) else tuple(given)

    def __repr__(self) -> str:
        return f"EncryptionKeys({'a callable' if self._source else len(self._keys)})"

    def __call__(self) -> tuple[bytes, ...]:
        """
        The keys.

        Raises:
            StoreUnavailable: the callable failed; it may work later.
            ConfigurationError: it gave something that is no keys.
        """
        if self._source is not None and not self._keys:
            self._keys = _asked(self._source)
        return self._keys


def read(value: Any) -> EncryptionKeys | None:
    """
    Read keys: text with commas or white space between them, a list of texts or of 32 bytes each, or a callable.

    Returns:
        None for an empty list: not set, as any empty option.

    Raises:
        ValueError: what is given is none of these; the message does not quote it.
    """
    if isinstance(value, EncryptionKeys):
        return value
    if callable(value):
        return EncryptionKeys(value)
    keys = _keys(value)
    return EncryptionKeys(keys) if keys else None


def new() -> str:
    """A new key, as it is written in an option."""
    return base64.urlsafe_b64encode(secrets.token_bytes(SIZE)).decode().rstrip("=")


def _asked(source: Callable[[], Any]) -> tuple[bytes, ...]:
    try:
        given = source()
    except AcmeMiddlewareError:
        raise
    except Exception as error:
        # Not its words: whoever fetches keys may quote them. The cause is there for who asks for the traceback.
        raise StoreUnavailable(
            f"the callable in ENCRYPTION_KEYS failed with {type(error).__name__}, so private records cannot be read",
            hint="it is your own: --traceback shows where it failed",
        ) from error
    try:
        keys = _keys(given)
    except ValueError as error:
        raise ConfigurationError(f"what the callable in ENCRYPTION_KEYS gave: {error}", hint=TAKES, option=OPTION) from None
    if not keys:
        # Never "so nothing is to be sealed": a key service that answers nothing must not open the safe.
        raise ConfigurationError("the callable in ENCRYPTION_KEYS gave no key", hint=TAKES, option=OPTION)
    return keys


OPTION = "encryption_keys"


def _keys(value: Any) -> tuple[bytes, ...]:
    if isinstance(value, str):
        value = value.replace(",", " ").split() or [""]
    if not isinstance(value, list | tuple):
        raise ValueError(f"{TAKES}, or a list of them, not {type(value).__name__}")
    return tuple(_key(entry, place) for place, entry in enumerate(value, 1))


def _key(entry: Any, place: int) -> bytes:
    if isinstance(entry, bytes) and len(entry) == SIZE:
        return entry
    if isinstance(entry, str) and WRITTEN.fullmatch(entry):
        return base64.b64decode(entry.rstrip("=").replace("-", "+").replace("_", "/") + "=")
    raise ValueError(f"{TAKES}; number {place} of those given is none")
