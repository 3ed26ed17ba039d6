"""
Whether all that a host needs for its part is there: of those that issue, and of those that only answer.

Each part is tried as it will be used, and what is wrong with one keeps none of the others from being tried.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator
from datetime import datetime, timedelta
from typing import Any

from acme_middleware import authorities, clock
from acme_middleware._text import without_secrets
from acme_middleware.authorities import Authority
from acme_middleware.errors import AcmeMiddlewareError
from acme_middleware.held import Held, held
from acme_middleware.issuance import deploying
from acme_middleware.issuance.failover import suited
from acme_middleware.issuance.finding import Finding, Level
from acme_middleware.issuance.lineages import open_state
from acme_middleware.issuance.published import publish_dir
from acme_middleware.issuance.records import AccountRecord, account_key, renewal_key
from acme_middleware.issuance.standing import in_words
from acme_middleware.issuance.trying_out import try_challenges
from acme_middleware.options import Options, setting_name
from acme_middleware.stores import open_challenges
from acme_middleware.stores.base import ChallengeSource, ChallengeStore, Fetch, FetchLog
from acme_middleware.stores.sealed import PRIVATE, SealedStore, sealed_with

CLOCK_WARNING = 120.0
"""Seconds that this clock may differ from a CA's before we speak of it. Issuing itself is refused from an hour on."""
SILENT = 3
"""After so many times to live without a sign of life, a lease is one that its holder left behind."""


def serving(options: Options) -> Iterator[Finding]:
    """What a web worker needs: to read tokens, and, where the store logs fetches, to log them. The state is not opened."""
    source = yield from _open_challenges(options)
    if source is None:
        return
    name = f"check-{secrets.token_urlsafe(16)}"
    yield _tried("challenge store", lambda: _reads(source, name, options))
    if isinstance(source, FetchLog):
        log = source
        try:
            log.log_fetch(name, Fetch(clock.now().timestamp(), "", "acme-middleware check"))
        except AcmeMiddlewareError as error:
            said = f"who fetches a token is not logged: {error}"
            yield Finding("log of fetches", Level.WARNING, said, error.hint)
        else:
            yield Finding("log of fetches", Level.OK, "may be written")


def issuing(options: Options) -> Iterator[Finding]:
    """What the commands need: both stores for writing, the folder of the files, the CA, and a clock that it agrees with."""
    source = yield from _open_challenges(options)
    if source is not None:
        yield _tried("challenge store", lambda: _writes(source, options))
    yield from _state(options)
    if options.deploy or any(one.deploy for one in options.certificates):
        yield _tried("deployers", lambda: _deployers(options))
    yield from _authorities(options)


def _deployers(options: Options) -> str:
    root = publish_dir(options, open_state(options, writable=None))
    found: dict[str, None] = {}
    for name in ("", *(declared.name for declared in options.certificates)):
        deploying.check(options, root, name)
        found |= dict.fromkeys(deploying.specs_of(options, name))
    return f"DEPLOY can be followed: {', '.join(found)}"


