"""
The table of requests: what is sent, byte by byte, and what may come back.

An outcome is one of the few defined ways in which a request may end. A row names those that are right for it; a server that
refuses a row by itself, which is its right with malformed requests only, has that in its own table.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PREFIX = "/.well-known/acme-challenge/"
HOST = "www.example.com"
HTTPS = {"X-Forwarded-Proto": "https"}
GZIP = {"Accept-Encoding": "gzip, br"}
COOKIES = {"Cookie": "sessionid=0123456789abcdef; member=1"}

OURS = "our answer, exactly"
PAGE = "a page of the app"
REDIRECT = "the app's redirect to https"
LOGIN = "the app's redirect to its login"
NOT_HERE = "the app's own refusal"
REFUSED = "the server's own refusal"


@dataclass(frozen=True)
class Row:
    """
    A request.

    Args:
        id: Reads as a sentence.
        expect: The outcomes that are right.
        target: The request's target; ``TOKEN`` stands for the token that was presented, ``BASE`` for what the app is below.
        host: The Host header; None: HTTP/1.0, and none.
        https: Whether the proxy says that it came over https.
        body: With Content-Length, where there is one.
        refusable: Whether a server may answer it by itself.
        times: How often it is sent, each over a new connection.
    """

    id: str
    expect: frozenset[str]
    target: str = f"BASE{PREFIX}TOKEN"
    method: str = "GET"
    host: str | None = HOST
    https: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    refusable: bool = False
    times: int = 1

    def bytes(self, base: str, token: str) -> bytes:
        """What is sent for it."""
        target = self.target.replace("BASE", base).replace("OTHERCASE", token.swapcase()).replace("TOKEN", token)
        headers = {**({} if self.host is None else {"Host": self.host}), "Connection": "close"}
        headers |= (HTTPS if self.https else {}) | self.headers
        if self.body or self.method in ("POST", "PUT"):
            headers["Content-Length"] = str(len(self.body))
        lines = [f"{self.method} {target} HTTP/{'1.0' if self.host is None else '1.1'}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + self.body


def answered(id, target=f"BASE{PREFIX}TOKEN", **more):
    return Row(id, frozenset({OURS}), target, **more)


def passed(id, rest, *also, **more):
    return Row(id, frozenset({PAGE, *also}), rest if rest.startswith("/") else f"BASE{PREFIX}{rest}", https=True, **more)


def either(id, target, **more):
    """The path is the token's by one reading of it, and not by another; servers differ."""
    return Row(id, frozenset({OURS, PAGE, NOT_HERE}), target, https=True, **more)


WALLS = [
    answered("a token over http is answered exactly", times=2),
    Row("any other page over http redirects to https", frozenset({REDIRECT}), "BASE/page"),
    Row("the bare prefix over http redirects to https", frozenset({REDIRECT}), f"BASE{PREFIX}"),
    Row("an unknown token over http is the app's to redirect", frozenset({REDIRECT}), f"BASE{PREFIX}unknown"),
    answered("a token is answered under another host name", host="other.example"),
    answered("a token is answered under an IPv4 address", host="192.0.2.1"),
    answered("a token is answered under an IPv6 address", host="[2001:db8::1]"),
    answered("a token is answered under an IPv6 address with a port", host="[2001:db8::1]:80"),
    answered("a token is answered under a name with a port", host="other.example:80"),
    answered("a token is answered over HTTP/1.0 without Host", host=None),
    answered("a token is answered with an empty Host", host="", refusable=True),
    answered("a token is answered with a Host that is no name", host="no name_", refusable=True),
    Row("no page is served under another host name", frozenset({NOT_HERE}), "BASE/page", host="other.example", https=True),
    answered("a token is answered before the login, whatever the cookies", headers=COOKIES),
    Row("a page for members still wants the login", frozenset({LOGIN}), "BASE/account", https=True),
    answered("a token over https is answered as well", https=True),
    answered("every worker answers", times=16),
]

