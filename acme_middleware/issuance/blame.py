"""What an error says about the next try: whether the CA has had a part in it, and which."""

from __future__ import annotations

import re

from acme_middleware._text import printable
from acme_middleware.errors import (
    AcmeMiddlewareError,
    CARefused,
    CAUnreachable,
    CertificateRejected,
    UnexpectedAnswer,
    ValidationFailed,
)


def kind_of(error: AcmeMiddlewareError) -> str | None:
    """What kind of failure an error is; None for one that has cost the CA nothing, which no pause follows."""
    match error:
        case ValidationFailed():
            # Only the CA's own has a problem: our check before it keeps the order, and the CA was not told to look.
            return "validation" if "problem" in error.facts else None
        case CARefused():
            if error.status == 429 or error.problem.type == "rateLimited" or error.retry_after:
                return "limit"
            return "silent" if error.status >= 500 else "other"
        case CAUnreachable():
            return "silent"
        case CertificateRejected() | UnexpectedAnswer():
            return "other"
    return None


def unpause_url(error: AcmeMiddlewareError) -> str:
    """Where a person can have an account unpaused, which no waiting does; "" for an error that says nothing of that."""
    if not isinstance(error, CARefused) or error.problem.type != "rateLimited" or error.retry_after is not None:
        return ""
    said = f"{error.problem.instance} {error.problem.detail}"
    found = re.search(r"https://[^\s<>\"']+", said)
    # Other limits name an URL as well: that of the page about them.
    return printable(found[0].rstrip(".,;)")) if found and "pause" in said.lower() else ""
