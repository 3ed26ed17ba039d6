"""
Requests that bots, scanners and odd clients might send, most of them near the path of tokens; all follow from a seed.

    for request in itertools.islice(requests(seed=7), 1000):
        connection.sendall(request.raw)
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

PREFIX = b"/.well-known/acme-challenge/"
TOKEN = b"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ANSWER = TOKEN + b".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

METHODS = [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND", b"TRACE"]
ODD_METHODS = [b"get", b"Head", b"PRI", b"X" * 15, b"M-SEARCH", b"GE%54", b"G\xc9T", b"-", b"GET\x0b"]
PIECES = [
    *(b"%00 %0a %0D%0A %2f %2F %2e%2e%2f %5c %25 %252f %253A % %z %u0041 %c3%a9 %C0%AF %ff %f0%9f%94%92 %E2%80%AE".split()),
    *(b"%1b[2J / // .. /../ /./ \\ ; ;v=1 ? ?a=b # * ~ : @ & = + $ , ! ' ( ) [ ] | ^ ` { } \" < >".split()),
    *(b".expires- .acme-middleware- .php .. index.html wp-login.php .git/config etc/passwd C: NUL AUX a b Z 0 _ -".split()),
    *(b"\x01", b"\x7f", b"\xc3\xa9", b"\xff", b"a" * 85, b"b" * 300),
]
HOSTS = [b"example.com", b"other.example", b"192.0.2.1", b"[2001:db8::1]", b"example.com:80", b"EXAMPLE.com.", b"localhost"]
ODD_HOSTS = [
    b"",
    b"exa mple",
    b"example.com:99999",
    b"a" * 300,
    b"[::1",
    b"../..",
    b"ex\xe4mple",
    b"a,b",
    b"example.com/x",
    b"@",
    b"%00",
]
HEADERS = [
    (b"Range", b"bytes=0-9"),
    (b"If-None-Match", b"*"),
    (b"If-Modified-Since", b"Thu, 01 Jan 2037 00:00:00 GMT"),
    (b"If-Match", b'"x"'),
    (b"Accept-Encoding", b"gzip, br;q=0.5, *"),
    (b"Accept", b"text/html;q=\xff"),
    (b"User-Agent", b"\xe9\xff' OR 1=1 --"),
    (b"User-Agent", b"a" * 2000),
    (b"Cookie", b'sessionid=%00; ;;=; a="b'),
    (b"X-Forwarded-For", b"192.0.2.9, ' %1b[2J"),
    (b"X-Forwarded-Proto", b"https"),
    (b"X-Forwarded-Host", b"other.example"),
    (b"X-HTTP-Method-Override", b"DELETE"),
    (b"X-Original-URL", b"/admin"),
    (b"Forwarded", b'for="_x";proto=http;by='),
    (b"Referer", b"http://[::1"),
    (b"Authorization", b"Basic !!!"),
    (b"Upgrade-Insecure-Requests", b"1"),
    (b"Content-Type", b"multipart/form-data"),
    (b"Accept-Language", b"xx-\xff,*;q=2"),
    (b"X-" + b"y" * 200, b""),
]
ROOTS = ["/app", "/a/b", "/.well-known", "/.well-known/acme-challenge", "/\u00e9", "/%2f"]

# What a server must refuse, or may take in some way of its own; after it, or at once, it closes the connection.
BROKEN = [
    b"GET\r\n\r\n",
    b"GET  HTTP/1.1\r\n\r\n",
    b"GET {t} HTTP/9.9\r\nHost: a\r\n\r\n",
    b"GET {t} HTTP/1.1 x\r\nHost: a\r\n\r\n",
    b"GET {t}\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET {t} x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET {t} HTTP/1.1\r\nHost a\r\n\r\n",
    b"GET {t} HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
    b"GET {t} HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
    b"GET {t} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET {t} HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"GET {t} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET {t} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST {t} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    b"GET {t} HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 300 + b"\r\n",
    b"GET {t} HTTP/1.1\r\nHost: a\r\nX: " + b"z" * 70_000 + b"\r\n\r\n",
    b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@dataclass(frozen=True, slots=True)
class Request:
    """
    One request, and what may come back.

    ``answer``: True, the key authorization must come; False, it must not; None, servers differ in how they read the target.
    ``refusable``: the server may refuse it before any app sees it.
    """

    kind: str
    method: bytes
    target: bytes
    host: bytes | None
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    answer: bool | None
    refusable: bool
    root: str = ""
    broken: bytes = b""

    @property
    def raw(self) -> bytes:
        """As it goes over a connection that is kept."""
        if self.broken:
            return self.broken
        lines = [self.method + b" " + self.target + b" HTTP/1.1"]
        if self.host is not None:
            lines.append(b"Host: " + self.host)
        lines += [name + b": " + value for name, value in self.headers]
        if self.body or self.method in (b"POST", b"PUT", b"PATCH"):
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body

    @property
    def path(self) -> bytes:
        """The path of the target, percent-decoded, as servers that follow RFC 9112 see it."""
        return unquote_to_bytes(self.target.partition(b"?")[0])


def requests(seed: int | str) -> Iterator[Request]:
    """All requests of a seed, one after the other, for ever."""
    rng = random.Random(seed)
    kinds = {_exact: 20, _encoded: 8, _unknown: 12, _near: 34, _elsewhere: 6, _method: 8, _form: 5, _host: 5, _broken: 2}
    choices = rng.choices
    while True:
        for kind in choices(list(kinds), list(kinds.values()), k=1000):
            yield kind(rng)


def _request(rng: random.Random, kind: str, target: bytes, **given: object) -> Request:
    headers = tuple(rng.sample(HEADERS, rng.choice((0, 0, 1, 2, 5))))
    method = b"HEAD" if rng.random() < 0.15 else b"GET"
    # Bytes that no target may have, and those that RFC 3986 excludes: some servers refuse them, and are right to.
    refusable = not target.isascii() or any(byte in target for byte in b'\x01\x7f"<>\\^`{|}#') or len(target) > 4000
    usual: dict[str, object] = {
        "method": method,
        "host": rng.choice(HOSTS),
        "headers": headers,
        "body": b"",
        "answer": False,
        "refusable": refusable,
        "root": rng.choice(ROOTS) if rng.random() < 0.1 else "",
    }
    return Request(kind, target=target, **{**usual, **given})  # type: ignore[arg-type]


def _query(rng: random.Random) -> bytes:
    return b"?" + rng.choice(PIECES).replace(b"#", b"") if rng.random() < 0.1 else b""


def _exact(rng: random.Random) -> Request:
    target = PREFIX + TOKEN + _query(rng)
    return _request(rng, "the token", target, answer=True)


def _encoded(rng: random.Random) -> Request:
    """The token's path, some of it percent-encoded: the same path by RFC 3986, section 6.2.2.2."""
    share = rng.random()
    path = b"".join(b"%%%02X" % byte if rng.random() < share and byte != 0x2F else bytes([byte]) for byte in PREFIX + TOKEN)
    return _request(rng, "the token, encoded", path, answer=True)


