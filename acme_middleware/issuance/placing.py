"""Placing an order, which says what it replaces where the CA wants to know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from cryptography import x509

from acme_middleware.errors import CARefused, UnexpectedAnswer
from acme_middleware.issuance.attempt import Attempt
from acme_middleware.issuance.records import CertificateRecord
from acme_middleware.protocol import order as acme_order
from acme_middleware.protocol import renewal_info
from acme_middleware.protocol.directory import Directory
from acme_middleware.protocol.identifier import Identifier
from acme_middleware.protocol.network import Network
from acme_middleware.protocol.order import Order

NOT_ABOUT_REPLACING = {"rateLimited", "accountDoesNotExist", "userActionRequired", "rejectedIdentifier", "compound", "badNonce"}
"""Refusals of an order that an order for a new certificate would get as well."""


def place(
    network: Network,
    directory: Directory,
    wanted: Sequence[Identifier],
    profile: str,
    previous: CertificateRecord | None,
    *,
    account_url: str,
    attempt: Attempt | None,
    warn: Callable[[str], None],
) -> Order:
    """
    Place an order, as one for a new certificate where the CA refuses it as a replacement.

    Args:
        profile: The profile to ask for, or "".
        previous: The certificate that the new one will replace.
        account_url: The account that orders.
        attempt: May refuse each order before it is placed. That one was placed is not counted here.

    Raises:
        Conflict, NotYet: as the attempt does.
        CAUnreachable, CARefused, UnexpectedAnswer: as the protocol does.
    """

    def new_order(replaces: str) -> Order:
        if attempt is not None:
            attempt.may_order(replaces=bool(replaces))
        return acme_order.new_order(network, directory, wanted, profile=profile, replaces=replaces)

    replaces = ""
    shared = previous is not None and not set(previous.names).isdisjoint(entry.value for entry in wanted)
    # A CA takes it only from the account that ordered the old one, and for a name that both have (RFC 9773 section 5).
    if previous is not None and shared and directory.renewal_info and previous.account_url == account_url:
        with suppress(UnexpectedAnswer, ValueError):  # no authority key identifier to name it by, or damaged in the store
            replaces = renewal_info.certificate_id(x509.load_pem_x509_certificate(previous.cert_pem.encode()))
    try:
        return new_order(replaces)
    except CARefused as error:
        # Of the 5xx only 503 says to come back: CAs answer 500 to a replacement that they did not think of.
        if not replaces or error.status in (429, 503) or error.problem.type in NOT_ABOUT_REPLACING:
            raise
        # A CA may refuse what we say is replaced (already replaced, not its own, unknown). Certificates of other clients
        # have expired because they insisted.
        warn(f"the CA refused to take this as a replacement ({error.problem.detail}); ordered as a new certificate")
        return new_order("")