def _tried(what: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(what, Level.OK, attempt())
    except AcmeMiddlewareError as error:
        return Finding.of(what, error)


def _place(options: Options) -> tuple[str, Any]:
    """The option that says where tokens are, and what it says."""
    name = "store" if options.challenge_store is None else "challenge_store"
    return setting_name(name), getattr(options, name)


def _open_challenges(options: Options) -> Generator[Finding, None, ChallengeSource | None]:
    setting, where = _place(options)
    try:
        return open_challenges(where, option=setting)
    except AcmeMiddlewareError as error:
        yield Finding.of("challenge store", error)
        return None


def _shown(where: Any) -> str:
    return without_secrets(str(where)) if isinstance(where, str) or hasattr(where, "__fspath__") else type(where).__name__


def _reads(source: ChallengeSource, token: str, options: Options) -> str:
    source.key_authorization(token)
    return f"{_shown(_place(options)[1])} can be read"


def _writes(source: ChallengeSource, options: Options) -> str:
    shown = _shown(_place(options)[1])
    if not isinstance(source, ChallengeStore):
        return f"{shown} answers without being written to"
    try_challenges(source)
    return f"{shown}: a token was written, read back and removed"


def _state(options: Options) -> Iterator[Finding]:
    try:
        store = open_state(options, writable=True)
    except AcmeMiddlewareError as error:
        yield Finding.of("store", error)
        return
    yield Finding("store", Level.OK, f"{_shown(options.store)}: a record was written, read back and deleted")
    try:
        yield from _durability(store)
        yield from _sealing(store)
        yield from _leases(store)
        yield from _files(options, store)
    except AcmeMiddlewareError as error:  # it was there a moment ago
        yield Finding.of("store", error)


def _durability(store: SealedStore) -> Iterator[Finding]:
    ask = getattr(store.inner, "durability_warnings", None)
    if ask is None:
        return
    warnings = ask()
    for warning in warnings:
        said, _, hint = warning.partition("; ")
        yield Finding("durability", Level.WARNING, said, hint)
    if not warnings:
        yield Finding("durability", Level.OK, "what is written survives a restart of the server")


def _sealing(store: SealedStore) -> Iterator[Finding]:
    from acme_middleware.stores.directory import DirectoryStore

    plain = sealed = 0
    try:
        for kind in PRIVATE:
            for key, record in store.inner.scan(kind):
                if not record.version:  # a file that is no record: reading it by itself says what is wrong with it
                    store.get(key)
                store.opened(key, record)
                is_sealed = sealed_with(record.value) is not None
                plain, sealed = plain + (not is_sealed), sealed + is_sealed
    except AcmeMiddlewareError as error:
        yield Finding.of("encryption", error)
        return
    if store.keys and plain:
        said = f"of {plain + sealed} private records {plain} are not encrypted yet"
        yield Finding("encryption", Level.WARNING, said, "the command `keys rotate` encrypts them")
    elif store.keys:
        yield Finding("encryption", Level.OK, f"on; {sealed} private records, and all can be opened")
    elif isinstance(store.inner, DirectoryStore):
        yield Finding("encryption", Level.OK, "off; the keys are in files that only their owner reads")
    else:
        yield Finding(
            "encryption",
            Level.WARNING,
            "off; whoever reads this store, or a backup of it, has the private keys",
            "make a key with the command `keys new`, and set ACME_ENCRYPTION_KEYS or ACME_ENCRYPTION_KEYS_FILE on each host "
            "that issues",
        )


def _leases(store: SealedStore) -> Iterator[Finding]:
    found, now = held(store), clock.now()
    if not found:
        yield Finding("leases", Level.OK, "nobody holds one")
    for one in found:
        yield _lease(one, now)


def _lease(one: Held, now: datetime) -> Finding:
    said = f"{one.name} is held by {one.holder}"
    if one.since is not None:
        said += f", for {_age(now - one.since)}"
    if one.holder.is_gone():
        return Finding("leases", Level.WARNING, f"{said}; that process has died", "nothing: the next who needs it takes it")
    if one.seen is not None and (now - one.seen).total_seconds() > SILENT * one.ttl:
        said += f"; its last sign of life is {_age(now - one.seen)} old"
        hint = f"nothing, if that host is gone: who needs it waits {one.ttl:g} s and takes it. If it runs, is its clock right?"
        return Finding("leases", Level.WARNING, said, hint)
    return Finding("leases", Level.OK, said)


def _age(span: timedelta) -> str:
    """An age that clocks of two hosts may have made negative."""
    seconds = max(span.total_seconds(), 0)
    return f"{seconds:.0f} s" if seconds < 90 else in_words(span)


def _files(options: Options, store: SealedStore) -> Iterator[Finding]:
    from acme_middleware.deploy.publish import check_publishable

    root = publish_dir(options, store)
    if root is None:
        yield Finding("files", Level.OK, "none are written: PUBLISH_DIR is not set")
        return
    names = [key.partition("/")[2] for key, _ in store.scan(renewal_key(""))]

    def attempt() -> str:
        check_publishable(root, *names, owner=options.owner, group=options.group)
        return f"{root} can be written"

    yield _tried("files", attempt)


def _authorities(options: Options) -> Iterator[Finding]:
    try:
        found = authorities.find_all(options.ca)
    except AcmeMiddlewareError as error:
        yield Finding.of("CA", error)
        return
    for authority in found:
        try:
            yield from _authority(authority, options)
        except AcmeMiddlewareError as error:
            yield Finding.of(f"CA {authority.id}", error)


def _authority(authority: Authority, options: Options) -> Iterator[Finding]:
    from acme_middleware.issuance.conversation import Conversation  # it brings the ACME client

    what = f"CA {authority.id}"
    conversation = Conversation(authority, suited(options, [authority], authority).ca_bundle)
    conversation.close()
    directory = conversation.directory
    yield Finding(what, Level.OK, f"{authority.title} answers at {authority.directory}")
    ahead = directory.clock_ahead
    if ahead is None:
        yield Finding("clock", Level.OK, f"{authority.title} does not say what time it is")
    elif abs(ahead) > CLOCK_WARNING:
        said = f"this machine's clock is {_age(timedelta(seconds=abs(ahead)))} {'ahead of' if ahead > 0 else 'behind'} the CA's"
        yield Finding("clock", Level.WARNING, said, "set it: timedatectl set-ntp true")
    else:
        yield Finding("clock", Level.OK, f"within {max(1, round(abs(ahead)))} s of the CA's")
    if directory.terms and not options.agree_tos and not _is_registered(authority, options):
        said = f"{authority.title} has terms of service, and nobody has agreed to them: {directory.terms}"
        yield Finding(what, Level.WARNING, said, "read them, then pass --agree-tos or set ACME_AGREE_TOS")


def _is_registered(authority: Authority, options: Options) -> bool:
    try:
        account = AccountRecord.read(open_state(options), account_key(authority.id, options.eab_kid or "default"))
    except AcmeMiddlewareError:
        return True  # what is wrong with the store was said above
    return account is not None and bool(account.url)
