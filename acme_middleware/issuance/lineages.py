"""Certificates that are in a store, found by what a person calls them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from acme_middleware.errors import ConfigurationError, NameRefused, NoSuchCertificate
from acme_middleware.issuance.names import identifier
from acme_middleware.issuance.records import CertificateRecord, certificate_key, order_key, renewal_key
from acme_middleware.options import Options
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.base import ChallengeSource, Connected, Store, key
from acme_middleware.stores.sealed import SealedStore


def open_state(options: Options, *, writable: bool | None = False) -> SealedStore:
    """
    Open the store of accounts and certificates, and try that it answers. Whatever reads or writes them opens it here: what
    is private is sealed where ENCRYPTION_KEYS are set, and a sealed record is refused where they are not.

    Args:
        writable: Try that it can be written to as well, and make what it needs; None: try nothing, it may not be there yet.

    Raises:
        ConfigurationError: none is set.
        StoreMisconfigured, StoreUnavailable: from the store.
    """
    if options.store is None:
        raise ConfigurationError(
            "no store is set",
            hint="set ACME_STORE or pass --store, for example file:///var/lib/acme-middleware",
            option="store",
        )
    store = _sealed(open_store(options.store), options)
    if writable is not None:
        store.check(writable=writable)
    return store


@contextmanager
def state(options: Options, *, writable: bool | None = False) -> Iterator[SealedStore]:
    """
    The store, opened as by :func:`open_state`, for the length of a ``with`` block: its connections are given back at the end.
    """
    store = open_state(options, writable=writable)
    try:
        yield store
    finally:
        give_back(store, options.store)


def give_back(store: Store | ChallengeSource, where: object) -> None:
    """
    Give back the connections of a store that was opened by the option's value ``where``; it can be used again.

    A program that goes on would leave them to the garbage collector, and for longer with an error that keeps all that led to
    it. A store that is given as an object is its owner's, who may be using it.
    """
    if isinstance(where, str) and isinstance(store, Connected):
        store.close_connections()


def _sealed(store: Store, options: Options) -> SealedStore:
    if not isinstance(store, SealedStore):
        return SealedStore(store, options.encryption_keys or ())
    if options.encryption_keys is not None:
        raise ConfigurationError(
            "the store is a SealedStore with keys of its own, and ENCRYPTION_KEYS are set as well",
            hint="pass the store that is inside of it, or leave ENCRYPTION_KEYS out",
            option="encryption_keys",
        )
    return store


def open_tokens(options: Options) -> ChallengeSource:
    """Open the store of tokens: CHALLENGE_STORE, or the one that has all the rest."""
    return open_challenges(options.store if options.challenge_store is None else options.challenge_store)


def known_as(store: Store, name: str) -> str:
    """
    The name that a certificate is stored under: as typed, or as the host name that it spells (``Bücher.example``).

    No record is read for it, so that damaged ones are found as well.

    Raises:
        NoSuchCertificate: nothing of that name is stored.
    """
    spellings = [name]
    with suppress(NameRefused):  # a --name that is no host name
        spellings.append(identifier(name).value)
    for spelling in spellings:
        if any(store.get(where(spelling)) is not None for where in (renewal_key, certificate_key, order_key)):
            return spelling
    for spelling in spellings:
        if failures_of(store, spelling):
            return spelling  # it was tried, and never issued
    names = [where.partition("/")[2] for where, _ in store.scan(renewal_key(""))]
    near = difflib.get_close_matches(spellings[-1], names, n=1)
    raise NoSuchCertificate(
        f"there is no certificate {name!r} in the store" + (f"; did you mean {near[0]}?" if near else ""),
        hint="`status` lists what there is; is --store the one that it was issued into?",
        name=name,
    )


def certificate(store: Store, name: str) -> CertificateRecord:
    """
    The certificate of a name, with its key and chain.

    Raises:
        NoSuchCertificate: there is none.
        StoreMisconfigured: it is damaged.
    """
    lineage = known_as(store, name)
    made = CertificateRecord.read(store, certificate_key(lineage))
    if made is None:
        raise NoSuchCertificate(
            f"the store has no certificate {lineage}, only a record of its renewal, of an order or of failures",
            hint="restore it from a backup, or issue it again with --force",
            name=lineage,
        )
    return made


def failures_of(store: Store, lineage: str) -> list[str]:
    """
    The keys of what the ledger says of a certificate, damaged records too.

    They are by CA and set of names, so each is asked whose it is.
    """
    found = []
    for where, record in store.scan(key("ledger", "")):
        try:
            document = json.loads(record.value)
        except ValueError:
            continue  # nobody's, and somebody else's to report
        if isinstance(document, dict) and document.get("name") == lineage:
            found.append(where)
    return found
