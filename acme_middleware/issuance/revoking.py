"""
Revoke a certificate, one of the store or one in a file, and see to it that its successor comes.

The CA is told first and the records are marked then: killed in between, the same command hears that it was revoked already.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from cryptography import x509

from acme_middleware import authorities
from acme_middleware.authorities import Authority
from acme_middleware.errors import CARefused, ConfigurationError, StoreMisconfigured
from acme_middleware.issuance import accounts, keys, lineages, plan
from acme_middleware.issuance.certificate import facts
from acme_middleware.issuance.conversation import Conversation
from acme_middleware.issuance.failover import account_of, suited
from acme_middleware.issuance.marking import mark_all
from acme_middleware.issuance.records import (
    KEY_COMPROMISE,
    AccountRecord,
    CertificateRecord,
    Stored,
    account_key,
    certificate_key,
)
from acme_middleware.issuance.renewal import record_of
from acme_middleware.options import Options
from acme_middleware.protocol.revocation import REASONS
from acme_middleware.protocol.revocation import revoke as tell
from acme_middleware.stores.sealed import SealedStore

Kept = TypeVar("Kept", bound=Stored)


class Revocation(NamedTuple):
    """
    What came of it.

    Attributes:
        names: What the certificate is for.
        serial: Its serial number, in lower-case hexadecimal.
        ca: The name of the CA for people.
        by: Who signed: "account" or "key", the certificate's own.
        already: It had been revoked before.
        due: The certificates of the store that are due now because of it.
        unread: The records that were looked into for the certificate, or for its key, and that cannot be read: damaged, or
            sealed with a key that is not set. What is in there is as it was: revoke again when they can be read.
    """

    names: tuple[str, ...]
    serial: str
    ca: str
    by: str
    already: bool
    reason: str
    due: tuple[str, ...]
    unread: tuple[str, ...] = ()


class _Signer(NamedTuple):
    where: str
    account: AccountRecord | None
    key_pem: bytes | None


def revoke_stored(options: Options, name: str, *, reason: str, key_pem: bytes | None = None) -> Revocation:
    """
    Revoke a certificate of the store: by its account, or for a compromised key by that key, as a proof that it is known.

    Afterwards it is due; after ``keyCompromise`` its key is never used again, whatever REUSE_KEY says.

    Args:
        reason: One of :data:`acme_middleware.protocol.revocation.REASONS`.
        key_pem: Sign with this, the certificate's own key.

    Raises:
        NoSuchCertificate, ConfigurationError, StoreMisconfigured: nothing was sent.
        CARefused, CAUnreachable, UnexpectedAnswer, LeaseHeld, StoreUnavailable: as they say.
        LeaseLost, Conflict: it is revoked, and another process has taken over its records before they were marked.
    """
    _refuse_reason(reason)
    with lineages.state(options) as store:
        return _revoke_made(options, store, lineages.certificate(store, name), reason, key_pem)


def _refuse_reason(reason: str) -> None:
    if reason not in REASONS:
        raise ConfigurationError(f"{reason!r} is no reason", hint=f"the reasons are: {', '.join(REASONS)}", option="reason")


def _revoke_made(
    options: Options, store: SealedStore, made: CertificateRecord, reason: str, key_pem: bytes | None
) -> Revocation:
    leaf = read_certificate(made.cert_pem.encode(), f"the stored certificate {made.name}")
    own = made.key_pem.encode() if key_pem is None else _own_key(key_pem, leaf)
    where, account = _account(store, made)
    authority = _authority(options, made, account)
    signers = [_Signer(where, None, own)]
    if account is not None and key_pem is None:
        signers.insert(len(signers) if reason == KEY_COMPROMISE else 0, _Signer(where, account, None))
    return _revoke(options, store, authority, leaf, signers, reason, made)


def revoke_file(options: Options, cert_pem: bytes, *, reason: str, key_pem: bytes | None = None) -> Revocation:
    """
    Revoke a certificate that somebody has in a file, wherever it comes from.

    Args:
        cert_pem: The certificate; a chain after it is not looked at.
        key_pem: Its own key; without it the account at the CA of the options signs.

    Raises:
        ConfigurationError: the files are no certificate and its key, or there is neither a key nor an account; nothing was
            sent. And as :func:`revoke_stored`.
    """
    _refuse_reason(reason)
    with lineages.state(options) as store:
        leaf = read_certificate(cert_pem, "--cert")
        own = None if key_pem is None else _own_key(key_pem, leaf)
        known, _ = _readable(store, CertificateRecord, certificate_key(""))
        stored = next((made for made in known.values() if _leaf(made) == leaf), None)
        if stored is not None:  # this very one: by its name there may be a successor at any moment
            return _revoke_made(options, store, stored, reason, own)
        authority = authorities.find_all(options.ca)[0]
        where = account_key(authority.id, account_of(suited(options, [authority], authority)))
        account = AccountRecord.read(store, where) if own is None else None
        if own is None and (account is None or not account.url):
            raise ConfigurationError(
                f"the store has no account at {authority.title}, and no key was given",
                hint="name the certificate's own key with --key, or the CA that issued it with --ca",
                option="ca",
            )
        return _revoke(options, store, authority, leaf, [_Signer(where, account, own)], reason)


def read_certificate(pem: bytes, what: str) -> x509.Certificate:
    """Read the first certificate of a PEM file. Raises ConfigurationError where there is none."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise ConfigurationError(f"{what} is no certificate in PEM", hint="a PEM file begins with -----BEGIN") from None


