"""
Fetch a token as the CA will, before telling it that the token is there.

A CA asks once: a failed validation loses the order and counts against a limit. Our own fetch costs nothing, and can say which
layer answered. It follows redirects and ignores TLS errors, as Let's Encrypt does, and tries every address by itself, because
the CA takes IPv6 first and a stale AAAA record fails the validation.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from acme_middleware import __version__
from acme_middleware._text import printable
from acme_middleware.challenge import PREFIX

PER_ADDRESS = 5.0
REDIRECTS = 10
FOLLOWED = {301, 302, 307, 308}
LARGEST_PAGE = 1 << 16
LONGEST_URL = 200


class Finding(NamedTuple):
    """
    What one name gave.

    Attributes:
        wrong: Somebody answered, and not with the token: what they answered; "" if all was right or nobody did.
        silent: Nobody answered, at this address or at all: why; "" if everyone did.
        served: Whether some address gave the token.
    """

    wrong: str = ""
    silent: str = ""
    served: bool = False


def check(name: str, token: str, key_authorization: str, *, via: str | None = None) -> Finding:
    """
    Fetch a token through its public name.

    Args:
        name: The identifier, a DNS name or an IP address.
        via: HOST:PORT to connect to instead of the name's own addresses.
    """
    try:
        addresses = _addresses(name, via)
    except (OSError, UnicodeError) as error:
        return Finding(silent=f"{via or name} does not resolve here ({getattr(error, 'strerror', None) or error})")
    with ThreadPoolExecutor(len(addresses)) as pool:
        findings = list(pool.map(lambda address: _check_address(name, address, token, key_authorization, via), addresses))
    return Finding(
        wrong=next((finding.wrong for finding in findings if finding.wrong), ""),
        silent=next((finding.silent for finding in findings if finding.silent), ""),
        served=any(finding.served for finding in findings),
    )


def _addresses(host: str, via: str | None, port: int = 80) -> list[tuple[str, int]]:
    if via is not None:
        host, _, text = via.rpartition(":")
        host, port = host.removeprefix("[").removesuffix("]"), int(text)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(entry[4][0]), port) for entry in found))


def _check_address(name: str, address: tuple[str, int], token: str, key_authorization: str, via: str | None) -> Finding:
    deadline = time.monotonic() + PER_ADDRESS
    host = f"[{name}]" if ":" in name else name
    url = f"http://{host}{PREFIX}{token}"
    at = f"{address[0]} port {address[1]}"
    for _ in range(REDIRECTS + 1):
        try:
            response, body = _get(url, address, deadline)
        except http.client.HTTPException as error:
            if time.monotonic() >= deadline:
                return Finding(silent=f"no answer from {at}: nothing complete within {PER_ADDRESS:.0f} s")
            return Finding(wrong=f"{at} answered {url} with something that is no HTTP: {type(error).__name__}")
        except OSError as error:
            return Finding(silent=f"no answer from {at}: {error.strerror or error or type(error).__name__}")
        if response.status not in FOLLOWED:
            break
        target = response.headers.get("Location", "")
        try:
            target = urljoin(url, target)
            parts = urlsplit(target)
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
            if port not in (80, 443) or not parts.hostname:
                shown = printable(target, LONGEST_URL)
                return Finding(wrong=f"{at} redirects to {shown}, where a CA does not go (only to ports 80 and 443)")
            if via is not None and parts.scheme == "https":
                return Finding(wrong=f"{at} answered {response.status}, a redirect to {printable(target, LONGEST_URL)}")
            if via is None:
                address = _addresses(parts.hostname, None, port)[0]
        except (OSError, ValueError) as error:
            return Finding(wrong=f"{at} redirects to {printable(target, LONGEST_URL)}, which leads nowhere ({error})")
        url = target
    else:
        return Finding(wrong=f"{at} redirects more than {REDIRECTS} times, in the end to {printable(url, LONGEST_URL)}")
    if response.status == 200 and body.rstrip(b" \t\r\n") == key_authorization.encode():
        return Finding(served=True)
    return Finding(wrong=f"{at} answered {_describe(response, body)}")


def _get(url: str, address: tuple[str, int], deadline: float) -> tuple[http.client.HTTPResponse, bytes]:
    parts = urlsplit(url)
    with _connect(parts.scheme, parts.hostname, address, deadline) as connection, _ended_at(deadline, connection):
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.sendall(
            f"GET {target or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: acme-middleware/{__version__} self-check\r\n"
            f"Accept: */*\r\nConnection: close\r\n\r\n".encode()
        )
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = b""
        while len(body) < LARGEST_PAGE:
            _left(deadline)
            part = response.read1(LARGEST_PAGE - len(body))
            if not part:
                break
            body += part
        return response, body


def _connect(scheme: str, host: str | None, address: tuple[str, int], deadline: float) -> socket.socket:
    connection = socket.create_connection(address, timeout=_left(deadline))
    if scheme != "https":
        return connection
    context = ssl.create_default_context()
    # The CA does not verify it either: the certificate is what it is about to issue.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


@contextmanager
def _ended_at(deadline: float, connection: socket.socket) -> Iterator[None]:
    """End a connection at a moment, however busy it is: a byte a second keeps every single read within its time limit."""

    def end() -> None:
        with suppress(OSError):  # it has ended already
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(_left(deadline), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"nothing complete within {PER_ADDRESS:.0f} s")
    return left


def _describe(response: http.client.HTTPResponse, body: bytes) -> str:
    """What answered, in the words that help to tell which layer it was."""
    kind = response.headers.get("Content-Type", "no type").split(";")[0]
    title = re.search(rb"<title[^>]*>([^<]{1,100})", body, re.IGNORECASE)
    shown = title.group(1).decode("utf-8", "replace").strip() if title else ""
    server = response.headers.get("Server", "")
    about = "; ".join(filter(None, [kind, f'"{shown}"' if shown else "", f"Server: {server}" if server else ""]))
    size = f"{len(body):,}" if len(body) < LARGEST_PAGE else f"more than {LARGEST_PAGE:,}"
    return printable(
        f"{response.status}, a page of {size} bytes ({about})" if body else f"{response.status}, an empty page ({about})"
    )
