"""Clients that connect over TLS all the time, and count what fails, while a certificate is renewed."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from tls_lab import NAME, client_context

LIMIT = 20.0


def connect(port: int, *, name: str = NAME, context: ssl.SSLContext) -> ssl.SSLSocket:
    """One handshake over a new connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    try:
        return context.wrap_socket(connection, server_hostname=name)
    except BaseException:
        connection.close()
        raise


def peer(port: int, *, name: str = NAME, context: ssl.SSLContext | None = None) -> bytes | None:
    """The certificate that a new connection sees."""
    with connect(port, name=name, context=context or client_context()) as connection:
        return connection.getpeercert(binary_form=True)


class Load:
    """
    Clients for the length of a with block: most open a connection for each request, one keeps its own.

    Args:
        port: Where the server listens on 127.0.0.1.
        fresh: How many open a connection for each request.
        h2: They speak HTTP/2.

    Attributes:
        handshakes: How many went well.
        failures: What did not, in words.
        seen: How often each certificate was seen.
    """

    def __init__(self, port: int, *, fresh: int = 3, h2: bool = False) -> None:
        self.port, self.h2 = port, h2
        self.failures: list[str] = []
        self.seen: Counter[bytes | None] = Counter()
        self._context = client_context(alpn=["h2"] if h2 else ["http/1.1"])
        self._stop, self._lock = threading.Event(), threading.Lock()
        work = [self._fresh] * fresh + ([] if h2 else [self._kept])
        self._threads = [threading.Thread(target=self._run, args=(one,)) for one in work]

    @property
    def handshakes(self) -> int:
        return self.seen.total()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self) -> None:
        """Wait until some more handshakes were made."""
        until, deadline = self.handshakes + 5, time.monotonic() + LIMIT
        while self.handshakes < until:
            assert time.monotonic() < deadline, "no handshakes are made any more"
            time.sleep(0.002)

    def _run(self, work: object) -> None:
        while not self._stop.is_set():
            try:
                work()  # type: ignore[operator]
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")

    def _connect(self) -> ssl.SSLSocket:
        connection = connect(self.port, context=self._context)
        with self._lock:
            self.seen[connection.getpeercert(binary_form=True)] += 1
        return connection

    def _fresh(self) -> None:
        with self._connect() as connection:
            if self.h2:
                assert connection.selected_alpn_protocol() == "h2", "HTTP/2 was lost"
                _http2(connection)
            else:
                _http1(connection, keep=False)

    def _kept(self) -> None:
        with self._connect() as connection:
            for _ in itertools.count():
                if self._stop.is_set() or not _http1(connection, keep=True):
                    return


def _http1(connection: ssl.SSLSocket, *, keep: bool) -> bool:
    """One request; returns whether the server keeps the connection."""
    connection.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n".encode())
    received = b""
    while not received.endswith(b"hello"):
        more = connection.recv(65536)
        assert more, f"it was cut after {received!r}"
        received += more
    assert received.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")), received
    return keep and received.startswith(b"HTTP/1.1") and b"connection: close" not in received.lower()


def _http2(connection: ssl.SSLSocket) -> None:
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import DataReceived, StreamEnded

    client = H2Connection(H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    headers = {":method": "GET", ":path": "/", ":scheme": "https", ":authority": NAME}
    client.send_headers(1, list(headers.items()), end_stream=True)
    body, ended = b"", False
    while not ended:
        connection.sendall(client.data_to_send())
        received = connection.recv(65536)
        assert received, "it was cut"
        for event in client.receive_data(received):
            body += event.data if isinstance(event, DataReceived) else b""
            ended = ended or isinstance(event, StreamEnded)
    assert body == b"hello"
