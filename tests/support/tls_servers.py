"""TLS servers in threads, each with the certificate that it was told to load, as servers keep it until they reload."""

from __future__ import annotations

import socket
import ssl
import tempfile
import threading
from contextlib import suppress
from typing import Self


class Server:
    """
    Shakes hands with whoever comes, and presents what was loaded last. A context manager.

    Args:
        pem: Certificate, chain and key, in the order in which they are to be sent.
        address: Where to listen.
        port: By default a free one.
    """

    def __init__(self, *pem: bytes, address: str = "127.0.0.1", port: int = 0) -> None:
        self.asked: list[str | None] = []
        self.load(*pem)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, port), family=family)
        self.address, self.port = self._listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def place(self) -> tuple[str, int]:
        return self.address, self.port

    def load(self, *pem: bytes, besides: bytes = b"") -> None:
        """Reload: from now on this is presented; ``besides`` one with another kind of key, to clients that know no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for whole in filter(None, (b"".join(pem), besides)):
            with tempfile.NamedTemporaryFile() as file:
                file.write(whole)
                file.flush()
                context.load_cert_chain(file.name)
        context.sni_callback = lambda connection, name, base: self.asked.append(name)
        self._context = context

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *what: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it is closed
                return
            connection.settimeout(10)
            with connection, suppress(OSError), self._context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)  # until the client goes
