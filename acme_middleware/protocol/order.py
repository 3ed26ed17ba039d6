"""
Orders, authorizations and challenges (RFC 8555 sections 7.1.3 to 7.1.6, 7.4 and 7.5).

Replies are parsed here rather than by the library: it takes a deactivated authorization for a success, cannot read an expired
one, and fails on challenge types and fields that it does not know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from josepy.b64 import b64encode

from acme_middleware.errors import CARefused, CAUnreachable, Problem, UnexpectedAnswer
from acme_middleware.protocol.directory import Directory
from acme_middleware.protocol.identifier import Identifier
from acme_middleware.protocol.network import Network
from acme_middleware.protocol.reply import Reply, problem_from, unexpected

ORDER_STATUSES = {"pending", "ready", "processing", "valid", "invalid"}
AUTHORIZATION_STATUSES = {"pending", "valid", "invalid", "deactivated", "expired", "revoked"}

FIRST_POLL, POLL_FACTOR, LONGEST_POLL = 0.02, 2.0, 5.0
FIRST_POLL_OF_CERTIFICATE = 0.01
"""A CA that signs at once has done so in a few milliseconds; for a validation it must at least reach us and come back."""
LONGEST_RETRY_AFTER = 60.0
PATIENCE = 180.0
"""Seconds to wait for a validation or for a certificate before the run ends; the order is kept, and the next run resumes it."""

NOT_ABOUT_THE_ORDER = {"accountDoesNotExist", "userActionRequired", "rateLimited", "badNonce"}
"""Refusals of less than 500 that a request about any other order would get as well."""


class Challenge(NamedTuple):
    """One way to validate an identifier. ``token`` is "" where the type has none, ``status`` where the CA did not say."""

    type: str
    url: str
    status: str
    token: str
    problem: Problem | None


class Authorization(NamedTuple):
    """What the CA knows of one identifier, and how it may be shown to be ours."""

    url: str
    identifier: Identifier
    status: str
    challenges: tuple[Challenge, ...]

    def challenge(self, kind: str) -> Challenge | None:
        """The challenge of a type, or None where the CA does not offer it."""
        return next((challenge for challenge in self.challenges if challenge.type == kind), None)

    @property
    def problem(self) -> Problem | None:
        """What went wrong in the first challenge that failed."""
        return next((challenge.problem for challenge in self.challenges if challenge.problem), None)


class Order(NamedTuple):
    """An order, as the CA last described it."""

    url: str
    status: str
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str
    problem: Problem | None


def new_order(
    network: Network, directory: Directory, identifiers: Sequence[Identifier], *, profile: str = "", replaces: str = ""
) -> Order:
    """
    Place an order.

    Args:
        profile: One of the directory's profiles, or "" for the CA's choice.
        replaces: The certificate id (RFC 9773 section 5) of the certificate that this one is to replace, or "".
    """
    request: dict[str, Any] = {"identifiers": [{"type": i.type, "value": i.value} for i in identifiers]}
    request |= {"profile": profile} if profile else {}
    request |= {"replaces": replaces} if replaces else {}
    # Not idempotent: a second request may make a second order and count against the limits.
    reply = network.post(directory.new_order, request)
    # Its body first: a proxy's page shall be told as that, and not as an order that has no URL.
    return _order(reply, "")._replace(url=reply.location)


def fetch_order(network: Network, url: str) -> Order:
    """Ask how an order stands."""
    return _order(network.post_as_get(url), url)


def fetch_authorization(network: Network, url: str) -> Authorization:
    """Ask how an authorization stands."""
    reply = network.post_as_get(url)
    document = reply.json()
    identifier, challenges = document.get("identifier"), document.get("challenges")
    if not isinstance(identifier, dict) or not isinstance(challenges, list):
        raise unexpected(f"{url} is no authorization", url=url)
    return Authorization(
        url=url,
        identifier=Identifier(_text(identifier, "type", reply), _text(identifier, "value", reply)),
        status=_status(document, AUTHORIZATION_STATUSES, reply),
        # Whatever else is listed, a type or a field of the future, is somebody else's challenge.
        challenges=tuple(
            Challenge(
                challenge["type"],
                challenge["url"],
                challenge["status"] if isinstance(challenge.get("status"), str) else "",
                challenge["token"] if isinstance(challenge.get("token"), str) else "",
                problem_from(challenge["error"]) if challenge.get("error") else None,
            )
            for challenge in challenges
            if isinstance(challenge, dict) and isinstance(challenge.get("type"), str) and isinstance(challenge.get("url"), str)
        ),
    )


def say_ready(network: Network, authorization: Authorization, challenge: Challenge) -> None:
    """
    Tell the CA that a challenge can be validated now (RFC 8555 section 7.5.1).

    Not where it was told already: a run that was killed may have done so, and CAs refuse to hear it twice.
    """
    if challenge.status == "processing":
        return
    try:
        network.post(challenge.url, {}, idempotent=True)
    except CARefused:
        # The first of two requests may have arrived although its answer was lost.
        now = fetch_authorization(network, authorization.url).challenge(challenge.type)
        if now is None or now.status in ("", "pending"):
            raise


def wait_for_order(
    network: Network, url: str, *, while_in: Sequence[str], first: float = FIRST_POLL, patience: float = PATIENCE
) -> Order:
    """
    Poll an order until its status is none of ``while_in``.

    The whole order is polled, not each authorization: one request, whatever the number of names. The CA's Retry-After is
    obeyed, within reason; without one the first look is early and the next ones are further and further apart.

    Raises:
        CAUnreachable: the status did not change within ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    backing_off = wait = first
    while True:
        time.sleep(max(0.0, min(wait, deadline - time.monotonic())))
        reply = network.post_as_get(url)
        order = _order(reply, url)
        if order.status not in while_in:
            return order
        if time.monotonic() >= deadline:
            raise CAUnreachable(
                f"the CA has left the order {order.status} for {patience:.0f} s",
                hint="nothing is lost: run the same command again later, it goes on with the same order",
                url=url,
            )
        backing_off = min(backing_off * POLL_FACTOR, LONGEST_POLL)
        wait = max(FIRST_POLL, min(reply.retry_after or backing_off, LONGEST_RETRY_AFTER))