PATHS = [
    passed("the front page is the app's", "BASE/", "/"),
    passed("the bare prefix is the app's", ""),
    passed("an unknown token is the app's", "unknown-token"),
    passed("the token in the other case is the app's", "OTHERCASE"),
    passed("a slash behind the token makes it the app's", "TOKEN/", NOT_HERE),
    passed("an encoded way up is the app's", "..%2f..%2fetc%2fpasswd", NOT_HERE),
    passed("an encoded way up and back to the token is the app's", "x%2f..%2fTOKEN", NOT_HERE),
    passed("a raw way up is the app's", "../../../../etc/passwd", NOT_HERE, refusable=True),
    passed("a raw way up and back to the token is the app's", "x/../TOKEN", NOT_HERE, refusable=True),
    passed("a line end behind the token makes it the app's", "TOKEN%0A", NOT_HERE),
    passed("a header's worth of line ends is the app's", "TOKEN%0D%0AX-Evil:%201", NOT_HERE),
    passed("a NUL behind the token makes it the app's", "TOKEN%00", NOT_HERE, refusable=True),
    passed("an encoded slash before the token makes it the app's", "%2FTOKEN", NOT_HERE),
    passed("a parameter behind the token makes it the app's", "TOKEN;v=1", NOT_HERE),
    passed("letters of another script are the app's", "t%C3%B6ken", NOT_HERE),
    passed("bytes that are no UTF-8 are the app's", "%FF%FEtoken", NOT_HERE),
    passed("half an escape is the app's", "TOKEN%", NOT_HERE, refusable=True),
    passed("a token of 10 kB is the app's", "a" * 10_000, NOT_HERE, refusable=True),
    either("two slashes in front end in a defined answer", f"BASE/{PREFIX}TOKEN", refusable=True),
    either("encoded slashes in the prefix end in a defined answer", "BASE/.well-known%2Facme-challenge%2FTOKEN"),
    either("an encoded dot in the prefix ends in a defined answer", "BASE/%2ewell-known/acme-challenge/TOKEN"),
    either("a fragment ends in a defined answer", f"BASE{PREFIX}TOKEN#fragment", refusable=True),
    either("the absolute form ends in a defined answer", f"http://other.example:80BASE{PREFIX}TOKEN", refusable=True),
    answered("a query is ignored", f"BASE{PREFIX}TOKEN?a=b&c=%0A"),
]

METHODS = [
    answered("HEAD is as GET without a body", method="HEAD"),
    answered("a GET with a body is answered", body=b"hello"),
    *(
        passed(f"{method} is the app's", "TOKEN", NOT_HERE, method=method, body=b"x=1" if method in ("POST", "PUT") else b"")
        for method in ("POST", "PUT", "DELETE", "OPTIONS")
    ),
    passed("an unknown method is the app's", "TOKEN", NOT_HERE, method="PROPFIND", refusable=True),
    either("get in small letters ends in a defined answer", f"BASE{PREFIX}TOKEN", method="get", refusable=True),
]

HEADERS = [
    answered("a range is ignored", headers={"Range": "bytes=0-9"}),
    answered("an etag is ignored", headers={"If-None-Match": "*"}),
    answered("a date is ignored", headers={"If-Modified-Since": "Thu, 01 Jan 2037 00:00:00 GMT"}),
    answered("nothing is compressed", headers=GZIP),
    answered("another media type and language change nothing", headers={"Accept": "text/html", "Accept-Language": "de"}),
    answered("an odd User-Agent changes nothing", headers={"User-Agent": "\xe9\xff" * 200}, refusable=True),
    answered("a forwarded prefix changes nothing", headers={"X-Forwarded-Prefix": "/evil", "X-Script-Name": "/evil"}),
]

ROWS = {row.id: row for row in [*WALLS, *PATHS, *METHODS, *HEADERS]}


def outcome(reply, answer, *, method="GET", outer=False) -> str:
    """
    Say which of the defined ways this is, or what is wrong with it.

    Args:
        reply: What came back; None: the connection was closed.
        answer: The body of our answer.
        method: The request's method.
        outer: Whether an app that is not marked stands around the walled one: its 404 is an app's.
    """
    if reply is None:
        return REFUSED
    marked, status, location = reply.header("X-App") is not None, reply.status, reply.header("Location") or ""
    told = f"{status} {dict(reply.headers)} {reply.body[:200]!r}"
    if not marked and status == 200:
        return (
            OURS if _exact(reply, b"" if method == "HEAD" else answer, len(answer)) else f"an answer that is not exact: {told}"
        )
    if answer in reply.body or status >= 500:
        return f"wrong: {told}"
    if outer and status == 404:
        return NOT_HERE
    if not marked:
        return REFUSED if status in (400, 404, 405, 414, 431, 501) else f"not the app's: {told}"
    if status == 200:
        return PAGE if method == "HEAD" or b"app: " in reply.body else f"an empty page: {told}"
    if location.startswith(f"https://{HOST}/") and "/login" not in location:
        return REDIRECT
    if status in (301, 302, 303, 307) and "/login" in location:
        return LOGIN
    return NOT_HERE if 400 <= status < 500 else f"unexpected: {told}"


# What an app, a redirect or a compressing layer would add.
_FOREIGN = (
    *("Location", "Set-Cookie", "Vary", "Content-Encoding", "Content-Language", "Strict-Transport-Security", "ETag"),
    *("Content-Security-Policy", "X-Frame-Options", "Accept-Ranges", "Content-Range", "Transfer-Encoding"),
)


def _exact(reply, body, length) -> bool:
    return (
        reply.body == body
        and reply.header("Content-Length") == str(length)
        and reply.header("Content-Type") == "application/octet-stream"
        and reply.header("X-Content-Type-Options") == "nosniff"
        and reply.header("Cache-Control") == "no-store"
        and not any(reply.header(name) for name in _FOREIGN)
    )
