"""What there is to look after: every certificate that was issued and every one that is declared, each with its options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from acme_middleware import authorities
from acme_middleware.authorities import Authority
from acme_middleware.declared import Declared
from acme_middleware.errors import (
    AcmeMiddlewareError,
    ConfigurationError,
    NameRefused,
    NoSuchCertificate,
    NotYet,
    StoreMisconfigured,
)
from acme_middleware.issuance import ledger, renewal
from acme_middleware.issuance.failover import account_of
from acme_middleware.issuance.ledger import LedgerRecord
from acme_middleware.issuance.records import RenewalRecord, renewal_key
from acme_middleware.options import Options
from acme_middleware.stores.base import Record, Store

OF_THE_CERTIFICATE = ("key_type", "reuse_key", "profile", "require_profile", "preferred_chain")
"""What a certificate that is not declared gets again as it was first asked for, whatever the options say by now."""

OF_THE_PLACE = ("self_check", "self_check_via")
"""What an option says counts; where it is not set, what was said when the certificate was first asked for."""


SWITCHES = ("reuse_key", "require_profile")
"""Of what a record keeps: all else is text."""


@dataclass(frozen=True, slots=True)
class Item:
    """
    One certificate to look after.

    Attributes:
        name: What it is known by.
        names: What it shall be for; as they were written, where it is declared.
        record: What is known of the one there is, None for nothing.
        declared: Whether it stands in CERTIFICATES.
        error: Why it cannot be looked after: its record is damaged, or a name in CERTIFICATES cannot be had.
    """

    name: str
    names: tuple[str, ...]
    record: RenewalRecord | None = None
    declared: Declared | None = None
    error: AcmeMiddlewareError | None = None


def items(options: Options, store: Store) -> list[Item]:
    """
    Everything there is to look after, by name. One scan of ``renewal/``; a damaged record is an item with an error.

    Raises:
        StoreUnavailable, StoreMisconfigured: from the store.
    """
    found = {item.name: item for item in _stored(store)}
    for declared in options.certificates:
        item = _of(declared, found)
        found[item.name] = item
    return sorted(found.values(), key=lambda item: item.name)


def one(options: Options, store: Store, name: str) -> Item:
    """
    The certificate of a name, whether there is one or not; no other is looked at.

    Args:
        name: As it is known, or as a host name may be written: ``Bücher.example``.
    """
    spellings = dict.fromkeys([name, *_as_in_certificates(name)])
    found: dict[str, Item] = {}
    for spelling in spellings:
        where = renewal_key(spelling)
        if not found and (stored := store.get(where)) is not None:
            item = _item(where, stored)
            found[item.name] = item
    for declared in options.certificates:
        item = _of(declared, found)
        if item.name in spellings:
            return item
    *_, best = spellings
    return next(iter(found.values()), Item(best, (best,)))


def _as_in_certificates(name: str) -> list[str]:
    from acme_middleware.issuance.names import identifier

    with suppress(NameRefused):
        return [identifier(name).value]
    return []


def chosen(found: list[Item], names: Sequence[str]) -> list[Item]:
    """
    The items that somebody named, all where nobody did.

    Raises:
        NoSuchCertificate: a name is that of none.
    """
    if not names:
        return found
    known = {item.name: item for item in found}
    return [known[name] for name in dict.fromkeys(_spelled(name, known) for name in names)]


def _spelled(name: str, known: Mapping[str, Item]) -> str:
    if name in known:
        return name
    from difflib import get_close_matches

    for spelled in _as_in_certificates(name):
        if spelled in known:
            return spelled
    near = get_close_matches(name, known, n=1)
    raise NoSuchCertificate(
        f"there is no certificate {name!r}" + (f"; did you mean {near[0]}?" if near else ""),
        hint="`status` lists what there is in the store; others must stand in CERTIFICATES, or be issued first",
        name=name,
    )


def _stored(store: Store) -> Iterator[Item]:
    for where, stored in store.scan(renewal_key("")):
        yield _item(where, stored)


def _item(where: str, stored: Record) -> Item:
    try:
        record = RenewalRecord.decode(where, stored.value, stored.version)
        _require(where, renewal_key(record.name) == where, f"it is about {record.name}")
        _require(where, record.not_before < record.not_after, "its certificate ends before it begins")
        _require(where, isinstance(record.options, Mapping), "its options are no table")
        for option, value in record.options.items():
            kind = bool if option in SWITCHES else str
            _require(where, value is None or isinstance(value, kind), f"its option {option} is no {kind.__name__}")
    except StoreMisconfigured as error:
        return Item(_name(where), (), error=error)
    return Item(record.name, record.names, record)


def _require(where: str, holds: bool, otherwise: str) -> None:
    if not holds:
        raise StoreMisconfigured(
            f"the record {where} is damaged: {otherwise}", hint="restore it from a backup, or delete it to issue anew"
        )


def _name(where: str) -> str:
    from urllib.parse import unquote

    return unquote(where.partition("/")[2])


def _of(declared: Declared, found: Mapping[str, Item]) -> Item:
    from acme_middleware.issuance import names as identifier_names

    try:
        wanted = identifier_names.identifiers(declared.names)
        # The name of a certificate is its first name's as that is in it, where the two are the same.
        is_first = declared.name == declared.names[0]
        name = identifier_names.lineage(None if is_first else declared.name, wanted)
    except AcmeMiddlewareError as error:
        known = found.get(declared.name)
        return Item(declared.name, declared.names, known.record if known else None, declared, error)
    known = found.get(name)
    return Item(
        name,
        tuple(entry.value for entry in wanted),
        known.record if known else None,
        declared,
        known.error if known else None,
    )


def why(item: Item, trusted: bool, now: datetime) -> str | None:
    """
    Why a certificate must be issued now, in a few words, or None.

    Args:
        trusted: Whether browsers trust the CA that the options name; it counts for what is declared.
    """
    if item.record is not None and item.declared is None:
        trusted = item.record.trusted
    return renewal.due(item.record, item.names, trusted=trusted, now=now)


def authority_of(record: RenewalRecord, options: Options) -> Authority | None:
    """The CA that issued a certificate, None where neither its record nor the options say what its URL is."""
    if record.ca in authorities.AUTHORITIES:
        return authorities.AUTHORITIES[record.ca]
    for cas in (record.options.get("ca"), options.ca):
        try:
            found = authorities.find_all(str(cas)) if cas else ()
        except ConfigurationError:
            continue
        for authority in found:
            if authority.id == record.ca:
                return authority
    return None


def options_of(item: Item, options: Options) -> Options:
    """
    The options that a certificate is issued with: the configuration's where it is declared there, else its own record's.

    What is not declared stays with its CA and account, a certificate of a staging CA with that.
    """
    if item.declared is not None:
        own = item.declared
        return replace(
            options,
            certificates=(),
            profile=own.profile or options.profile,
            key_type=own.key_type or options.key_type,
            deploy=options.deploy if own.deploy is None else own.deploy,
        )
    record = item.record
    if record is None or not record.options:
        return replace(options, certificates=())
    kept = record.options
    defaults = Options()
    given: dict[str, Any] = {name: kept.get(name, getattr(defaults, name)) for name in OF_THE_CERTIFICATE}
    given |= {name: kept.get(name) for name in OF_THE_PLACE if getattr(options, name) is None}
    issuer = authority_of(record, options)
    if issuer is not None and issuer.id not in {authority.id for authority in authorities.find_all(options.ca)}:
        # An external account of another CA is of no use there.
        given |= {"ca": kept.get("ca") or issuer.id, "eab_kid": None, "eab_hmac_key": None}
    if kept.get("ca"):
        given["ca"] = _with_substitutes(kept["ca"], options.ca)
    if kept.get("eab_kid") and kept["eab_kid"] != options.eab_kid:
        given |= {"eab_kid": kept["eab_kid"], "eab_hmac_key": None}
    return replace(options, certificates=(), **given)


def _with_substitutes(kept: str, configured: str) -> str:
    """The CA that a certificate stays with, and after it the others of the list that it stands in by now."""
    own, others = authorities.find_all(kept), authorities.find_all(configured)
    if len(own) > 1 or own[0].id not in {authority.id for authority in others}:
        return kept
    return ",".join([kept, *(authority.directory for authority in others if authority.id != own[0].id)])


def too_early(
    item: Item, options: Options, failures: Mapping[str, LedgerRecord], now: datetime, *, by_hand: bool
) -> NotYet | None:
    """
    Why a certificate that is due has to wait after failures, found out without the CA's client; None where it is to be tried.

    Args:
        failures: As :func:`acme_middleware.issuance.ledger.read_all` gives them.
        by_hand: As for :meth:`acme_middleware.issuance.issuer.Issuer.issue`.
    """
    failure = failures.get(item.name)
    if failure is None or not failure.waits(now, by_hand=by_hand):
        return None
    try:
        own = options_of(item, options)
        candidates = authorities.find_all(own.ca)
    except ConfigurationError:
        return None  # the issuer says what is wrong with it
    # Where there is another CA, or where it is another account or other names that failed, the issuer decides.
    same = len(candidates) == 1 and (failure.ca, failure.account) == (candidates[0].id, account_of(own))
    return ledger.too_early(failure) if same and set(failure.names) == set(item.names) else None