def finalize(network: Network, order: Order, csr: bytes) -> Order:
    """
    Send the certificate signing request, in DER, of an order that is ready (RFC 8555 section 7.4).

    Where the answer is lost, the order's own status tells whether the request had arrived; it is sent again only if not.
    """
    request = {"csr": b64encode(csr).decode()}
    try:
        return _order(network.post(order.finalize, request), order.url)
    except CAUnreachable:
        now = fetch_order(network, order.url)
        return _order(network.post(order.finalize, request), order.url) if now.status == "ready" else now


def download(network: Network, url: str, *, alternates: bool = False, warn: Callable[[str], None]) -> list[bytes]:
    """
    Download the certificate chain in PEM; with ``alternates``, every other chain that the CA offers after it (section 7.4.2).

    A chain that is offered and cannot be had is empty: the others keep their numbers, and the first is all that it takes.

    Args:
        warn: Is told of each chain that cannot be had.
    """
    accept = "application/pem-certificate-chain"
    reply = network.post_as_get(url, accept=accept)
    chains = [reply.body]
    for other in reply.links("alternate")[:10] if alternates else ():
        try:
            chains.append(network.post_as_get(other, accept=accept).body)
        except (CARefused, CAUnreachable, UnexpectedAnswer) as error:
            warn(f"another chain of the CA cannot be had: {error}")
            chains.append(b"")
    return chains


def is_gone(error: CARefused) -> bool:
    """Whether a refusal is of the order, or of the certificate, that was asked for, so that asking again brings nothing."""
    return error.status < 500 and error.status != 429 and error.problem.type not in NOT_ABOUT_THE_ORDER


def _order(reply: Reply, url: str) -> Order:
    document = reply.json()
    authorizations = document.get("authorizations")
    if not isinstance(authorizations, list) or not all(isinstance(entry, str) for entry in authorizations):
        raise unexpected(f"{reply.url} is no order: it lists no authorizations", url=reply.url)
    certificate = document.get("certificate")
    return Order(
        url=url,
        status=_status(document, ORDER_STATUSES, reply),
        authorizations=tuple(authorizations),
        finalize=_text(document, "finalize", reply),
        certificate=certificate if isinstance(certificate, str) else "",
        problem=problem_from(document["error"]) if document.get("error") else None,
    )


def _status(document: Mapping[str, Any], allowed: set[str], reply: Reply) -> str:
    status = _text(document, "status", reply)
    if status not in allowed:
        raise unexpected(f"{reply.url} has the status {status[:40]!r}, which RFC 8555 does not know", url=reply.url)
    return status


def _text(document: Mapping[str, Any], name: str, reply: Reply) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise unexpected(f"{reply.url} lacks {name!r}", url=reply.url)
    return value
