"""The account at a CA: the one in the store, or a new one whose key is saved before the CA hears of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from acme_middleware.authorities import Authority
from acme_middleware.errors import Conflict
from acme_middleware.issuance.records import AccountRecord, account_key
from acme_middleware.options import Options
from acme_middleware.protocol.account import ExternalAccount, load_key, new_key, register
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
        network.sign_as(load_key(record.key_pem.encode()), record.url)
        return record.url, False
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
