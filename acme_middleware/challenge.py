"""
What is asked under ``/.well-known/acme-challenge/``, and what the answers look like: no I/O, no framework, no store.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

__all__ = ["MALFORMED", "PREFIX", "Answer", "found", "is_token", "not_found", "requested_token", "unavailable"]

PREFIX = "/.well-known/acme-challenge/"

MALFORMED = ""
"""Stands for whatever is no token: unknown, and no store needs to be asked."""

# RFC 8555 section 8.3: "It MUST NOT contain any characters outside the base64url alphabet and MUST NOT include base64
# padding characters ("=")". The RFC gives no upper bound; CAs send 22 to 43 characters.
_GRAMMAR = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TOKEN_PATH = re.compile(re.escape(PREFIX) + f"({_GRAMMAR.pattern})")


class Answer(NamedTuple):  # a dataclass would be a quarter of what importing the middleware costs
    """
    A whole response, for an adapter to translate.

    Header names are spelled as in HTTP/1.1, values are ASCII; ``raw_headers`` are the same as ASGI wants them.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def is_token(text: str) -> bool:
    """Whether this is a token by RFC 8555's grammar, and then also a safe file name."""
    return _GRAMMAR.fullmatch(text) is not None


@lru_cache(maxsize=64)  # a CA fetches each from several places
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
    if method not in ("GET", "HEAD"):
        return None
    if matched := _TOKEN_PATH.fullmatch(path):
        return matched[1]
    return MALFORMED if path.startswith(PREFIX) and len(path) > len(PREFIX) else None


@lru_cache(maxsize=64)  # a CA fetches each from several places
def found(method: str, key_authorization: str) -> Answer:
    """The key authorization exactly, with no newline: some CAs compare the body as it is."""
    # RFC 8555 section 8.3: the media type SHOULD be application/octet-stream. nosniff: no browser makes HTML of it.
    return _answer(200, "application/octet-stream", key_authorization.encode(), method)


def not_found(method: str) -> Answer:
    """The answer to an unknown token where the app is not to be asked."""
    return _answer(404, _TEXT, b"unknown token\n", method)


def unavailable(method: str) -> Answer:
    """The answer while the store is down: the CA, or who debugs it, must not take it for an unknown token."""
    return _answer(503, _TEXT, b"the challenge store does not answer\n", method, ("Retry-After", "1"))


_TEXT = "text/plain; charset=utf-8"


def _answer(status: int, media_type: str, body: bytes, method: str, *more: tuple[str, str]) -> Answer:
    headers = (
        ("Content-Type", media_type),
        # RFC 9110 section 9.3.2: a HEAD has the Content-Length that its GET would have.
        ("Content-Length", str(len(body))),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
        *more,
    )
    raw = tuple((name.lower().encode(), value.encode()) for name, value in headers)
    return Answer(status, headers, raw, b"" if method == "HEAD" else body)
