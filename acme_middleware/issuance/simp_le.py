"""
What simp_le did, by the issuer of this package: the certificate of a folder, whose files have the names that were asked for.

The files are what counts, as they did there. Beside them, in ``.acme-middleware``, is what a run that is killed or fails has to
leave to the next one: the account, the order under way, the failures so far, and the certificate until its files are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from acme_middleware import authorities, clock, events
from acme_middleware.authorities import Authority
from acme_middleware.deploy.replacing import Content, replace_files, try_replacing
from acme_middleware.errors import ConfigurationError, Conflict
from acme_middleware.foreign import Account, Found, Lineage, pems, simp_le_files
from acme_middleware.foreign.simp_le_files import HOLDS, NEEDED, PRIVATE, Held
from acme_middleware.foreign.tree import Damaged
from acme_middleware.issuance import lineages, revoking
from acme_middleware.issuance import names as identifier_names
from acme_middleware.issuance.certificate import facts
from acme_middleware.issuance.conversation import Conversation
from acme_middleware.issuance.failover import account_of, suited
from acme_middleware.issuance.importing import bring_in
from acme_middleware.issuance.issuer import Action, Issuer
from acme_middleware.issuance.records import (
    AccountRecord,
    CertificateRecord,
    RenewalRecord,
    account_key,
    certificate_key,
    renewal_key,
)
from acme_middleware.options import Options
from acme_middleware.protocol.account import find_account, load_key
from acme_middleware.stores.base import Store
from acme_middleware.stores.webroots import WebrootsChallengeStore

STATE, LOCK = ".acme-middleware", ".files"
NAME = "simp_le"
"""What a folder's certificate is known by in its state: it stays the same when the names change."""

VALID_MIN = timedelta(days=30)
"""How long a certificate must be good for where nothing else is said; of one that lives shorter than 90 days, a third."""

ACCOUNT_KEY_SIZE, ACCOUNT_KEY_EXPONENT = 4096, 65537


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    What simp_le was asked for.

    Attributes:
        files: Their names, of :data:`acme_middleware.foreign.simp_le_files.HOLDS`.
        folder: Where the files are.
        names: The names, each with the folder that is served as ``/`` there.
        valid_min: How long the certificate must be good for; None: VALID_MIN.
        by_hand: A person waits, who may have put right what failed.
    """

    files: Sequence[str]
    folder: Path
    names: Sequence[tuple[str, Path]] = ()
    valid_min: timedelta | None = None
    account_key_size: int = ACCOUNT_KEY_SIZE
    account_key_exponent: int = ACCOUNT_KEY_EXPONENT
    by_hand: bool = True


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it: the files that were written, and whether a certificate was ``issued`` for that."""

    files: tuple[str, ...]
    issued: bool
    names: tuple[str, ...]
    not_after: datetime


def simp_le(job: Job, options: Options, listener: events.Listener = events.log) -> Done | None:
    """
    See to it that the files have a certificate for these names that is good for long enough.

    Returns:
        None where they have.

    Raises:
        ConfigurationError: the files are not to hold all that a certificate needs, cannot be read, contradict each other, or
            cannot be written. Nothing was asked of the CA.
        AcmeMiddlewareError: as :meth:`acme_middleware.issuance.issuer.Issuer.issue`.
    """
    if uncovered := simp_le_files.uncovered(job.files):
        raise ConfigurationError(
            f"no file is to hold the {' and the '.join(uncovered)}",
            hint="name files with -f that hold key, certificate and chain: -f key.pem -f fullchain.pem, or -f full.pem",
        )
    wanted = [entry.value for entry in identifier_names.identifiers([name for name, _ in job.names])]
    options = _of_folder(job, options)
    store = lineages.open_state(options, writable=None)
    held = _load(job, store)
    lineage = _lineage(held)
    good = lineage is not None and set(lineage.names) == set(wanted) and _is_good(job, lineage, store)
    if good and not any(HOLDS[name] & set(NEEDED) for name in held.missing):
        return None
    store.check(writable=True)
    lock = job.folder / STATE / LOCK
    try_replacing(job.folder, [Content(name, b"", name in PRIVATE) for name in job.files], lock=lock)
    _take_in(job, held, lineage, options, store)
    if options.reuse_key:
        options = _reusing(options, held, lineage, store)
    _let_be_due(job, store)
    outcome = Issuer(options, listener=listener).issue(wanted, name=NAME, drop_names=True, by_hand=job.by_hand)
    files = replace_files(job.folder, lambda: _newest(job, options, store), lock=lock)
    issued = outcome.action in (Action.ISSUED, Action.RENEWED)
    return Done(files, issued, outcome.record.names, outcome.record.not_after)


