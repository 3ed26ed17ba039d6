"""Fetching a token as a CA does: over HTTP, from where the settings say that a name is."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from acme_middleware.local_ca.problems import Problem

logger = logging.getLogger(__name__)

MOST_REDIRECTS = 10
REDIRECTS = {301, 302, 307, 308}
LARGEST_BODY = 128
PORTS = {"http": 80, "https": 443}
AGENT = "acme-middleware local CA (http-01)"

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Place = str | Sequence[str] | App
"""``"address:port"``, several of them (IPv6 first, then one of IPv4), or a WSGI app that is called in this process."""


class Unfetched(Exception):  # it is the result of a validation
    """What went wrong; ``problem`` tells it to the client."""

    def __init__(self, type: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(type, detail)


@dataclass(frozen=True, slots=True)
class Fetched:
    """``start`` is the beginning of the body, ``place`` where it came from."""

    status: int
    location: str
    start: bytes
    place: str


class Sockets:
    """The connections that are open, so that they can be ended from elsewhere; afterwards none is opened any more."""

    def __init__(self) -> None:
        self._open: set[socket.socket] = set()
        self._ended = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def holding(self, connection: socket.socket) -> Iterator[None]:
        with self._lock:
            if self._ended:
                raise OSError("this CA is being stopped")
            self._open.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(connection)

    def end(self) -> None:
        with self._lock:
            self._ended = True
            for connection in self._open:
                with contextlib.suppress(OSError):  # the other side was quicker
                    connection.shutdown(socket.SHUT_RDWR)


def fetch(url: str, resolve: Mapping[str, Place], *, timeout: float, sockets: Sockets, follow: bool = True) -> Fetched:
    """
    GET a URL and follow its redirects: as Let's Encrypt does, to http and https on ports 80 and 443 only, trusting any
    certificate.

    Args:
        resolve: Where each name is: ``NAME``, ``NAME:443`` for https, ``*`` and ``*:443`` for all others.
        timeout: Seconds for each connection and each part of a reply.
        sockets: Knows what is open.
        follow: Whether redirects are followed.

    Raises:
        Unfetched: nobody answered, or the redirects lead nowhere.
    """
    for _ in range(MOST_REDIRECTS + 1):
        scheme, host, path = _parts(url)
        fetched = _get(scheme, host, path, resolve, timeout, sockets)
        if fetched.status not in REDIRECTS or not fetched.location or not follow:
            return fetched
        url = _joined(url, fetched.location)
    raise Unfetched("connection", f"more than {MOST_REDIRECTS} redirects, the last to {url}")


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise Unfetched("connection", f"redirected to {location!r}, which is no URL") from None


def _parts(url: str) -> tuple[str, str, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Unfetched("connection", f"redirected to {url!r}, which is no URL") from None
    if parts.scheme not in PORTS or not host:
        raise Unfetched("connection", f"redirected to {url!r}: only http and https are followed")
    if port is not None and port not in PORTS.values():
        raise Unfetched("connection", f"redirected to {url!r}: only the ports 80 and 443 are followed")
    # Servers send what they like: what is not ASCII is quoted, as browsers do it.
    return parts.scheme, host, quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe="/?%:@!$&'()*+,;=~")


def _get(scheme: str, host: str, path: str, resolve: Mapping[str, Place], timeout: float, sockets: Sockets) -> Fetched:
    suffix = ":443" if scheme == "https" else ""
    place = next((resolve[key] for key in (host + suffix, "*" + suffix) if key in resolve), None)
    if place is None:
        raise Unfetched(
            "dns", f"this CA was not told where {host}{suffix} is: start it with --resolve {host}{suffix}=ADDRESS:PORT"
        )
    header = f"[{host}]" if ":" in host else host
    if callable(place):
        return _call(place, scheme, header, path)
    failure = ""
    for address, port in _addresses([place] if isinstance(place, str) else place):
        try:
            return _ask(scheme, address, port, host, header, path, timeout, sockets)
        except ConnectionError as error:
            # Only a connection that was never made lets a CA try the other family.
            failure = f"{address}: {error.strerror or error}"
    raise Unfetched("connection", f"{failure}: fetching {scheme}://{header}{path}")


def _ask(scheme: str, address: str, port: int, host: str, header: str, path: str, timeout: float, sockets: Sockets) -> Fetched:
    url = f"{scheme}://{header}{path}"
    try:
        connected = socket.create_connection((address, port), timeout)
    except TimeoutError:
        raise ConnectionError(f"no connection within {timeout:.0f} s") from None
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from error
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    connection.sock = connected
    try:
        if scheme == "https":
            connection.sock = _any_certificate().wrap_socket(connected, server_hostname=host)
        with sockets.holding(connection.sock):
            connection.request(
                "GET", path, headers={"Host": header, "User-Agent": AGENT, "Accept": "*/*", "Connection": "close"}
            )
            response = connection.getresponse()
            return Fetched(response.status, response.headers.get("Location", ""), response.read(LARGEST_BODY), address)
    except ssl.SSLError as error:
        raise Unfetched("tls", f"{address}: {error.reason or error}: fetching {url}") from error
    except TimeoutError:
        raise Unfetched("connection", f"{address}: no answer within {timeout:.0f} s: fetching {url}") from None
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise Unfetched("connection", f"{address}: {str(error) or type(error).__name__}: fetching {url}") from error
    finally:
        connection.close()
        connected.close()


def _call(app: App, scheme: str, header: str, path: str) -> Fetched:
    """Ask an app in this process, as the server in front of it would."""
    from werkzeug.test import Client, EnvironBuilder

    url = f"{scheme}://{header}{path}"
    builder = EnvironBuilder(
        path,
        base_url=f"{scheme}://{header}",
        headers=[("User-Agent", AGENT)],
        environ_base={"REMOTE_ADDR": "127.0.0.1"},
    )
    try:
        response = Client(app).open(builder)
    except Exception as error:
        logger.exception("the app in this process, asked for %s", url)
        raise Unfetched("connection", f"the app in this process has failed: {error!r}: fetching {url}") from error
    finally:
        builder.close()
    start = response.get_data()[:LARGEST_BODY]
    return Fetched(response.status_code, response.headers.get("Location", ""), start, "the app in this process")


def _addresses(places: Sequence[str]) -> list[tuple[str, int]]:
    """IPv6 first, and then one more at the most, as Let's Encrypt does."""
    read = [address_and_port(place) for place in places]
    return sorted(read, key=lambda entry: ":" not in entry[0])[:2]


def address_and_port(place: str) -> tuple[str, int]:
    """
    Read ``127.0.0.1:80`` or ``[::1]:80``.

    Raises:
        ValueError: it is something else.
    """
    host, _, port = place.rpartition(":")
    address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{place!r} has no port")
    return str(address), int(port)


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # A name is validated before it has a certificate: CAs do not look at the one that is there (RFC 8555 section 8.3).
    context.verify_mode = ssl.CERT_NONE
    return context
