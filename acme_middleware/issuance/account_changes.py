"""What is done about an account by itself: looking at it, another address, another key, its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from acme_middleware import authorities
from acme_middleware.authorities import Authority
from acme_middleware.errors import CARefused, CAUnreachable, ConfigurationError, UnexpectedAnswer
from acme_middleware.issuance import lineages
from acme_middleware.issuance.accounts import promote, settle, sign_in
from acme_middleware.issuance.conversation import Conversation
from acme_middleware.issuance.failover import account_of, suited
from acme_middleware.issuance.records import AccountRecord, account_key
from acme_middleware.lease import lease
from acme_middleware.options import Options
from acme_middleware.protocol.account import (
    Account,
    change_key,
    deactivate_account,
    fetch_account,
    load_key,
    new_key,
    thumbprint,
    update_account,
)
from acme_middleware.stores.base import Store, key

NOT_OURS_ANY_MORE = {"unauthorized", "accountDoesNotExist"}


@dataclass(frozen=True, slots=True)
class Held:
    """An account of the store, its CA spoken to, and nobody else changing it."""

    store: Store
    where: str
    authority: Authority
    record: AccountRecord
    conversation: Conversation


@dataclass(frozen=True, slots=True)
class Shown:
    """
    An account, as the CA and the store know it.

    Attributes:
        thumbprint: Of its key: what the answers to its challenges end in, and what a ``thumbprint:`` store is given.
        terms: The URL of the CA's terms of service, or "".
    """

    ca: str
    directory: str
    url: str
    status: str
    contact: tuple[str, ...]
    email: str
    eab_kid: str
    thumbprint: str
    terms: str


def show(options: Options) -> Shown:
    """Ask the CA about the account. Raises ConfigurationError where the store has none; and as a conversation does."""
    with _held(options) as held:
        return _shown(held, fetch_account(held.conversation.network))


def update(options: Options, *, email: str | None, agree_tos: bool = False) -> Shown:
    """
    Change the contact address at the CA, then in the store.

    Args:
        email: "" for none any more, None to leave it.
        agree_tos: Tell the CA that its terms are agreed to.
    """
    with _held(options) as held:
        now = update_account(held.conversation.network, email=email, agree_tos=agree_tos)
        record = held.record if email is None else replace(held.record, email=email)
        record = replace(record, version=record.write(held.store, held.where, expect=held.record.version))
        return _shown(replace(held, record=record), now)


def rollover(options: Options) -> Shown:
    """
    Give the account a new key.

    The new key is in the store before the CA hears of it, so wherever this is killed the account works: the next command that
    needs it asks the CA which of the two it knows. A change that was cut off is gone on with.
    """
    with _held(options) as held:
        network, directory = held.conversation.network, held.conversation.directory
        record = held.record
        if not record.next_key_pem:
            record = replace(record, next_key_pem=new_key().decode())
            record = replace(record, version=record.write(held.store, held.where, expect=held.record.version))
        try:
            change_key(network, directory, load_key(record.next_key_pem.encode()))
            # The old key goes only when the new one has been taken: a CA was seen that agreed to a change and made none.
            fetch_account(network)
        except (CAUnreachable, UnexpectedAnswer, CARefused) as error:
            # The answer may be lost, and what it answered done.
            with suppress(CAUnreachable, UnexpectedAnswer, CARefused):
                record = settle(network, directory, held.store, held.where, record)
            if record.next_key_pem:
                if isinstance(error, CARefused) and error.status < 500 and error.status != 429:
                    replace(record, next_key_pem="").write(held.store, held.where, expect=record.version)
                raise
        else:
            record = promote(held.store, held.where, record)
        network.sign_as(load_key(record.key_pem.encode()), record.url)
        return _shown(replace(held, record=record), fetch_account(network))


def deactivate(options: Options) -> tuple[Shown, bool]:
    """
    End the account at the CA for ever, and forget its key.

    Certificates stay valid; the next order registers a new account, if the terms are agreed to.

    Returns:
        The account, and whether the CA ended it just now; False: it does not take the account's key (any more).
    """
    with _held(options) as held:
        ended = True
        try:
            deactivate_account(held.conversation.network)
        except CARefused as error:
            if error.problem.type not in NOT_OURS_ANY_MORE:
                raise
            ended = False
        held.store.delete(held.where, expect=held.record.version)
        return _shown(held, Account(held.record.url, "deactivated" if ended else "unknown", ())), ended


@contextmanager
def _held(options: Options) -> Iterator[Held]:
    store = lineages.open_state(options)
    authority = authorities.find_all(options.ca)[0]
    options = suited(options, [authority], authority)
    where = account_key(authority.id, account_of(options))
    # No certificate has a name with a slash.
    with lease(store, f"account/{authority.id}/{account_of(options)}", wait=options.wait):
        record = AccountRecord.read(store, where)
        if record is None or not record.url:
            raise _none(store, authority)
        conversation = Conversation(authority, options.ca_bundle)
        try:
            record = sign_in(conversation.network, conversation.directory, store, where, record)
            yield Held(store, where, authority, record, conversation)
        finally:
            conversation.close()


def _none(store: Store, authority: Authority) -> ConfigurationError:
    places = sorted({where.split("/")[1] for where, _ in store.scan(key("account", ""))} - {authority.id})
    others = f"it has one at {', '.join(places)}: choose with --ca; " if places else ""
    return ConfigurationError(
        f"the store has no account at {authority.title}",
        hint=f"{others}the first certificate that is issued registers one",
        option="ca",
    )


def _shown(held: Held, said: Account) -> Shown:
    return Shown(
        ca=held.authority.title,
        directory=held.authority.directory,
        url=said.url,
        status=said.status,
        contact=said.contact,
        email=held.record.email,
        eab_kid=held.record.eab_kid,
        thumbprint=thumbprint(load_key(held.record.key_pem.encode())),
        terms=held.conversation.directory.terms,
    )