def revoke(job: Job, options: Options) -> revoking.Revocation:
    """
    Have the certificate of the files revoked, signed for by its own key, else by the account. The files stay as they are.

    Raises:
        ConfigurationError: the files have no certificate, or neither its key nor an account.
        AcmeMiddlewareError: as :func:`acme_middleware.issuance.revoking.revoke_file`.
    """
    options = _of_folder(job, options)
    store = lineages.open_state(options, writable=True)
    held = _load(job, store)
    if not held.cert_pem:
        raise ConfigurationError(
            "there is no certificate to revoke", hint="name the file that it is in with -f, and be in its folder"
        )
    if held.account_key_pem and not held.key_pem:
        authority = authorities.find_all(options.ca)[0]
        conversation = Conversation(authority, suited(options, [authority], authority).ca_bundle)
        try:
            url = find_account(conversation.network, conversation.directory, load_key(held.account_key_pem.encode()))
        finally:
            conversation.close()
        held = replace(held, account={"uri": url})
    _take_in(job, held, None, options, store)
    key_pem = held.key_pem.encode() or None
    return revoking.revoke_file(options, held.cert_pem.encode(), reason="unspecified", key_pem=key_pem)


def _of_folder(job: Job, options: Options) -> Options:
    """The options, but with the state in the job's folder, and the tokens where its names are served from."""
    return replace(
        options,
        store=job.folder / STATE,
        challenge_store=WebrootsChallengeStore(root for _, root in job.names),
        publish_dir=None,
        owner=None,
        group=None,
        certificates=(),
        deploy=(),  # the deployers of this host are for the certificates of its store
        encryption_keys=None,  # the keys stand in the files as well
    )


def _load(job: Job, store: Store) -> Held:
    of_account = [name for name in job.files if not HOLDS[name] & set(NEEDED)]
    others = [name for name in job.files if name not in of_account]
    try:
        account = simp_le_files.load(job.folder, of_account)
        try:
            held = simp_le_files.load(job.folder, others)
        except Damaged:
            # Killed while it was replacing them, the run before left some old and some new. What it had got is in the state.
            if store.get(certificate_key(NAME)) is None:
                raise
            held = Held(missing=tuple(others))
    except Damaged as error:
        raise ConfigurationError(
            f"the files in {job.folder} are damaged: {error}", hint="restore them, or delete them to get a new certificate"
        ) from error
    return replace(
        held, account_key_pem=account.account_key_pem, account=account.account, missing=(*held.missing, *account.missing)
    )


def _lineage(held: Held) -> Lineage | None:
    """The certificate of the files, None where one of its parts is not there."""
    if not (held.key_pem and held.cert_pem and held.chain_pem):
        return None
    pair = pems.pair(held.key_pem.encode(), held.cert_pem.encode(), held.chain_pem.encode())
    return Lineage(name=NAME, **pair._asdict(), account_url=held.account_url)


def _ends_too_soon(job: Job, not_before: datetime, not_after: datetime) -> bool:
    valid_min = min(VALID_MIN, (not_after - not_before) / 3) if job.valid_min is None else job.valid_min
    return not_after - clock.now() < valid_min


