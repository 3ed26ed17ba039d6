"""What is public about a certificate, and when it is due: decided from that alone, without asking anybody."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from acme_middleware.errors import Conflict, StoreMisconfigured, UnexpectedAnswer
from acme_middleware.issuance.records import CertificateRecord, RenewalRecord, RenewalWindow, certificate_key, renewal_key
from acme_middleware.stores.base import Expect, Store

if TYPE_CHECKING:  # its module brings the ACME client
    from acme_middleware.protocol.renewal_info import RenewalInfo

SHORT_LIFETIME = timedelta(days=10)
EMERGENCY = 1 / 20
"""The share of a lifetime at whose beginning nothing is waited for any more."""

LONGEST_SILENCE = timedelta(days=8)
"""No CA is left unasked for longer."""

ASK_LATER = timedelta(hours=1)
ASKED_PER_LIFETIME = 100

TRIES = 20
"""So many writers may come in between: each host that looks after the certificate notes the advice that it was given."""


def renew_after(not_before: datetime, not_after: datetime, window: RenewalWindow | None = None) -> datetime:
    """
    When a certificate should be renewed: the time drawn from the CA's window, else a fraction of the lifetime.

    Lifetimes shrink from year to year, so no number of days is right: at two thirds of the lifetime, at half of a short one.
    """
    if window is not None:
        return window.drawn
    lifetime = not_after - not_before
    return not_before + (lifetime / 2 if lifetime <= SHORT_LIFETIME else lifetime * 2 / 3)


def draw(
    info: RenewalInfo, previous: RenewalWindow | None = None, *, uniform: Callable[[float, float], float] = random.uniform
) -> RenewalWindow:
    """
    Choose a moment in the CA's window, uniformly (RFC 9773 section 4.2); an unchanged window keeps the moment it had.

    A moment in the past means now.
    """
    if previous is not None and (previous.start, previous.end) == (info.start, info.end):
        moment = previous.drawn
    else:
        moment = info.start + timedelta(seconds=uniform(0, (info.end - info.start).total_seconds()))
    return RenewalWindow(start=info.start, end=info.end, drawn=moment, ask_again=info.ask_again, explanation=info.explanation)


def advised(record: RenewalRecord, window: RenewalWindow | None, now: datetime) -> RenewalRecord:
    """The record with the CA's window in it, and the time to ask again: soon where it was asked for in vain."""
    if window is None:
        return replace(record, ask_after=ask_in_vain(record, now))
    moment = renew_after(record.not_before, record.not_after, window)
    return replace(record, ari=window, renew_after=moment, ask_after=window.ask_again)


def ask_in_vain(record: RenewalRecord, now: datetime, *, uniform: Callable[[float, float], float] = random.uniform) -> datetime:
    """When to ask for renewal information again after nothing was learnt: in an hour or two, earlier in a short life."""
    pause = min(ASK_LATER, (record.not_after - record.not_before) / ASKED_PER_LIFETIME)
    return now + pause * uniform(1, 2)


def renews_at(record: RenewalRecord) -> datetime:
    """
    When a certificate is due: the time in its record, unless the window that the time is from makes no sense.

    What is not said by a window that can be is as if there was none: the fraction of the lifetime counts.
    """
    if record.revoked:
        return record.not_before
    window = record.ari
    if window is not None and not window.start < window.end <= record.not_after:
        return renew_after(record.not_before, record.not_after)
    return record.renew_after


def is_emergency(record: RenewalRecord, now: datetime) -> bool:
    """Whether only a twentieth of the lifetime is left, or less: then it is renewed whatever the CA advises."""
    return now >= record.not_after - (record.not_after - record.not_before) * EMERGENCY


def is_recalled(record: RenewalRecord, now: datetime) -> bool:
    """
    Whether the CA's window was over before the certificate's time had come: so it tells of a revocation (RFC 9773 section 4.2).

    Revocations are told in no other way any more (OCSP is gone), and the window of an incident looks the same.
    """
    window = record.ari
    if window is None or not window.start < window.end <= record.not_after:
        return False
    return window.end <= now and window.end < renew_after(record.not_before, record.not_after)


def ask_ari(record: RenewalRecord, now: datetime) -> bool:
    """
    Whether to ask the CA for renewal information now: it is time to, and the certificate is one to ask about.

    Never after the certificate has expired; of one that was replaced there is no record any more.
    """
    if not record.ari_id or now >= record.not_after:
        return False
    after = record.ask_after or (record.ari.ask_again if record.ari is not None else None)
    # A time so far off was noted by a clock that was wrong.
    return after is None or not now < after <= now + LONGEST_SILENCE


