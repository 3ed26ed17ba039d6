"""An HTTP server that answers as a test says, over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Scripted = tuple[int, Mapping[str, str], bytes] | None
"""Status, headers and body; None cuts the connection without an answer."""


@dataclass
class Server:
    """``requests`` is what was asked, in order; ``bodies`` what was sent along."""

    port: int
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked(self, method: str, path: str) -> int:
        """How often this was asked."""
        return self.requests.count((method, path))


@contextmanager
def scripted(answer: Callable[[str, str, int], Scripted]) -> Iterator[Server]:
    """
    Serve until the end of the block.

    Args:
        answer: Called with the method, the path and how often the very same was asked before.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            before = served.asked(self.command, self.path)
            served.requests.append((self.command, self.path))
            served.bodies.append(body)
            said = answer(self.command, self.path, before)
            self.close_connection = said is None
            if said is None:
                return
            status, headers, content = said
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = handle_any

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served = Server(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
