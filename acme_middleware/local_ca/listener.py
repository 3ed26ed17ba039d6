"""HTTP/1.1 over TLS: a thread for each connection, which stays open from request to request."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import unquote_to_bytes

from werkzeug.wrappers import Request, Response

from acme_middleware.local_ca.faults import Cut

logger = logging.getLogger(__name__)

LARGEST_REQUEST = 1 << 16
IDLE = 75.0
"""Seconds that a connection may be silent."""

BACKLOG = 128
"""Clients open many connections at once; those beyond the backlog would wait a second for their SYN to be sent again."""


class Listener(ThreadingMixIn, TCPServer):
    """
    Serves requests until it is closed.

    Args:
        address: An address, as text, and a port, 0 for a free one.
        pair: The PEM files of the certificate and the key for TLS.
        answer: Makes the answer to a request, or raises Cut.
        clock: The time in the Date of answers.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = BACKLOG

    def __init__(
        self,
        address: tuple[str, int],
        pair: tuple[Path, Path],
        answer: Callable[[Request], Response],
        clock: Callable[[], datetime],
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.answer, self.clock = answer, clock
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*pair)
        self._connections: set[ssl.SSLSocket] = set()
        self._closing = False
        self._lock = threading.Lock()
        super().__init__(address, Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="local-ca", daemon=True)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and end the connections that are open."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._lock:
            self._closing = True
            for connection in self._connections:
                with contextlib.suppress(OSError):  # the client was quicker
                    connection.shutdown(socket.SHUT_RDWR)

    def opened(self, connection: ssl.SSLSocket) -> None:
        """Note a connection, so that it is ended by ``close``. Raises ConnectionAbortedError when that was called."""
        with self._lock:
            if self._closing:
                raise ConnectionAbortedError("this CA is being stopped")
            self._connections.add(connection)

    def ended(self, connection: ssl.SSLSocket) -> None:
        with self._lock:
            self._connections.discard(connection)
        connection.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients leave when they like, or do not trust our certificate: that is no error of ours."""
        error = sys.exception()
        if isinstance(error, OSError):
            logger.info("%s left: %s", client_address[0], error)
        else:
            logger.exception("a request from %s", client_address[0])


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE
    wbufsize = -1  # headers and body in one segment
    reset = False

    def setup(self) -> None:
        # The handshake is here, in the connection's own thread: a client that does not speak stops nobody else.
        self.request.settimeout(self.timeout)
        self.request = self.server.context.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
        try:
            self.server.opened(self.request)
            self.request.do_handshake()
            super().setup()
        except OSError:
            self.server.ended(self.request)
            raise

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            if self.reset:
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.server.ended(self.request)

    def handle_any(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or "Transfer-Encoding" in self.headers or int(length) > LARGEST_REQUEST:
            self.close_connection = True
            self._write(Response("a request brings its length, and not more than 64 KiB\n", 413))
            return
        body = self.rfile.read(int(length))
        try:
            answer = self.server.answer(Request(self._environ(body)))
        except Cut as cut:
            self.close_connection, self.reset = True, cut.reset
            if cut.half is not None:
                self._write(cut.half, half=True)
            return
        self._write(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = handle_any

    def _write(self, answer: Response, *, half: bool = False) -> None:
        body = answer.get_data()
        self.send_response_only(answer.status_code)
        if "Date" not in answer.headers:
            self.send_header("Date", format_datetime(self.server.clock(), usegmt=True))
        for name, value in answer.headers.items():
            if name != "Content-Length":
                self.send_header(name, value)
        if answer.status_code != 204:
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if half else body)

    def _environ(self, body: bytes) -> dict[str, Any]:
        path, _, query = self.path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": self.server.server_address[0],
            "SERVER_PORT": str(self.server.port),
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_ADDR": self.client_address[0],
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.url_scheme": "https",
            "wsgi.input": io.BytesIO(body),
        }
        for name, value in self.headers.items():
            key = name.upper().replace("-", "_")
            if key not in ("CONTENT_TYPE", "CONTENT_LENGTH") and "_" not in name:
                environ[f"HTTP_{key}"] = value
        return environ

    def log_message(self, format: str, *args: object) -> None:
        """Requests are logged with their answers by :mod:`acme_middleware.local_ca.web`."""
        logger.debug(format, *args)
