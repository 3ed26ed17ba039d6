"""
The product, broken on purpose, in the processes of the harness alone: what the suite must notice, or it could not fail.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def break_lease() -> None:
    """Leases are taken and rewritten without comparing: who was frozen goes on as if nobody had taken over."""
    from acme_middleware.lease import Lease
    from acme_middleware.stores.base import Expect

    put = Lease._put

    def blindly(self: Lease, state: str, expect: Any) -> str:
        return put(self, state, Expect.ANY)

    Lease._put = blindly  # type: ignore[method-assign]


def break_publish() -> None:
    """Files are written where servers read them, one after the other, as many clients do."""
    from acme_middleware.deploy import publish as publishing

    def in_place(lineage: Path, files: list[Any]) -> publishing.Published:
        current = lineage / "current"
        current.mkdir(parents=True, exist_ok=True)
        for file in files:
            (current / file.name).unlink(missing_ok=True)
            file.create(current)
            time.sleep(0.05)
        return publishing.Published(current, current, changed=True)

    publishing._publish = in_place


def break_fence() -> None:
    """A certificate is saved whatever is there by now, and nobody asks whether the lease is still held."""
    from acme_middleware.issuance.records import CertificateRecord, Stored
    from acme_middleware.lease import Lease
    from acme_middleware.stores.base import Expect

    write = Stored.write

    def over(self: Stored, store: Any, where: str, *, expect: Any = Expect.ANY) -> str:
        return write(self, store, where, expect=Expect.ANY if isinstance(self, CertificateRecord) else expect)

    Stored.write = over  # type: ignore[method-assign]
    Lease.check = lambda self: None  # type: ignore[method-assign]


BREAKS: dict[str, Callable[[], None]] = {"lease": break_lease, "publish": break_publish, "fence": break_fence}
