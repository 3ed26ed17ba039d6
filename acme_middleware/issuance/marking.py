"""After the CA has revoked: the store says so too, so that the certificate is replaced and its key is not used again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from acme_middleware import clock
from acme_middleware.errors import Conflict, LeaseHeld, LeaseLost, StoreMisconfigured
from acme_middleware.issuance.records import (
    KEY_COMPROMISE,
    CertificateRecord,
    OrderRecord,
    RenewalRecord,
    certificate_key,
    order_key,
    renewal_key,
)
from acme_middleware.issuance.renewal import record_of, write_public
from acme_middleware.lease import lease
from acme_middleware.options import Options
from acme_middleware.stores.sealed import SealedStore


def mark_all(
    options: Options, store: SealedStore, concerned: Sequence[CertificateRecord], reason: str, unread: list[str]
) -> list[str]:
    """
    Let certificates that the CA has revoked be due, and their keys not be used again where those are known to others.

    Args:
        reason: For which they were revoked.
        unread: Gets the keys of orders under way that cannot be read: nobody goes on with them then.

    Returns:
        The names of those that are due; others have been renewed meanwhile.

    Raises:
        LeaseHeld, LeaseLost, Conflict: one could not be marked, all others are. Its hint says what to do.
        StoreUnavailable, StoreMisconfigured: from the store.
    """
    due, failures = [], []
    for entry in concerned:
        try:
            if _mark(options, store, entry, reason, unread):
                due.append(entry.name)
        except (LeaseHeld, LeaseLost, Conflict) as error:  # the others must not wait for it
            # By its name a successor would be revoked that another process has just got.
            again = "revoke it again" if reason == KEY_COMPROMISE else f"`renew {entry.name} --force` replaces it"
            error.hint = f"the CA has revoked it, and the store does not say so yet: {again}"
            failures.append(error)
    for failure in failures:
        raise failure
    return due


def _mark(options: Options, store: SealedStore, made: CertificateRecord, reason: str, unread: list[str]) -> bool:
    with lease(store, made.name, wait=options.wait) as held:
        now = CertificateRecord.read(store, certificate_key(made.name))
        if now is None or (now.key_pem != made.key_pem if reason == KEY_COMPROMISE else now.cert_pem != made.cert_pem):
            return False  # somebody has just renewed it, and not for the compromised key
        held.check()
        if now.revoked != KEY_COMPROMISE:
            now = replace(now, revoked=reason)
            now = replace(now, version=now.write(store, certificate_key(now.name), expect=now.version))
        if now.revoked == KEY_COMPROMISE:
            # An order under way may be about to bring a certificate for the same key.
            try:
                order = OrderRecord.read(store, order_key(now.name))
            except StoreMisconfigured:
                order = None
                unread.append(order_key(now.name))
            if order is not None and order.key_pem == now.key_pem:
                store.delete(order_key(now.name))
        try:
            record = RenewalRecord.read(store, renewal_key(now.name))
        except StoreMisconfigured:
            record = None
        record = record_of(now) if record is None or record.issued_at != now.issued_at else record
        write_public(store, now, replace(record, revoked=now.revoked, renew_after=min(clock.now(), record.renew_after)))
    return True
