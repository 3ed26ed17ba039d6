"""A challenge store that may wait for a network: what a token begins with says how it fares."""

from __future__ import annotations

import os
import time
from pathlib import Path


class FaultyStore:
    """``slow...`` takes 50 ms, ``down...`` fails, ``hang...`` takes a minute. Each call is a line of $MATRIX_CALLS."""

    blocking = True

    def key_authorization(self, token):
        with Path(os.environ["MATRIX_CALLS"]).open("a") as calls:
            calls.write(token + "\n")
        if token.startswith("down"):
            raise OSError("no route to the store")
        time.sleep(60 if token.startswith("hang") else 0.05)
        return f"{token}.thumbprint" if token.startswith("slow") else None
