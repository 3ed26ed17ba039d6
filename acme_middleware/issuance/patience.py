"""Saving an order that the CA has opened, though the store is just being restarted."""

from __future__ import annotations

import time
from collections.abc import Callable

from acme_middleware.errors import Conflict, StoreUnavailable
from acme_middleware.issuance.records import OrderRecord
from acme_middleware.stores.base import Expect, Store

RESTART = 20.0
"""Seconds that a store's server may take to come back. Far less than a lease lives, so that nobody else begins meanwhile."""

PAUSE = 0.5


def save_order(
    record: OrderRecord,
    store: Store,
    where: str,
    previous: OrderRecord | None,
    *,
    still_ours: Callable[[], None],
    warn: Callable[[str], None],
) -> str:
    """
    Write an order, again and again while the store does not answer: the CA tells nobody again where the order is.

    Args:
        previous: What was there when the lease was taken, None for nothing: only that is written over.
        still_ours: Called before each further try: who has lost the lease meanwhile leaves it to the successor.
        warn: Is told once, before the wait.

    Returns:
        The record's version.

    Raises:
        StoreUnavailable: it was not back in time.
        Conflict: another process has written an order of its own.
        LeaseLost: from ``still_ours``.
    """
    expect = previous.version if previous else Expect.ABSENT
    deadline, told = time.monotonic() + RESTART, False
    while True:
        try:
            return record.write(store, where, expect=expect)
        except StoreUnavailable as error:
            if time.monotonic() + PAUSE > deadline:
                raise
            if not told:
                warn(f"waiting for the store, to save the order in it: {error}")
                told = True
        except Conflict:
            # The write before this one may have been done, and only its answer was lost.
            found = OrderRecord.read(store, where) if told else None
            if found is None or found.url != record.url:
                raise
            return found.version
        time.sleep(PAUSE)
        still_ours()
