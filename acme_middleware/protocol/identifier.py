"""What a certificate is for; apart from the rest of the protocol, since telling good names from bad needs no ACME client."""

from __future__ import annotations

from typing import NamedTuple


class Identifier(NamedTuple):
    """``type`` is "dns" (RFC 8555 section 7.1.4), with an A-label as its value, or "ip" (RFC 8738)."""

    type: str
    value: str
