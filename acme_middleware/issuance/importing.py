"""Take over what another ACME client has: accounts, so that the CA goes on with the same, and certificates with keys."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from acme_middleware import authorities
from acme_middleware.authorities import Authority
from acme_middleware.errors import AcmeMiddlewareError, ConfigurationError, RecordSealed, StoreMisconfigured, StoreUnavailable
from acme_middleware.foreign import Account, Found, Lineage
from acme_middleware.issuance import names as identifier_names
from acme_middleware.issuance.failover import account_of, suited
from acme_middleware.issuance.records import AccountRecord, CertificateRecord, account_key, certificate_key, renewal_key
from acme_middleware.issuance.renewal import write_public
from acme_middleware.lease import lease
from acme_middleware.options import Options
from acme_middleware.stores.base import Expect, Store


class Step(NamedTuple):
    """
    What became of one account or certificate.

    Attributes:
        kind: "account" or "certificate".
        name: The certificate's name; of an account its URL.
        action: "imported", "there" (the same is in the store), "kept" (the store has another, which stays) or "refused".
        reason: Why it was kept or refused.
    """

    kind: str
    name: str
    action: str
    reason: str = ""
    ca: str = ""
    names: tuple[str, ...] = ()
    not_after: datetime | None = None


def bring_in(store: Store, found: Found, options: Options, *, dry_run: bool = False, force: bool = False) -> list[Step]:
    """
    Save accounts and certificates that are not in the store.

    What is in it stays, unless ``force`` is given: the store may have renewed since the other client did. One that cannot be
    taken over stops no other. Doing it twice changes nothing.

    Args:
        options: CA says which CA is meant where the other client's files name only its host.
        dry_run: Save nothing, and say what would be done.

    Raises:
        StoreUnavailable, StoreMisconfigured: from the store.
    """
    steps = [Step("certificate", trouble.name, "refused", trouble.reason) for trouble in found.troubles]
    taken: set[str] = set()
    used = Counter(lineage.account_url for lineage in found.lineages)
    # The store has one account for each CA: that of most certificates comes first.
    for account in sorted(found.accounts, key=lambda account: -used[account.url]):
        try:
            steps.append(_account(store, account, options, taken, dry_run=dry_run, force=force))
        except (ConfigurationError, StoreMisconfigured) as error:
            steps.append(Step("account", account.url or account.host, "refused", _words(error)))
    for lineage in found.lineages:
        try:
            steps.append(_certificate(store, lineage, options, dry_run=dry_run, force=force))
        except StoreUnavailable:
            raise
        except AcmeMiddlewareError as error:
            steps.append(Step("certificate", lineage.name, "refused", _words(error), names=lineage.names))
    return steps


def _account(store: Store, account: Account, options: Options, taken: set[str], *, dry_run: bool, force: bool) -> Step:
    authority = authority_of(account.directory, account.host, options)
    where = account_key(authority.id, account.eab_kid or account_of(suited(options, [authority], authority)))
    step = Step("account", account.url or "an account that is not registered yet", "imported", ca=authority.id)
    if where in taken:
        return step._replace(
            action="kept", reason="the store has one account for each CA, and took the one of most certificates"
        )
    taken.add(where)
    there = AccountRecord.read(store, where)
    if there is not None and _same_key(there.key_pem, account.key_pem):
        return step._replace(action="there")
    if there is not None and not force:
        return step._replace(action="kept", reason=f"the store has another account at {authority.title}; --force replaces it")
    if not dry_run:
        AccountRecord(
            directory=authority.directory,
            key_pem=account.key_pem,
            url=account.url,
            email=account.email,
            eab_kid=account.eab_kid,
        ).write(store, where, expect=Expect.ABSENT if there is None else there.version)
    return step


def _certificate(store: Store, lineage: Lineage, options: Options, *, dry_run: bool, force: bool) -> Step:
    if not lineage.name.isprintable():  # bytes that are no text, in the name of a file
        raise ConfigurationError("its name has characters that cannot be shown", hint="rename its files")
    wanted = identifier_names.identifiers(lineage.names)
    name = identifier_names.lineage(lineage.name, wanted)
    authority = authority_of(lineage.directory, lineage.host, options)
    made = CertificateRecord(
        name=name,
        names=tuple(entry.value for entry in wanted),
        ca=authority.id,
        trusted=authority.trusted,
        account_url=lineage.account_url,
        profile=str(lineage.options.get("profile", "")),
        key_type=lineage.key_type or options.key_type,
        issued_at=lineage.not_before,
        key_pem=lineage.key_pem,
        cert_pem=lineage.cert_pem,
        chain_pem=lineage.chain_pem,
        options={
            "ca": authority.id if authority.id in authorities.AUTHORITIES else authority.directory,
            "key_type": lineage.key_type or options.key_type,
            **({"eab_kid": options.eab_kid} if options.eab_kid else {}),
            **lineage.options,
        },
    )
    step = Step("certificate", name, "imported", "", authority.id, made.names, lineage.not_after)
    there = _there(store, made, step, force=force)
    if there is not None or dry_run:
        return there or step
    with lease(store, name, wait=options.wait) as held:
        there = _there(store, made, step, force=force)
        if there is not None:
            return there
        before = store.get(certificate_key(name))
        held.check()
        version = made.write(store, certificate_key(name), expect=before.version if before else Expect.ABSENT)
        write_public(store, replace(made, version=version))
    return step


def _there(store: Store, made: CertificateRecord, step: Step, *, force: bool) -> Step | None:
    """What to say where the store has that name already, None where the certificate is to be saved."""
    try:
        there = CertificateRecord.read(store, certificate_key(made.name))
    except RecordSealed:
        raise
    except StoreMisconfigured:
        return None if force else step._replace(action="kept", reason="the store's own is damaged; --force replaces it")
    if there is None:
        return None
    if there.cert_pem == made.cert_pem:
        # Killed between the two, the first time saved the one record without the other.
        return step._replace(action="there") if store.get(renewal_key(made.name)) is not None else None
    return (
        None
        if force
        else step._replace(action="kept", reason="the store has another certificate of that name; --force replaces it")
    )


def authority_of(directory: str, host: str, options: Options) -> Authority:
    """
    The CA that another client's files speak of.

    Raises:
        ConfigurationError: they name a host, and no CA that is known there.
    """
    if directory:
        return authorities.find(directory)
    configured = authorities.find_all(options.ca)
    if not host:
        return configured[0]
    for authority in (*configured, *authorities.AUTHORITIES.values()):
        if urlsplit(authority.directory).netloc.replace(":", "_") == host.replace(":", "_"):
            return authority
    raise ConfigurationError(
        f"its CA is at {host}, and the URL of the directory there is not in the files",
        hint="name it with --ca",
        option="ca",
    )


def _same_key(one: str, other: str) -> bool:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        keys = [load_pem_private_key(pem.encode(), None).public_key() for pem in (one, other)]
    except (ValueError, TypeError):
        return False
    return keys[0] == keys[1]


def _words(error: AcmeMiddlewareError) -> str:
    return "; ".join(filter(None, [str(error), error.hint.replace("\n", " ")]))
