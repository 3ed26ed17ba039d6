"""Authorizations and challenges (RFC 8555 section 7.5)."""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Response

from acme_middleware.local_ca.call import Call, Desk, reply, timestamp
from acme_middleware.local_ca.model import Authorization, Challenge
from acme_middleware.local_ca.problems import Problem, Refused


def authorization(call: Call, desk: Desk) -> Response:
    """Show an authorization, or deactivate it (section 7.5.2)."""
    found = desk.state.authorizations.get(call.id)
    if found is None:
        raise Refused("malformed", "there is no such authorization", status=404)
    _demand_own(found, call, desk)
    if call.payload:
        desk.demand(
            "8555-7.5.2-only-deactivated",
            call.object().get("status") == "deactivated",
            Refused("malformed", 'an authorization can be read, or be sent {"status": "deactivated"}'),
        )
        if found.status_at(desk.clock()) not in ("pending", "valid"):
            raise Refused("malformed", f"the authorization is {found.status_at(desk.clock())}")
        found.status = "deactivated"
    answer = reply(show(call, found, desk))
    _ask_to_wait(answer, found, desk)
    return answer


def challenge(call: Call, desk: Desk) -> tuple[Response, Challenge | None]:
    """
    Show a challenge, or begin with its validation (section 7.5.1).

    Returns:
        The answer, and the challenge that is to be validated now.
    """
    found = desk.state.challenges.get(call.id)
    if found is None:
        raise Refused("malformed", "there is no such challenge", status=404)
    _demand_own(found.authorization, call, desk)
    begun = None
    if call.payload:
        call.object()
        status = found.authorization.status_at(desk.clock())
        desk.demand(
            "8555-7.1.6-challenge-once",
            status == "pending" and found.status == "pending",
            Refused(
                "malformed", f"the authorization is {status} and the challenge {found.status}: there is nothing to validate"
            ),
        )
        found.status, begun = "processing", found
    answer = reply(show_challenge(call, found))
    if desk.rules.kept("8555-7.5.1-link-up"):
        answer.headers.add("Link", f'<{call.url("authorization", id=found.authorization.id)}>;rel="up"')
    _ask_to_wait(answer, found.authorization, desk)
    return answer, begun


def settle(challenge: Challenge, problem: Problem | None, desk: Desk) -> None:
    """Note how a validation ended (section 7.1.6)."""
    authorization = challenge.authorization
    if authorization.status != "pending":
        return  # deactivated meanwhile
    if problem is not None:
        challenge.status, challenge.problem, authorization.status = "invalid", problem, "invalid"
        return
    challenge.status, challenge.validated, authorization.status = "valid", desk.clock(), "valid"
    authorization.account.authorizations[authorization.identifier] = authorization


def show(call: Call, found: Authorization, desk: Desk) -> dict[str, Any]:
    """An authorization object (section 7.1.4)."""
    return {
        "status": found.status_at(desk.clock()),
        "expires": timestamp(found.expires),
        "identifier": found.identifier.document(),
        "challenges": [show_challenge(call, entry) for entry in found.challenges],
    }


def show_challenge(call: Call, challenge: Challenge) -> dict[str, Any]:
    """A challenge object (section 7.1.5)."""
    document: dict[str, Any] = {
        "type": challenge.type,
        "url": call.url("challenge", id=challenge.id),
        "status": challenge.status,
        "token": challenge.token,
    }
    document |= {"validated": timestamp(challenge.validated)} if challenge.validated else {}
    return document | ({"error": challenge.problem.document()} if challenge.problem else {})


def _ask_to_wait(answer: Response, found: Authorization, desk: Desk) -> None:
    """Section 7.5.1: when to ask again, while it is not known how a validation ends."""
    if found.status == "pending" and desk.settings.order_retry_after is not None:
        answer.headers["Retry-After"] = str(desk.settings.order_retry_after)


def _demand_own(found: Authorization, call: Call, desk: Desk) -> None:
    refusal = Refused("unauthorized", "the authorization is another account's")
    desk.demand("8555-7.5-own-authorization", found.account is call.owner, refusal)
