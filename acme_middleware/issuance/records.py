"""
The records that issuing keeps in a store, and their form: JSON with a schema number, times in UTC.

``certificate/<name>`` is written once per issuance and is the truth; ``renewal/<name>`` is what the public may see of it, and
is made again from it whenever the two disagree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Self

from acme_middleware.errors import StoreMisconfigured
from acme_middleware.stores.base import Expect, Store, key

SCHEMA = 1

KEY_COMPROMISE = "keyCompromise"
"""The reason of a revocation after which nothing may be made with the same key."""


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
            readers = _readers(cls)
            values = {name: readers[name](entry) for name, entry in document.items() if name in readers}
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
    """
    An account at a CA.

    Attributes:
        url: "" from the moment that the key is saved until the CA has answered.
        next_key_pem: The key that it may have from now on: saved before the CA is asked to change to it, "" when that is
            over. Which of the two the CA knows, only the CA can say.
    """

    directory: str
    key_pem: str = field(repr=False)
    url: str = ""
    email: str = ""
    eab_kid: str = ""
    next_key_pem: str = field(default="", repr=False)


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
    """
    A certificate with its key and chain, and how it was asked for.

    Attributes:
        order_url: The order that brought it.
        revoked: The reason for which we had it revoked, "" if we did not.
    """

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
    revoked: str = ""
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
        revoked: The reason for which we had it revoked, "" if we did not: such a certificate is due.
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
    revoked: str = ""
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


Reader = Callable[[Any], Any]
"""Makes a field's value of what JSON has for it."""

_known: dict[type, dict[str, Reader]] = {}


def _readers(cls: type[Any]) -> dict[str, Reader]:
    """The readers of a class's fields; found out once, since there may be thousands of records."""
    if cls not in _known:
        _known[cls] = {entry.name: _reader(str(entry.type)) for entry in fields(cls) if entry.name != "version"}
    return _known[cls]


def _reader(annotation: str) -> Reader:
    if annotation in ("str", "bool"):
        return _plain_reader(str if annotation == "str" else bool)
    if annotation.startswith("tuple"):
        return tuple
    of_kind: dict[str, Reader] = {"datetime": _time, "RenewalWindow": _window, "Mapping[str, Any]": _table}
    reader = of_kind.get(annotation.removesuffix(" | None"), _as_it_is)
    return (lambda value: None if value is None else reader(value)) if annotation.endswith("None") else reader


def _plain_reader(kind: type) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            # Not the value: it may be a key.
            raise ValueError(f"a {type(value).__name__} stands where a {kind.__name__} should")
        return value

    return read


def _time(value: Any) -> datetime:
    when = datetime.fromisoformat(value)
    if when.tzinfo is None:
        raise ValueError(f"the time {value} has no time zone")
    return when


def _window(value: Any) -> RenewalWindow:
    return RenewalWindow(**{name: read(value[name]) for name, read in _readers(RenewalWindow).items()})


_tables: dict[tuple[tuple[str, Any], ...], Mapping[str, Any]] = {}


def _table(value: Any) -> Any:
    """A table, and the same one where it says the same: thousands of certificates have been issued with the same options."""
    try:
        said = tuple(value.items())
        if len(_tables) > 100:
            _tables.clear()
        return _tables.setdefault(said, value)
    except (AttributeError, TypeError):  # no table, or one of lists
        return value


def _as_it_is(value: Any) -> Any:
    return value
