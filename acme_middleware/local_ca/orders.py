"""Orders (RFC 8555 section 7.4): placing, showing, finalizing."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

from werkzeug.wrappers import Response

from acme_middleware.local_ca import certificate_ids, csr, identifiers
from acme_middleware.local_ca.call import Call, Desk, reply, timestamp
from acme_middleware.local_ca.hierarchy import BACKDATED, sign_leaf
from acme_middleware.local_ca.model import Authorization, Certificate, Challenge, Identifier, Order, new_id
from acme_middleware.local_ca.problems import Refused

REUSED_BEFORE_EXPIRY = timedelta(minutes=10)


def new_order(call: Call, desk: Desk) -> Response:
    """Section 7.4: an order, with an authorization for each identifier."""
    request, now = call.object(), _whole_second(desk)
    desk.demand(
        "8555-7.4-dates-refused",
        "notBefore" not in request and "notAfter" not in request,
        Refused("malformed", "this CA chooses the validity itself: leave notBefore and notAfter out"),
    )
    wanted = identifiers.read(request.get("identifiers"), desk)
    profile = _profile(request.get("profile"), desk)
    replaces = request.get("replaces")
    if replaces is not None:
        _demand_replaceable(replaces, wanted, call, desk)
    authorized = wanted if desk.rules.kept("8555-7.1.3-authorization-for-each") else wanted[:1]
    order = Order(
        id=new_id(),
        account=call.owner,
        identifiers=wanted,
        authorizations=[_authorization(entry, call, desk) for entry in authorized],
        expires=now + desk.settings.order_lifetime,
        profile=profile,
        replaces=str(replaces or ""),
    )
    desk.state.orders[order.id] = order
    if order.replaces:
        desk.state.replacements[order.replaces] = order
    call.owner.orders.append(order)
    return show(call, order, desk, 201 if desk.rules.kept("8555-7.4-created") else 200)


def order(call: Call, desk: Desk) -> Response:
    """The order, by POST-as-GET; each look at one that is processing brings it nearer to its certificate."""
    found = own_order(call, desk)
    if found.status == "processing":
        if found.polls_left <= 0:
            issue(found, desk)
        found.polls_left -= 1
    return show(call, found, desk)


def finalize(call: Call, desk: Desk) -> Response:
    """Section 7.4: issue for the key of the request, now or after some polls."""
    found = own_order(call, desk)
    desk.demand(
        "8555-7.4-order-ready",
        found.status == "ready",
        Refused("orderNotReady", f"the order is {found.status}, and only one that is ready can be finalized"),
    )
    found.csr = csr.read(call.object().get("csr"), found, desk)
    found.status = "processing"
    found.polls_left = max(found.polls_left, desk.settings.finalize_polls)
    if found.polls_left == 0:
        issue(found, desk)
    found.polls_left -= 1
    return show(call, found, desk)


def issue(order: Order, desk: Desk) -> None:
    """Make the certificate of an order."""
    if order.csr is None:
        raise RuntimeError("an order is issued for the key of its request")
    leaf = sign_leaf(
        desk.hierarchy.issuer,
        order.csr.public_key(),
        [entry.value for entry in order.identifiers],
        begin=desk.clock() - BACKDATED,
        lifetime=desk.settings.profiles[order.profile],
    )
    made = Certificate(certificate_ids.of(leaf), order.account, order.identifiers, leaf, desk.hierarchy.chains(leaf))
    desk.state.certificates[made.id] = made
    order.certificate, order.status = made, "valid"


def own_order(call: Call, desk: Desk) -> Order:
    """The order that a request is about, brought up to date. Raises Refused."""
    found = desk.state.orders.get(call.id)
    if found is None:
        raise Refused("malformed", "there is no such order", status=404)
    desk.demand("8555-7.4-own-order", found.account is call.owner, Refused("unauthorized", "the order is another account's"))
    desk.settle(found)
    return found


def show(call: Call, order: Order, desk: Desk, status: int = 200) -> Response:
    """An order object (section 7.1.3)."""
    desk.settle(order)
    document: dict[str, Any] = {
        "status": order.status,
        "expires": timestamp(order.expires),
        "identifiers": [entry.document() for entry in order.identifiers],
        "authorizations": [call.url("authorization", id=entry.id) for entry in order.authorizations],
        "finalize": call.url("finalize", id=order.id),
    }
    document |= {"profile": order.profile} if desk.rules.kept("profiles-3-shown") else {}
    document |= {"replaces": order.replaces} if order.replaces and desk.rules.kept("9773-5-replaces-shown") else {}
    document |= {"error": order.problem.document()} if order.problem else {}
    document |= {"certificate": call.url("certificate", id=order.certificate.id)} if order.certificate else {}
    answer = reply(document, status, Location=call.url("order", id=order.id))
    if order.status in ("pending", "processing") and desk.settings.order_retry_after is not None:
        answer.headers["Retry-After"] = str(desk.settings.order_retry_after)
    return answer


def _profile(given: object, desk: Desk) -> str:
    profiles = desk.settings.profiles
    if given is None:
        return next(iter(profiles))
    known = isinstance(given, str) and given in profiles
    desk.demand("profiles-3-known-profile", known, Refused("invalidProfile", f"the profiles here are {', '.join(profiles)}"))
    return str(given) if known else next(iter(profiles))


def _authorization(identifier: Identifier, call: Call, desk: Desk) -> Authorization:
    """A valid one that the account has, or a new one."""
    now = _whole_second(desk)
    known = call.owner.authorizations.get(identifier) if desk.settings.authz_reuse else None
    # One about to expire would take the order down with it.
    if known is not None and known.status_at(now + REUSED_BEFORE_EXPIRY) == "valid":
        return known
    made = Authorization(new_id(), call.owner, identifier, now + desk.settings.authz_lifetime)
    challenge = Challenge(new_id(), "http-01", _token(desk), made)
    made.challenges.append(challenge)
    desk.state.authorizations[made.id] = made
    desk.state.challenges[challenge.id] = challenge
    return made


def _whole_second(desk: Desk) -> datetime:
    """The time as answers show it: what expires does so at the very moment that was told."""
    return desk.clock().replace(microsecond=0)


def _token(desk: Desk) -> str:
    """Section 8.3: random, with 128 bits at least."""
    return secrets.token_urlsafe(32 if desk.rules.kept("8555-8.3-token") else 4)


def _demand_replaceable(replaces: object, wanted: tuple[Identifier, ...], call: Call, desk: Desk) -> None:
    """RFC 9773 section 5: a certificate of this account, for one of these names at least, that nothing replaces yet."""
    certificate_ids.parse(replaces, desk.rules)
    old = desk.state.certificates.get(str(replaces))
    desk.demand(
        "9773-5-replaces-known-certificate",
        old is not None,
        Refused("malformed", "`replaces` is no certificate of this CA", status=404),
    )
    if old is not None:
        desk.demand(
            "9773-5-replaces-own-certificate",
            old.account is call.owner,
            Refused("unauthorized", "`replaces` is a certificate of another account"),
        )
        desk.demand(
            "9773-5-replaces-shares-a-name",
            not set(old.identifiers).isdisjoint(wanted),
            Refused("malformed", "the certificate of `replaces` has none of these identifiers"),
        )
    other = desk.state.replacements.get(str(replaces))
    if other is not None:
        desk.settle(other)
        desk.demand(
            "9773-7.4-already-replaced",
            other.status == "invalid",
            Refused("alreadyReplaced", "another order replaces this certificate already"),
        )
