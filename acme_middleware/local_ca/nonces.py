"""Nonces against replay (RFC 8555 section 6.5): each is good for one request."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict

KEPT = 100_000
"""How many unused nonces are remembered; beyond it the oldest ones end, which a client answers by trying again."""


class Nonces:
    """The nonces that were given out and not used yet."""

    def __init__(self) -> None:
        self._unused: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def issue(self) -> str:
        """A fresh nonce, in base64url."""
        nonce = secrets.token_urlsafe(16)
        with self._lock:
            self._unused[nonce] = None
            if len(self._unused) > KEPT:
                self._unused.popitem(last=False)
        return nonce

    def spend(self, nonce: str) -> bool:
        """Use a nonce up. False: it was used before, has ended or was never given out."""
        with self._lock:
            return self._unused.pop(nonce, self) is None
