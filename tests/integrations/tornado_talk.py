"""Several requests over one connection, sent as they are; and the tests' ways to start tornado_apps."""

import socket
import sys
from contextlib import contextmanager

from serving import Reply, serve


def tornado(how, *, env, **options):
    """Serve the tests' site, ``how`` as tornado_apps says."""
    number = "port={port}" if how == "started" else "{fd}"
    return serve([sys.executable, "-m", "tornado_apps", how, number], env=env, inherit=how != "started", **options)


class Talk:
    """A connection that stays."""

    def __init__(self, port, address="127.0.0.1", limit=10.0):
        self.socket = socket.create_connection((address, port), timeout=limit)
        self._received = b""

    def send(self, method, target, *headers, body=b"", host="www.example.com"):
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def receive(self, method="GET"):
        """The next reply, by its Content-Length; that of a HEAD has no body."""
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in filter(None, lines):
            name, _, value = line.partition(":")
            headers.setdefault(name.lower(), []).append(value.strip())
        length = 0 if method == "HEAD" else int(headers["content-length"][0])
        return Reply(int(first.split(" ")[1]), headers, self._exactly(length))

    def ask(self, method, target, *headers, **options):
        self.send(method, target, *headers, **options)
        return self.receive(method)

    def _until(self, end):
        while end not in self._received:
            self._more()
        found, _, self._received = self._received.partition(end)
        return found

    def _exactly(self, length):
        while len(self._received) < length:
            self._more()
        found, self._received = self._received[:length], self._received[length:]
        return found

    def _more(self):
        more = self.socket.recv(65536)
        if not more:
            raise ConnectionResetError(f"closed after {self._received!r}")
        self._received += more


@contextmanager
def talk(server, **options):
    """One connection to a server, for the length of a with block."""
    connection = Talk(server.port, server.address, **options)
    try:
        yield connection
    finally:
        connection.socket.close()
