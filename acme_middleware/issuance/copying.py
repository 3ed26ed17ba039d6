"""Everything that a store holds, moved into another one: from files into a database, from one database into another."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from acme_middleware.errors import ConfigurationError, Conflict, RecordSealed, StoreMisconfigured
from acme_middleware.stores.base import Expect, Record, Store, key
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.stores.sealed import PRIVATE, SealedStore

__all__ = ["Copied", "copy", "refuse_same"]

LEASE = "lock/"
"""Leases stay behind: whoever holds one holds it where he works."""

LATER = ("issued_at", "failed_at", "ended", "times", "revoked", "ask_after")
"""The fields that tell which of two forms of a record is the newer one; an earlier one of these weighs more."""


class Copied(NamedTuple):
    """
    What became of one record.

    Attributes:
        action: "copied", "replaced" (the target had an older one), "same", "kept" (the target has another, which stays) or
            "refused" (the source's cannot be read).
    """

    record: str
    action: str
    reason: str = ""


def refuse_same(source: SealedStore, target: SealedStore, *, dry_run: bool) -> None:
    """
    Refuse to copy a store onto itself, by whatever name.

    Args:
        dry_run: Write nothing to find it out: only folders are told apart then.

    Raises:
        ConfigurationError: both are one.
    """
    one, other = source.inner, target.inner
    if isinstance(one, DirectoryStore) and isinstance(other, DirectoryStore):
        same = one.path.resolve() == other.path.resolve()
    elif one is other:
        same = True
    else:
        same = not dry_run and _shows(one, other)
    if same:
        raise ConfigurationError("FROM and TO are the same store", hint="name the one that is to be filled as the second")


def copy(source: SealedStore, target: SealedStore, *, dry_run: bool = False, force: bool = False) -> Iterator[Copied]:
    """
    Copy every record but leases, and read back what was written. The source is only read; doing it twice changes nothing.

    What the target has already stays, unless that is an older form of the same record. So a copy may be repeated, after the
    last renewal in the old place, until the new one takes over.

    Args:
        dry_run: Write nothing, and say what would be done.
        force: Replace whatever differs.

    Raises:
        StoreUnavailable, StoreMisconfigured: from the stores; or what was written cannot be read back.
    """
    there = {where: record for where, record in target.inner.scan("") if not where.startswith(LEASE)}
    # Private ones first: a certificate whose public record is there is taken for one that can be used.
    found = sorted(
        ((where, record) for where, record in source.inner.scan("") if not where.startswith(LEASE)),
        key=lambda pair: (not pair[0].startswith(PRIVATE), pair[0]),
    )
    written: dict[str, tuple[bytes, str]] = {}
    for where, record in found:
        if not record.version:
            yield Copied(where, "refused", f"the record {where} is damaged: restore it from a backup, or delete it")
            continue
        try:
            plain = source.opened(where, record)
        except RecordSealed as error:
            yield Copied(where, "refused", f"{error}; {error.hint}")
            continue
        step = _decided(target, where, plain, there.get(where), force=force)
        if step.action in ("copied", "replaced") and not dry_run:
            before = there.get(where)
            try:
                expect = Expect.ABSENT if before is None else before.version or Expect.ANY  # a damaged one has no version
                version = target.put(where, plain.value, expect=expect)
            except Conflict:
                yield Copied(where, "kept", "the target's was written to at this moment; run the command again")
                continue
            written[where] = plain.value, version
        yield step
    _verify(target, written)


def _decided(target: SealedStore, where: str, plain: Record, there: Record | None, *, force: bool) -> Copied:
    if there is None:
        return Copied(where, "copied")
    try:
        known = target.opened(where, there).value
    except RecordSealed as error:
        return Copied(where, "replaced") if force else Copied(where, "kept", f"the target's cannot be read: {error}")
    if known == plain.value:
        return Copied(where, "same")
    if force or _is_newer(plain.value, known):
        return Copied(where, "replaced")
    return Copied(where, "kept", "the target has another one, and not an older one; --force replaces it")


def _verify(target: SealedStore, written: dict[str, tuple[bytes, str]]) -> None:
    """Read everything back, through the keys: a copy that does not open is none."""
    kinds = {where.partition("/")[0] + "/" for where in written}
    found = {where: record for kind in kinds for where, record in target.scan(kind) if where in written}
    for where, (value, version) in written.items():
        record = found.get(where)
        if record is None or (record.version == version and record.value != value):
            raise StoreMisconfigured(
                f"the record {where} was written to the target, and does not come back as it was",
                hint="do not use the target: find out why it does not keep what is written, and copy again",
                record=where,
            )


def _is_newer(value: bytes, known: bytes) -> bool:
    try:
        ours, theirs = json.loads(value), json.loads(known)
        return _age(ours) > _age(theirs)
    except (ValueError, TypeError, AttributeError):
        return False  # of no form that we know


def _age(document: dict[str, Any]) -> list[Any]:
    return [_comparable(document.get(name)) for name in LATER]


def _comparable(value: Any) -> Any:
    if isinstance(value, list):
        return max(value, default=0)
    if value is None:
        return datetime.min.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return value


def _shows(one: Store, other: Store) -> bool:
    """Whether what is written to one can be read from the other."""
    probe, value = key("lock", f"check-{secrets.token_hex(16)}"), secrets.token_bytes(16)
    version = other.put(probe, value, expect=Expect.ABSENT)
    try:
        found = one.get(probe)
    finally:
        other.delete(probe, expect=version)
    return found is not None and found.value == value
