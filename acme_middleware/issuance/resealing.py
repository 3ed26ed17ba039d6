"""Another encryption key: every private record is sealed anew with the first of ENCRYPTION_KEYS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

from acme_middleware.errors import Conflict, LeaseHeld, RecordSealed
from acme_middleware.lease import lease
from acme_middleware.stores.base import PLAIN, Record
from acme_middleware.stores.sealed import PRIVATE, SealedStore, key_id, sealed_with

__all__ = ["Resealed", "leased", "reseal"]


class Resealed(NamedTuple):
    """
    What became of one private record.

    Attributes:
        action: "sealed", "same" (the first key had sealed it), "unreadable", "forgotten" (it was, and is deleted now), or
            "held" (a process is working on that certificate and did not end in time).
    """

    record: str
    action: str
    reason: str = ""


def reseal(store: SealedStore, *, wait: float, forget: bool = False) -> Iterator[Resealed]:
    """
    Seal all private records with the first key, one after the other. Doing it twice changes nothing.

    Each record is taken under the lease of its certificate or account: a version that changes under a process which is
    issuing would make it throw away what it got. Certificates that others work on come last.

    Args:
        store: With at least one key.
        wait: Seconds to wait for each process that works on a certificate.
        forget: Delete records that no key opens. What is in them is lost: it is for when their key is lost as well.

    Raises:
        StoreUnavailable, StoreMisconfigured, LeaseLost: from the store; done so far is done.
    """
    first = key_id(store.keys[0])
    held = []
    for key, record in (found for kind in PRIVATE for found in store.inner.scan(kind)):
        step = _step(store, key, record, first, wait=0, forget=forget)
        if step.action == "held":
            held.append((key, record))
        else:
            yield step
    for key, record in held:
        yield _step(store, key, record, first, wait=wait, forget=forget)


def _step(store: SealedStore, key: str, record: Record, first: str, *, wait: float, forget: bool) -> Resealed:
    try:
        store.opened(key, record)
        if sealed_with(record.value) == first:
            return Resealed(key, "same")
        with lease(store, leased(key), wait=wait) as held:
            held.check()
            return Resealed(key, _seal(store, key, first))
    except LeaseHeld as error:
        return Resealed(key, "held", str(error))
    except RecordSealed as error:
        if not forget:
            return Resealed(key, "unreadable", f"{error}; {error.hint}")
        try:
            store.delete(key, expect=record.version)
        except Conflict:
            return Resealed(key, "unreadable", "it was written to at this moment; run the command again")
        return Resealed(key, "forgotten", str(error))


def _seal(store: SealedStore, key: str, first: str) -> str:
    """Read the newest record and write it back, sealed: until nobody has written in between."""
    while True:
        record = store.inner.get(key)
        if record is None or sealed_with(record.value) == first:
            return "same"  # deleted, or written by a process that has the new keys
        try:
            store.put(key, store.opened(key, record).value, expect=record.version)
        except Conflict:
            continue
        return "sealed"


def leased(key: str) -> str:
    """The name of the lease under which a record is written: that of the certificate, or ``account/<ca>/<id>``."""
    kind, _, rest = key.partition("/")
    # A long name is cut in its key. Its lease's key is cut to the same, and that is made of the part as well.
    name = "/".join(part if PLAIN.fullmatch(part) else unquote(part) for part in rest.split("/"))
    return f"account/{name}" if kind == "account" else name
