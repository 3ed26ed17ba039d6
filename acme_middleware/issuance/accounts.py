"""The account at a CA: the one in the store, or a new one whose key is saved before the CA hears of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from acme_middleware.authorities import Authority
from acme_middleware.errors import Conflict
from acme_middleware.issuance.records import AccountRecord, account_key
from acme_middleware.options import Options
from acme_middleware.protocol.account import ExternalAccount, find_account, load_key, new_key, register
from acme_middleware.protocol.directory import Directory
from acme_middleware.protocol.network import Network
from acme_middleware.stores.base import Expect, Store


def open_account(
    network: Network, directory: Directory, authority: Authority, options: Options, store: Store
) -> tuple[str, bool]:
    """
    Make the network sign as our account at a CA, registering it if need be.

    Two commands that register at once end up with one account: the key that was saved first is the key of both.

    Returns:
        The account's URL, and whether it was created just now.

    Raises:
        TermsNotAgreed, ConfigurationError, CARefused, CAUnreachable, UnexpectedAnswer: as
            :func:`acme_middleware.protocol.account.register`.
    """
    where = account_key(authority.id, options.eab_kid or "default")
    record = AccountRecord.read(store, where)
    if record is not None and record.url and record.directory == authority.directory:
        return sign_in(network, directory, store, where, record).url, False
    if record is None:
        record = AccountRecord(
            directory=authority.directory,
            key_pem=new_key().decode(),
            email=options.email or "",
            eab_kid=options.eab_kid or "",
        )
        try:
            record = replace(record, version=record.write(store, where, expect=Expect.ABSENT))
        except Conflict:
            return open_account(network, directory, authority, options, store)
    url, created = register(
        network,
        directory,
        load_key(record.key_pem.encode()),
        email=options.email,
        agree_tos=options.agree_tos,
        external=_external(options),
    )
    record = replace(record, url=url, directory=authority.directory)
    try:
        record.write(store, where, expect=record.version)
    except Conflict:
        # A peer registered the same key, so it has saved the same URL.
        return open_account(network, directory, authority, options, store)
    return url, created


def sign_in(network: Network, directory: Directory, store: Store, where: str, record: AccountRecord) -> AccountRecord:
    """
    Make the network sign as an account of the store.

    Where a change of its key was cut off, the CA is asked which key it knows: that costs one request, until it is settled.

    Returns:
        The record, with the key that the CA knows as ``key_pem``.
    """
    if record.next_key_pem:
        record = settle(network, directory, store, where, record)
    network.sign_as(load_key(record.key_pem.encode()), record.url)
    return record


def settle(network: Network, directory: Directory, store: Store, where: str, record: AccountRecord) -> AccountRecord:
    """
    Find out whether the CA has changed to ``next_key_pem``, and save it as the key if so.

    If not, the record stays as it is: another process may be about to ask the CA for the change.
    """
    if find_account(network, directory, load_key(record.next_key_pem.encode())) != record.url:
        return record
    return promote(store, where, record)


def promote(store: Store, where: str, record: AccountRecord) -> AccountRecord:
    """Save the next key of an account as its key, since the CA knows it."""
    settled = replace(record, key_pem=record.next_key_pem, next_key_pem="")
    # Whoever was faster has saved the same, or has changed the key again: then his is the word.
    with suppress(Conflict):
        return replace(settled, version=settled.write(store, where, expect=record.version))
    now = AccountRecord.read(store, where)
    return settled if now is None or now.next_key_pem else now


def forget_account(url: str, authority: Authority, options: Options, store: Store) -> None:
    """
    Forget the account at ``url``, which the CA says it does not know (RFC 8555 section 6.7, accountDoesNotExist).

    The one that another process may have made in its place by now is kept.
    """
    where = account_key(authority.id, options.eab_kid or "default")
    record = AccountRecord.read(store, where)
    if record is not None and record.url == url:
        with suppress(Conflict):  # another process has just done the same
            store.delete(where, expect=record.version)


def _external(options: Options) -> ExternalAccount | None:
    if options.eab_kid is None or options.eab_hmac_key is None:
        return None
    return ExternalAccount(options.eab_kid, options.eab_hmac_key)
