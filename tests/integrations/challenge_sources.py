"""
What the served apps of these tests read tokens from: the environment says it, as servers import apps in processes of their own.

CHALLENGES is the store's URL, or the name of one of the sources below.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from acme_middleware.stores.base import Fetch


class Counted:
    """A slow, blocking source that writes each call to the file CALLS; ``hang...`` takes a minute, ``down...`` fails."""

    blocking = True

    def key_authorization(self, token: str) -> str | None:
        with Path(os.environ["CALLS"]).open("a") as calls:
            calls.write(token + "\n")
        if token.startswith("hang"):
            time.sleep(60)
        if token.startswith("down"):
            raise OSError("no route to the store")
        time.sleep(0.05)
        return f"{token}.thumbprint" if token.startswith("known") else None

    def log_fetch(self, token: str, fetch: Fetch) -> None:
        with Path(os.environ["CALLS"] + ".fetches").open("a") as fetches:
            fetches.write(f"{token} {fetch.address} {fetch.agent}\n")

    def fetches(self, token: str) -> list[Fetch]:
        raise NotImplementedError("the tests read the file")


def store():
    where = os.environ["CHALLENGES"]
    return Counted() if where == "counted" else where