def lacks_ari_id(record: RenewalRecord, now: datetime) -> bool:
    """Whether a record is from before records knew what the CA calls the certificate, and it is time to ask the CA about it."""
    old = record.ari is not None and not record.ari_id and record.ask_after is None
    return old and record.ari is not None and record.ari.ask_again <= now < record.not_after


def lifetime_left(record: RenewalRecord | None, now: datetime) -> float:
    """The part of its lifetime that a certificate has left; 0 for none, and for one that the CA wants replaced at once."""
    if record is None or record.revoked or is_recalled(record, now):
        return 0.0
    return max(0.0, (record.not_after - now) / (record.not_after - record.not_before))


def due(record: RenewalRecord | None, names: Sequence[str], *, trusted: bool, now: datetime) -> str | None:
    """
    Why a certificate for these names must be issued now, in a few words, or None if the one there is will do.

    Args:
        record: What is stored, None for nothing.
        names: What the certificate should be for.
        trusted: Whether the CA that would issue it is one that browsers trust.
    """
    if record is None:
        return "never issued"
    if set(names) - set(record.names):
        return "names were added"
    if set(record.names) - set(names):
        return "names were dropped"
    if trusted and not record.trusted:
        return "the one in use is from a staging CA"
    if now >= record.not_after:
        return "expired"
    if record.revoked:
        return f"revoked ({record.revoked})"
    if is_emergency(record, now):
        return "only a twentieth of its lifetime is left"
    if now < renews_at(record):
        return None
    said = f": {record.ari.explanation}" if record.ari is not None and record.ari.explanation else ""
    if is_recalled(record, now):
        return f"the CA wants it replaced before its time, perhaps it is revoked{said}"
    return f"due for renewal{said}"


def state(record: RenewalRecord, now: datetime) -> str:
    """
    How a certificate stands: "ok", "due", "overdue" or "expired".

    A due one is overdue when half of the time between its renewal and its end has passed: by then a timer that works has
    come around.
    """
    if now >= record.not_after:
        return "expired"
    if is_emergency(record, now) or record.revoked:
        return "overdue"
    begin = renews_at(record)
    if now < begin:
        return "ok"
    return "due" if now < begin + (record.not_after - begin) / 2 else "overdue"


def record_of(made: CertificateRecord) -> RenewalRecord:
    """
    What is public about a certificate, read from the certificate itself.

    Raises:
        StoreMisconfigured: the stored certificate cannot be read.
    """
    from cryptography import x509

    from acme_middleware.issuance.certificate import facts
    from acme_middleware.protocol.renewal_info import certificate_id

    try:
        leaf = x509.load_pem_x509_certificate(made.cert_pem.encode())
        says = facts(leaf)
    except ValueError as error:
        raise StoreMisconfigured(
            f"the stored certificate {made.name} cannot be read", hint="restore it from a backup"
        ) from error
    try:
        ari_id = certificate_id(leaf)
    except UnexpectedAnswer:  # the CA has no way to speak of it
        ari_id = ""
    return RenewalRecord(
        name=made.name,
        names=made.names,
        ca=made.ca,
        trusted=made.trusted,
        profile=made.profile,
        not_before=says.not_before,
        not_after=says.not_after,
        serial=says.serial,
        fingerprint=says.fingerprint,
        issued_at=made.issued_at,
        renew_after=renew_after(says.not_before, says.not_after),
        ari_id=ari_id,
        revoked=made.revoked,
        options=made.options,
    )


def write_public(store: Store, made: CertificateRecord, record: RenewalRecord | None = None) -> RenewalRecord:
    """
    Write what is public about a certificate that has been saved.

    Whoever was stopped after saving it, for longer than a lease lives, must not write over what a successor has written about
    another one. So what is there is read before the certificate is looked at again, and only that is replaced.

    Args:
        made: The certificate, as it was saved: with its version.
        record: What to write; by default what the certificate says.

    Returns:
        The record as it is stored now.

    Raises:
        Conflict: another certificate was saved since.
        StoreUnavailable, StoreMisconfigured: from the store.
    """
    record = record or record_of(made)
    where = renewal_key(made.name)
    for _ in range(TRIES):
        there = store.get(where)
        now = store.get(certificate_key(made.name))
        if now is None or now.version != made.version:
            break
        with suppress(Conflict):  # somebody has noted the CA's advice
            return replace(record, version=record.write(store, where, expect=there.version if there else Expect.ABSENT))
    raise Conflict(
        f"another certificate for {made.name} was saved by another process",
        hint="run the command again: it takes what is there",
        key=where,
    )