def _unknown(rng: random.Random) -> Request:
    length = rng.choice((1, 22, 43, 43, 43, 127, 128, 129, 1000, 7000))
    return _request(rng, "an unknown token", PREFIX + bytes(rng.choices(ALPHABET, k=length)) + _query(rng))


def _near(rng: random.Random) -> Request:
    target = bytearray(PREFIX + TOKEN)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(1, len(target) + 1)
        change = rng.randrange(4)
        if change == 0:
            target[at:at] = rng.choice(PIECES)
        elif change == 1:
            target[at : at + rng.randrange(1, 4)] = rng.choice(PIECES)
        elif change == 2:
            del target[at : at + rng.randrange(1, 30)]
        else:
            target[at:] = bytes(target[at:]).swapcase()
    path = unquote_to_bytes(bytes(target).partition(b"?")[0])
    same = path == PREFIX + TOKEN
    return _request(rng, "near the token", bytes(target), answer=None if b"#" in target else same)


def _elsewhere(rng: random.Random) -> Request:
    return _request(rng, "another page", rng.choice((b"/", PREFIX, PREFIX[:-1], b"/x?" + PREFIX + TOKEN, b"/app" + PREFIX)))


def _method(rng: random.Random) -> Request:
    target = PREFIX + rng.choice((TOKEN, TOKEN, b"unknown", b"", b"../x"))
    if rng.random() < 0.7:
        # One of them looks like a request: a server that takes it for the next one would answer twice.
        body = rng.choice((b"", b"x", b"GET " + target + b" HTTP/1.1\r\n\r\n", b"\x00" * 1000))
        return _request(rng, "another method", target, method=rng.choice(METHODS), body=body)
    # Django's are in capitals, whatever came.
    return _request(rng, "an odd method", target, method=rng.choice(ODD_METHODS), answer=None, refusable=True)


def _form(rng: random.Random) -> Request:
    path = PREFIX + rng.choice((TOKEN, b"unknown", b"..%2f", b""))
    before = rng.choice(
        (b"http://example.com", b"https://[::1]:8", b"http://", b"ftp://u:p@h", b"/", b"//", b"/x/..", b"http:", b"*", b"*/")
    )
    return _request(rng, "another form of target", before + path, answer=None, refusable=True)


def _host(rng: random.Random) -> Request:
    # A request without Host in HTTP/1.1, or with a wrong one, is to be refused: RFC 9112 section 3.2. Not all do.
    host = rng.choice([*ODD_HOSTS, None])
    return _request(rng, "an odd host", PREFIX + TOKEN, host=host, answer=True, refusable=True)


def _broken(rng: random.Random) -> Request:
    target = rng.choice((PREFIX + TOKEN, PREFIX, b"/"))
    broken = rng.choice(BROKEN).replace(b"{t}", target)
    return _request(rng, "no HTTP", target, answer=None, refusable=True, broken=broken)
