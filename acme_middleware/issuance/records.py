"""
The records that issuing keeps in a store, and their form: JSON with a schema number, times in UTC.

``certificate/<name>`` is written once per issuance and is the truth; ``renewal/<name>`` is what the public may see of it, and
is made again from it whenever the two disagree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Self

from acme_middleware.errors import StoreMisconfigured
from acme_middleware.stores.base import Expect, Store, key

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A record as it is in a store; ``version`` is what the store gave it, "" while it is not stored."""

    version: str = field(default="", repr=False, compare=False)

    @classmethod
    def read(cls, store: Store, where: str) -> Self | None:
        """Read the record at a key, None if there is none. Raises StoreMisconfigured where it cannot be understood."""
        record = store.get(where)
        return None if record is None else cls.decode(where, record.value, record.version)

    @classmethod
    def decode(cls, where: str, value: bytes, version: str) -> Self:
        """Read a record from the bytes and version that a store gave."""
        try:
            document = json.loads(value)
            if document["schema"] != SCHEMA:
                raise StoreMisconfigured(
                    f"the record {where} has schema {document['schema']}, and this version knows {SCHEMA}",
                    hint="a newer acme-middleware wrote it: upgrade this one",
                )
            known = {entry.name: entry.type for entry in fields(cls)}
            values = {
                name: _restore(str(known[name]), entry)
                for name, entry in document.items()
                if name in known and name != "version"
            }
            return cls(**values, version=version)
        except (ValueError, TypeError, KeyError) as error:
            raise StoreMisconfigured(
                f"the record {where} is damaged: {error}", hint="restore it from a backup, or delete it to issue anew"
            ) from None

    def write(self, store: Store, where: str, *, expect: str | Expect = Expect.ANY) -> str:
        """Write the record; returns its new version. Raises Conflict as the store does."""
        document = {name: value for name, value in asdict(self).items() if name != "version"}
        return store.put(where, json.dumps({"schema": SCHEMA} | document, default=_plain).encode(), expect=expect)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecord(Stored):
    """An account at a CA. ``url`` is "" from the moment that the key is saved until the CA has answered."""

    directory: str
    key_pem: str = field(repr=False)
    url: str = ""
    email: str = ""
    eab_kid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRecord(Stored):
    """An order under way: with it a later run goes on where a killed one stopped."""

    url: str
    account_url: str
    ca: str
    names: tuple[str, ...]
    profile: str
    key_type: str
    key_pem: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRecord(Stored):
    """A certificate with its key and chain, and how it was asked for. ``order_url`` is the order that brought it."""

    name: str
    names: tuple[str, ...]
    ca: str
    trusted: bool
    account_url: str
    profile: str
    key_type: str
    issued_at: datetime
    key_pem: str = field(repr=False)
    cert_pem: str
    chain_pem: str
    order_url: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalWindow:
    """
    The CA's renewal window (RFC 9773), and the moment in it that was drawn for this certificate.

    The draw is kept for as long as the window stays the same, so that every host that looks sees the same time.
    """

    start: datetime
    end: datetime
    drawn: datetime
    ask_again: datetime
    explanation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalRecord(Stored):
    """
    What is public about a certificate, and all that deciding about its renewal needs.

    Attributes:
        ari_id: What the CA calls it when asked for renewal information (RFC 9773 section 4.1), so that asking needs no
            private record; "" in a record of before 0.1, and where the certificate cannot be named so.
        ask_after: When to ask for renewal information next; None: it was not asked for yet.
    """

    name: str
    names: tuple[str, ...]
    ca: str
    trusted: bool
    profile: str
    not_before: datetime
    not_after: datetime
    serial: str
    fingerprint: str
    issued_at: datetime
    renew_after: datetime
    ari: RenewalWindow | None = None
    ari_id: str = ""
    ask_after: datetime | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def account_key(ca: str, account: str) -> str:
    """The key of an account record; ``account`` is its EAB key id, or "default"."""
    return key("account", ca, account)


def order_key(name: str) -> str:
    """The key of the order record of a certificate."""
    return key("order", name)


def certificate_key(name: str) -> str:
    """The key of a certificate record."""
    return key("certificate", name)


def renewal_key(name: str) -> str:
    """The key of a renewal record."""
    return key("renewal", name)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no form in a record")


def _restore(annotation: str, value: Any) -> Any:
    if annotation.startswith("datetime"):
        if value is None and annotation != "datetime":
            return None
        when = datetime.fromisoformat(value)
        if when.tzinfo is None:
            raise ValueError(f"the time {value} has no time zone")
        return when
    if annotation.startswith("tuple"):
        return tuple(value)
    if annotation.startswith("RenewalWindow") and value is not None:
        return RenewalWindow(**{entry.name: _restore(str(entry.type), value[entry.name]) for entry in fields(RenewalWindow)})
    if annotation in ("str", "bool") and type(value).__name__ != annotation:
        raise ValueError(f"a {type(value).__name__} stands where a {annotation} should")  # not the value: it may be a key
    return value
