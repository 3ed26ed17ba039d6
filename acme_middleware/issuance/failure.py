"""What a person needs to know about a validation that failed: what was asked, what was answered, what we saw, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from acme_middleware._text import printable
from acme_middleware.challenge import PREFIX
from acme_middleware.errors import ValidationFailed
from acme_middleware.issuance.ledger import LedgerRecord, ordinal, when
from acme_middleware.issuance.self_check import Finding
from acme_middleware.protocol.order import Authorization, Order
from acme_middleware.stores.base import ChallengeSource, Fetch, FetchLog

if TYPE_CHECKING:  # only a CA with limits has budgets
    from acme_middleware.issuance.budgets import Spent

LABEL_WIDTH = 10
FETCHES_SHOWN = 5


def by_ca(failed: Sequence[tuple[Authorization, str]], order: Order, challenges: ChallengeSource) -> ValidationFailed:
    """
    The CA said no.

    Args:
        failed: The authorizations that are not valid, each with the token that it was asked by, "" where it was not.
        order: The order that they belong to.
        challenges: Where the tokens were; what its log saw of them is told.
    """
    lines: list[str] = []
    for authorization, token in failed:
        lines += _about(authorization, token, challenges)
    if not failed:
        lines += [_line("it said", line) for line in order.problem.lines()] if order.problem else ["it gave no reason"]
    names = ", ".join(authorization.identifier.value for authorization, _ in failed)
    first, token = failed[0] if failed else (None, "")
    return ValidationFailed(
        f"the CA could not validate {names}" if names else "the CA has given the order up",
        hint="\n".join(lines),
        name=first.identifier.value if first else "",
        failed=tuple(authorization.identifier.value for authorization, _ in failed),
        problem=first.problem if first else order.problem,
        token=token,
        fetches=_fetches(challenges, token),
    )


def by_self_check(name: str, token: str, finding: Finding) -> ValidationFailed:
    """Our own fetch was answered wrongly, or not at all where an answer is required. The CA was not asked."""
    lines = [
        _line("we asked", f"http://{_host(name)}{PREFIX}{token}"),
        _line("and", finding.wrong or finding.silent),
        _line("so", "the request does not reach this app, or the app reads another store than this command."),
        _line("", "Is the middleware installed, and the outermost? Does the server in front pass"),
        _line("", f"{PREFIX} on to the app?"),
        _line("cost", "none: the CA was not told to look, and the next run goes on with the same order"),
    ]
    return ValidationFailed(f"{name} does not serve our token", hint="\n".join(lines), name=name, token=token)


def cost(record: LedgerRecord, spent: Spent | None, *, now: datetime, by_hand: bool) -> str:
    """
    The last line: what a failure costs, and when the next try is allowed.

    Args:
        record: The failure in the ledger.
        spent: What it took from a limit of the CA, None where none is known.
        by_hand: As in :meth:`LedgerRecord.waits`.
    """
    pause = record.next_try if record.waits(now, by_hand=by_hand) else now
    full = spent.full_until if spent and spent.full_until else now
    then = f"allowed from {when(max(pause, full), up=True)} on" if max(pause, full) > now else "allowed now"
    words = spent.words if spent else f"{ordinal(record.failures)} failure in a row"
    return _line("cost", f"{words}; the next try is {then}{' (--force: now)' if pause > now >= full else ''}")


def _about(authorization: Authorization, token: str, challenges: ChallengeSource) -> list[str]:
    name, problem = authorization.identifier.value, authorization.problem
    lines = [_line("it asked", f"http://{_host(name)}{PREFIX}{token}")] if token else []
    said = problem.lines() if problem else [f"the authorization of {name} is {authorization.status}"]
    lines += [_line("it said", line) for line in said]
    seen = _fetches(challenges, token)
    if not token:
        return lines
    if seen is None:
        lines.append(_line("we saw", "the workers' log tells: acme_middleware.responder, one line for each fetch"))
    elif not seen:
        lines.append(_line("we saw", "no fetch of this token by any worker"))
    if not seen and problem is not None and problem.type == "connection":
        return [
            *lines,
            _line("so", "nobody answers where the CA connects to: start the app, or the server in front of it, and let the"),
            _line("", "name's A and AAAA records lead there; a CA for development looks where its --resolve says"),
        ]
    if seen is None:
        return lines
    if not seen:
        return [
            *lines,
            _line("so", "the request does not reach this app: let the server in front pass it"),
            _line("", f"{PREFIX}, and check the name's A and AAAA records"),
        ]
    lines.append(_line("we saw", f"{len(seen)} fetch{'es' if len(seen) > 1 else ''} of it, all answered:"))
    lines += [_line("", f"{fetch.address or 'unknown address'}  {fetch.agent}") for fetch in seen[:FETCHES_SHOWN]]
    return [*lines, _line("so", "the app answers; something between it and the CA changes or drops the answer")]


def _fetches(challenges: ChallengeSource, token: str) -> list[Fetch] | None:
    return challenges.fetches(token) if token and isinstance(challenges, FetchLog) else None


def _line(label: str, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}}{printable(text)}"


def _host(name: str) -> str:
    return f"[{name}]" if ":" in name else name
