"""What is public about a certificate, and when it is due: decided from that alone, without asking anybody."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from acme_middleware.errors import StoreMisconfigured
from acme_middleware.issuance.records import CertificateRecord, RenewalRecord, RenewalWindow

if TYPE_CHECKING:  # its module brings the ACME client
    from acme_middleware.protocol.renewal_info import RenewalInfo

SHORT_LIFETIME = timedelta(days=10)


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
    if now >= record.renew_after:
        return "due for renewal"
    return None


def state(record: RenewalRecord, now: datetime) -> str:
    """
    How a certificate stands: "ok", "due", "overdue" or "expired".

    A due one is overdue when half of the time between its renewal and its end has passed: by then a timer that works has
    come around.
    """
    if now >= record.not_after:
        return "expired"
    if now < record.renew_after:
        return "ok"
    return "due" if now < record.renew_after + (record.not_after - record.renew_after) / 2 else "overdue"


def record_of(made: CertificateRecord) -> RenewalRecord:
    """
    What is public about a certificate, read from the certificate itself.

    Raises:
        StoreMisconfigured: the stored certificate cannot be read.
    """
    from cryptography import x509

    from acme_middleware.issuance.certificate import facts

    try:
        says = facts(x509.load_pem_x509_certificate(made.cert_pem.encode()))
    except ValueError as error:
        raise StoreMisconfigured(
            f"the stored certificate {made.name} cannot be read", hint="restore it from a backup"
        ) from error
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
        options=made.options,
    )
