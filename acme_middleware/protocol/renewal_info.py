"""
When a CA would like a certificate renewed: ACME Renewal Information, ARI (RFC 9773).

The library's own version accepts inverted windows, drops the explanation and mixes naive and aware times; this one does not.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509

from acme_middleware import clock
from acme_middleware.errors import UnexpectedAnswer

if TYPE_CHECKING:  # the name of a certificate is needed where nothing is asked as well, and they bring the ACME client
    from acme_middleware.protocol.directory import Directory
    from acme_middleware.protocol.network import Network

SOONEST, DEFAULT, LATEST = timedelta(minutes=1), timedelta(hours=6), timedelta(hours=24)


class RenewalInfo(NamedTuple):
    """
    The CA's suggestion.

    Attributes:
        start, end: The window to renew in, aware, in UTC.
        explanation: A URL for people, for example of an incident, or "".
        ask_again: When to ask again.
    """

    start: datetime
    end: datetime
    explanation: str
    ask_again: datetime


def certificate_id(certificate: x509.Certificate) -> str:
    """
    The unique id of a certificate (RFC 9773 section 4.1): key identifier of its issuer and serial number, both in base64url.

    Raises:
        UnexpectedAnswer: the certificate has no authority key identifier.
    """
    try:
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        authority = None
    if authority is None:
        raise UnexpectedAnswer("the certificate has no authority key identifier")
    serial = certificate.serial_number
    # The DER content of the serial, an INTEGER: one leading zero where its first bit would otherwise be the sign.
    content = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (authority, content))


def fetch(network: Network, directory: Directory, certificate: x509.Certificate) -> RenewalInfo:
    """
    Ask the CA of ``directory`` when to renew a certificate that it issued. The request is not signed.

    Raises:
        UnexpectedAnswer: the window ends before it begins or after the certificate has expired, or is no window at all.
        CARefused, CAUnreachable: as :class:`Network`.
    """
    return fetch_by_id(network, directory, certificate_id(certificate), certificate.not_valid_after_utc)


def fetch_by_id(network: Network, directory: Directory, ari_id: str, not_after: datetime) -> RenewalInfo:
    """Ask as :func:`fetch` does, without the certificate: by its id, and the time of its end."""
    reply = network.get(f"{directory.renewal_info.rstrip('/')}/{ari_id}")
    document = reply.json()
    window = document.get("suggestedWindow")
    window = window if isinstance(window, dict) else {}
    start, end = _time(window.get("start")), _time(window.get("end"))
    if start is None or end is None or end <= start or end > not_after:
        raise UnexpectedAnswer("the CA's renewal window makes no sense and is ignored", url=reply.url)
    explanation = document.get("explanationURL")
    asked = timedelta(seconds=reply.retry_after) if reply.retry_after is not None else DEFAULT
    return RenewalInfo(
        start=start,
        end=end,
        explanation=explanation[:500] if isinstance(explanation, str) and explanation.isprintable() else "",
        ask_again=clock.now() + min(max(asked, SOONEST), LATEST),
    )


def _time(value: object) -> datetime | None:
    """RFC 3339, whose times always have an offset; one without is no time."""
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
        return when.astimezone(UTC) if when is not None and when.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
