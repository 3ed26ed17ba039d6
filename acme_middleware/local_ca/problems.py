"""Problem documents (RFC 7807, RFC 8555 section 6.7): how the CA says no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PREFIX = "urn:ietf:params:acme:error:"
CONTENT_TYPE = "application/problem+json"

STATUSES = {
    "accountDoesNotExist": 400,
    "alreadyReplaced": 409,
    "externalAccountRequired": 403,
    "orderNotReady": 403,
    "rateLimited": 429,
    "serverInternal": 500,
    "unauthorized": 403,
    "userActionRequired": 403,
}
"""The HTTP status of an error type where it is not 400."""


@dataclass(frozen=True, slots=True)
class Problem:
    """
    What went wrong.

    Attributes:
        type: The error type, without its prefix.
        detail: For people.
        identifier: The identifier that it is about, as ``{"type": ..., "value": ...}``.
        subproblems: One per identifier, where several are to blame (section 6.7.1).
        members: Further members of the document.
    """

    type: str
    detail: str
    identifier: Mapping[str, str] | None = None
    subproblems: Sequence[Problem] = ()
    members: Mapping[str, Any] | None = None

    def document(self, status: int | None = None) -> dict[str, Any]:
        """The document, as it stands in a reply or inside a challenge or an order."""
        document: dict[str, Any] = {"type": PREFIX + self.type, "detail": self.detail}
        document |= {"status": STATUSES.get(self.type, 400) if status is None else status}
        document |= {"identifier": dict(self.identifier)} if self.identifier else {}
        document |= {"subproblems": [entry.document() for entry in self.subproblems]} if self.subproblems else {}
        return document | dict(self.members or {})


class Refused(Exception):  # it is an answer, not a failure of the CA
    """
    The answer to a request is a problem document.

    Args:
        type: The error type, without its prefix.
        detail: For people.
        status: The HTTP status, where it is not the usual one of the type.
        headers: Further headers of the reply.
        identifier, subproblems, members: As :class:`Problem`.
    """

    def __init__(
        self,
        type: str,
        detail: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        identifier: Mapping[str, str] | None = None,
        subproblems: Sequence[Problem] = (),
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(type, detail, identifier, subproblems, members)
        self.status = STATUSES.get(type, 400) if status is None else status
        self.headers = dict(headers or {})