def read_file(path: Path) -> bytes:
    """Read a file that a person named. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            return file.read(1_000_000)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", hint="name a PEM file") from error


def _revoke(
    options: Options,
    store: SealedStore,
    authority: Authority,
    leaf: x509.Certificate,
    signers: Sequence[_Signer],
    reason: str,
    made: CertificateRecord | None = None,
) -> Revocation:
    conversation = Conversation(authority, suited(options, [authority], authority).ca_bundle)
    network, directory = conversation.network, conversation.directory
    try:
        for signer in signers:
            try:
                if signer.account is not None:
                    accounts.sign_in(network, directory, store, signer.where, signer.account)
                now = tell(network, directory, leaf, reason=reason, key_pem=signer.key_pem)
                break
            except CARefused as error:
                # CAs refuse an account that is unknown, ended, or not the right one in several words.
                if signer is signers[-1] or error.status >= 500 or error.status == 429:
                    raise
    finally:
        conversation.close()
    says = facts(leaf)
    concerned = [] if made is None else [made]
    unread: list[str] = []
    if made is None or reason == KEY_COMPROMISE:
        found, unread = _readable(store, CertificateRecord, certificate_key(""))
        concerned = [entry for entry in found.values() if reason == KEY_COMPROMISE and _has_key_of(entry, leaf)]
    due = mark_all(options, store, concerned, reason, unread)
    by = "key" if signer.account is None else "account"
    return Revocation(says.names, says.serial, authority.title, by, not now, reason, tuple(due), tuple(unread))


def _readable(store: SealedStore, kind: type[Kept], prefix: str) -> tuple[dict[str, Kept], list[str]]:
    """Records by their keys, and the keys of those that cannot be read: one of them is no reason to act on none."""
    found, unread = {}, []
    for where, record in store.inner.scan(prefix):
        try:
            plain = store.opened(where, record)
            found[where] = kind.decode(where, plain.value, plain.version)
        except StoreMisconfigured:
            unread.append(where)
    return found, unread


def _leaf(made: CertificateRecord) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(made.cert_pem.encode())
    except ValueError:
        return None


def _has_key_of(made: CertificateRecord, leaf: x509.Certificate) -> bool:
    """Whether a certificate has the key of another, as renewals under REUSE_KEY do."""
    other = _leaf(made)
    return other is not None and other.public_key() == leaf.public_key()


def _own_key(pem: bytes, leaf: x509.Certificate) -> bytes:
    try:
        matches = keys.load(pem).public_key() == leaf.public_key()
    except (ValueError, TypeError):  # the latter of one that is encrypted
        raise ConfigurationError(
            "--key is no private key in PEM, or it is encrypted", hint="openssl pkey -in FILE decrypts it", option="key"
        ) from None
    if not matches:
        raise ConfigurationError(
            "--key is not the key of the certificate", hint="only its own key, or the account, can revoke it", option="key"
        )
    return pem


def _account(store: SealedStore, made: CertificateRecord) -> tuple[str, AccountRecord | None]:
    """The account that ordered a certificate, where the store still has it and it can be read."""
    found, _ = _readable(store, AccountRecord, account_key(made.ca, ""))
    return next(((where, account) for where, account in found.items() if account.url == made.account_url != ""), ("", None))


def _authority(options: Options, made: CertificateRecord, account: AccountRecord | None) -> Authority:
    found = authorities.find(account.directory) if account is not None else plan.authority_of(record_of(made), options)
    if found is None:
        raise ConfigurationError(
            f"where the CA {made.ca} of {made.name} is, no record says",
            hint="name the URL of its directory with --ca",
            option="ca",
        )
    return found