def _is_good(job: Job, lineage: Lineage, store: Store) -> bool:
    """Whether a certificate lives long enough, and was not revoked by us."""
    record = RenewalRecord.read(store, renewal_key(NAME))
    leaf = x509.load_pem_x509_certificate(lineage.cert_pem.encode())
    revoked = record is not None and bool(record.revoked) and record.fingerprint == facts(leaf).fingerprint
    return not revoked and not _ends_too_soon(job, lineage.not_before, lineage.not_after)


def _take_in(job: Job, held: Held, lineage: Lineage | None, options: Options, store: Store) -> None:
    """Let the state have what the files have: they count, unless the state has a newer certificate."""
    authority = authorities.find_all(options.ca)[0]
    where = account_key(authority.id, account_of(suited(options, [authority], authority)))
    found = Found()
    if held.account_key_pem:
        found.accounts.append(_account(held, authority, options))
    elif "account_key.json" in held.missing and store.get(where) is None:
        # The kind that simp_le makes, since it may be used again.
        key = rsa.generate_private_key(job.account_key_exponent, job.account_key_size)
        found.accounts.append(_account(replace(held, account_key_pem=pems.to_pem(key)), authority, options))
    stored = CertificateRecord.read(store, certificate_key(NAME))
    if lineage is not None and (stored is None or _begin(stored) < lineage.not_before):
        found.lineages.append(replace(lineage, directory=authority.directory))
    bring_in(store, found, options, force=True)


def _account(held: Held, authority: Authority, options: Options) -> Account:
    # The URL is that of the account at the CA that it was registered at, which may have been another one.
    same = urlsplit(held.account_url).netloc == urlsplit(authority.directory).netloc
    return Account(
        directory=authority.directory,
        url=held.account_url if same else "",
        key_pem=held.account_key_pem,
        email=options.email or "",
    )


def _begin(record: CertificateRecord) -> datetime:
    return x509.load_pem_x509_certificate(record.cert_pem.encode()).not_valid_before_utc


def _reusing(options: Options, held: Held, lineage: Lineage | None, store: Store) -> Options:
    """The options for a certificate with the key that there is, of whatever kind that is."""
    stored = CertificateRecord.read(store, certificate_key(NAME))
    if held.key_pem and lineage is None and (stored is None or stored.key_pem != held.key_pem):
        raise ConfigurationError(
            "a key without its certificate cannot be used again",
            hint="leave --reuse_key out to get a new key, or name the files of its certificate and chain with -f",
        )
    return options if stored is None else replace(options, key_type=stored.key_type)


def _let_be_due(job: Job, store: Store) -> None:
    record = RenewalRecord.read(store, renewal_key(NAME))
    if record is not None and _ends_too_soon(job, record.not_before, record.not_after):
        due = replace(record, renew_after=min(clock.now(), record.renew_after))
        with suppress(Conflict):  # another run has just renewed it
            due.write(store, renewal_key(NAME), expect=record.version)


def _newest(job: Job, options: Options, store: Store) -> list[Content]:
    """What is to stand in the files that do not say it yet."""
    made = lineages.certificate(store, NAME)
    now = _now(made, AccountRecord.read(store, account_key(made.ca, account_of(options))))
    held = _load(job, store)
    return [Content(name, simp_le_files.content(name, now), name in PRIVATE) for name in job.files if _differs(name, held, now)]


def _now(made: CertificateRecord, account: AccountRecord | None) -> Held:
    said = {}
    if account is not None and account.url:
        said = {"body": {"contact": [f"mailto:{account.email}"] if account.email else []}, "uri": account.url}
    return Held(made.key_pem, made.cert_pem, made.chain_pem, account.key_pem if account is not None else "", said)


def _differs(name: str, held: Held, now: Held) -> bool:
    """Whether a file has to be written: one that says the same is left alone, however it says it."""
    if name == "account_key.json":
        return bool(now.account_key_pem) and held.account_key_pem != now.account_key_pem
    if name == "account_reg.json":
        return bool(now.account_url) and held.account_url != now.account_url
    before = (held.key_pem, held.cert_pem, held.chain_pem)
    return name in held.missing or before != (now.key_pem, now.cert_pem, now.chain_pem)
