"""
What is asked under ``/.well-known/acme-challenge/``, and what the answers look like: no I/O, no framework, no store.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["MALFORMED", "PREFIX", "Answer", "found", "is_token", "not_found", "requested_token", "unavailable"]

PREFIX = "/.well-known/acme-challenge/"

MALFORMED = ""
"""Stands for whatever is no token: unknown, and no store needs to be asked."""

# RFC 8555 section 8.3: "It MUST NOT contain any characters outside the base64url alphabet and MUST NOT include base64
# padding characters ("=")". The RFC gives no upper bound; CAs send 22 to 43 characters.
_GRAMMAR = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Answer(NamedTuple):  # a dataclass would be a quarter of what importing the middleware costs
    """A whole response, for an adapter to translate. Header names are spelled as in HTTP/1.1; values are ASCII."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def is_token(text: str) -> bool:
    """Whether this is a token by RFC 8555's grammar, and then also a safe file name."""
    return _GRAMMAR.fullmatch(text) is not None


def requested_token(method: str, path: str) -> str | None:
    """
    Say which token a request asks for.

    Args:
        method: The request's method; GET and HEAD ask for tokens, any other is the app's own.
        path: Its path, percent-decoded, without a query, root_path or SCRIPT_NAME.

    Returns:
        The token; MALFORMED for something below the prefix that can be no token; None where the request is not for us,
        as with the bare prefix, which may be a page of the app.
    """
    if not path.startswith(PREFIX) or method not in ("GET", "HEAD") or len(path) == len(PREFIX):
        return None
    token = path[len(PREFIX) :]
    return token if is_token(token) else MALFORMED


def found(method: str, key_authorization: str) -> Answer:
    """The key authorization exactly, with no newline: some CAs compare the body as it is."""
    body = key_authorization.encode()
    # RFC 8555 section 8.3: the media type SHOULD be application/octet-stream. nosniff: no browser makes HTML of it.
    return _answer(200, _KEY_AUTHORIZATION, body, method)


def not_found(method: str) -> Answer:
    """The answer to an unknown token where the app is not to be asked."""
    return _answer(404, _TEXT, b"unknown token\n", method)


def unavailable(method: str) -> Answer:
    """The answer while the store is down: the CA, or who debugs it, must not take it for an unknown token."""
    return _answer(503, _TEXT, b"the challenge store does not answer\n", method, ("Retry-After", "1"))


_KEY_AUTHORIZATION = ("Content-Type", "application/octet-stream")
_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_NO_GUESSING = ("X-Content-Type-Options", "nosniff")
_NO_KEEPING = ("Cache-Control", "no-store")


def _answer(status: int, media_type: tuple[str, str], body: bytes, method: str, *more: tuple[str, str]) -> Answer:
    headers = (media_type, ("Content-Length", str(len(body))), _NO_GUESSING, _NO_KEEPING, *more)
    # RFC 9110 section 9.3.2: a HEAD has the Content-Length that its GET would have.
    return Answer(status, headers, b"" if method == "HEAD" else body)
