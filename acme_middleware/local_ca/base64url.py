"""base64url without padding (RFC 8555 section 6.1), read strictly: libraries drop what they do not know and go on."""

from __future__ import annotations

import base64
import re

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")


def encode(data: bytes) -> str:
    """Bytes as text."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: object) -> bytes:
    """
    Text as bytes.

    Raises:
        ValueError: it is no text, or has padding or another character that is not in the alphabet, or bits to spare.
    """
    if not isinstance(text, str) or not _ALPHABET.fullmatch(text) or len(text) % 4 == 1:
        raise ValueError("no base64url without padding")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode(data) != text:
        raise ValueError("base64url with bits set that stand for nothing")
    return data


def decode_leniently(text: object) -> bytes:
    """Text as bytes, as libraries read it: what is not in the alphabet is skipped. For a CA that breaks the rule on purpose."""
    return base64.urlsafe_b64decode(f"{text}==")
