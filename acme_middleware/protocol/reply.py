"""What a CA answers, read with suspicion: every byte of it may come from somebody else than a CA."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urljoin

from requests.utils import parse_header_links

from acme_middleware import clock
from acme_middleware._text import printable
from acme_middleware.errors import CARefused, Problem, UnexpectedAnswer

ERROR_PREFIX = "urn:ietf:params:acme:error:"

NOTHING_LOST = "nothing was lost: run the same command again later"


def unexpected(message: str, *, url: str) -> UnexpectedAnswer:
    """The error for an answer that no CA should give, with what a person can do about that: not much."""
    return UnexpectedAnswer(
        message,
        hint=f"the CA is to blame, or what stands in front of it: tell its operator if it lasts;\n{NOTHING_LOST}",
        url=url,
    )


class Reply(NamedTuple):
    """A reply of the CA, read to its end."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises UnexpectedAnswer for anything else."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise UnexpectedAnswer(
                f"{self.url} answered {self.status} with {len(self.body):,} bytes that are no JSON object",
                hint="is this the URL of an ACME server, and not of a page or a proxy in front of it?",
                url=self.url,
            )
        return value

    @property
    def location(self) -> str:
        """The URL of the resource that was made. Raises UnexpectedAnswer without one."""
        if not self.headers.get("Location"):
            raise unexpected(f"{self.url} answered {self.status} without a Location header", url=self.url)
        return _joined(self.url, self.headers["Location"])

    @property
    def date(self) -> datetime | None:
        """The CA's clock when it answered (RFC 9110 section 6.6.1), or None."""
        return _http_date(self.headers.get("Date", ""))

    @property
    def retry_after(self) -> float | None:
        """Seconds that the CA asks to wait, as a number or as a date (RFC 9110 section 10.2.3); None if it does not."""
        value = self.headers.get("Retry-After", "").strip()
        if value.isascii() and value.isdigit():
            return float(value[:9])
        when = _http_date(value)
        if when is None:
            return None
        # The date is the CA's, so it is counted from the CA's own clock where that is known.
        return max(0.0, (when - (self.date or clock.now())).total_seconds())

    def links(self, relation: str) -> list[str]:
        """The URLs of all Link headers with a relation; there may be several (RFC 8555 section 7.4.2)."""
        links = parse_header_links(self.headers.get("Link", ""))
        return [_joined(self.url, link["url"]) for link in links if link.get("rel") == relation]


def refusal(reply: Reply) -> CARefused:
    """The error that a reply of 400 or more stands for, with all that the CA said."""
    try:
        document = reply.json()
    except UnexpectedAnswer:
        document = {"detail": f"HTTP {reply.status}, with no problem document"}
    problem = problem_from(document)
    return CARefused(
        f"the CA refused: {problem.detail} ({problem.type})",
        hint=_advice(problem, reply),
        problem=problem,
        status=reply.status,
        retry_after=reply.retry_after,
        url=reply.url,
    )


def _advice(problem: Problem, reply: Reply) -> str:
    lines = [line for sub in problem.subproblems for line in sub.lines()]
    lines += [f"see {problem.instance}"] if problem.instance else []
    lines += [f"the CA asks to wait {reply.retry_after:.0f} s"] if reply.retry_after else []
    return "\n".join(lines or [_usual_advice(problem, reply)])


def _usual_advice(problem: Problem, reply: Reply) -> str:
    if reply.status == 429 or problem.type == "rateLimited":
        return f"the CA does not say how long to wait, its page about rate limits may; {NOTHING_LOST}"
    if reply.status >= 500 or problem.type == "badNonce":
        return f"that is the CA's trouble, its status page may say more; {NOTHING_LOST}"
    return "those are the CA's words; once that is put right, run the same command again"


def problem_from(document: object, *, is_sub: bool = False) -> Problem:
    """
    Read a problem document, whatever stands in it: unknown types stay as they are, what is missing becomes empty.

    Args:
        is_sub: It is a subproblem, and those have none of their own (RFC 8555 section 6.7.1).
    """
    if not isinstance(document, dict):
        return Problem("unknown", "no problem document")
    identifier, subproblems = document.get("identifier"), document.get("subproblems")
    return Problem(
        type=printable(document.get("type") or "unknown").removeprefix(ERROR_PREFIX),
        detail=printable(document.get("detail") or document.get("title") or "no reason given"),
        identifier=printable(identifier.get("value", "")) if isinstance(identifier, dict) else "",
        subproblems=tuple(problem_from(entry, is_sub=True) for entry in subproblems[:100])
        if isinstance(subproblems, list) and not is_sub
        else (),
        instance=printable(document.get("instance") or ""),
    )


def _joined(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError as error:
        raise unexpected(f"{base} answered with {printable(url)[:200]!r}, which is no URL", url=base) from error


def _http_date(value: str) -> datetime | None:
    try:
        when = parsedate_to_datetime(value)
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter beyond the years that datetime has
        return None
