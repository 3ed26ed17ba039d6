"""Send requests over a few kept connections, many of them pipelined, and read what comes back, byte by byte."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fuzz_grammar import Request

LIMIT = 20.0
"""Seconds that any reply may take."""

CLOSED = 0
"""Stands for the status of a request that was answered by closing the connection."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes


class _Connection:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Returns False where the other side has closed the connection."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def end(self) -> None:
        """Say that no more is coming."""
        with contextlib.suppress(OSError):  # closed by the other side already
            self.socket.shutdown(socket.SHUT_WR)

    def _more(self) -> bool:
        try:
            more = self.socket.recv(262_144)
        except ConnectionResetError:
            return False
        self.buffer += more
        if sys.platform == "linux":  # a server that writes head and body apart would wait for our ACK in between, for 40 ms
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return bool(more)

    def read(self, method: bytes) -> tuple[Reply, bool] | None:
        """One reply, and whether the connection stays open; None where it was closed before a whole one came."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            if not self._more():
                return None
        head, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
        status = int(head[9:12])
        if 100 <= status < 200:
            return self.read(method)
        headers = head.lower() + b"\r\n"
        stays = b"\r\nconnection: close" not in headers
        if method == b"HEAD" or status in (204, 304):
            return Reply(status, b""), stays
        if b"\r\ntransfer-encoding: chunked" in headers:
            return self._chunks(status, stays)
        start = headers.find(b"\r\ncontent-length:")
        if start < 0:
            while self._more():
                pass
            body, self.buffer = self.buffer, b""
            return Reply(status, body), False
        length = int(headers[start + 17 : headers.index(b"\r\n", start + 17)])
        body = self._exactly(length)
        return None if body is None else (Reply(status, body), stays)

    def _exactly(self, length: int) -> bytes | None:
        while len(self.buffer) < length:
            if not self._more():
                return None
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return body

    def _chunks(self, status: int, stays: bool) -> tuple[Reply, bool] | None:
        body = b""
        while True:
            while (end := self.buffer.find(b"\r\n")) < 0:
                if not self._more():
                    return None
            length = int(self.buffer[:end].partition(b";")[0], 16)
            self.buffer = self.buffer[end + 2 :]
            chunk = self._exactly(length + 2)
            if chunk is None:
                return None
            if not length:
                return Reply(status, body), stays
            body += chunk[:-2]


def exchange(
    port: int, requests: Iterator[Request], got: Callable[[Request, Reply], None], *, pipelined: int, connections: int = 2
) -> None:
    """
    Send all requests and hand each with its reply to ``got``, in no certain order.

    Args:
        port: Where the server listens, on 127.0.0.1.
        requests: What to send.
        got: Called for each.
        pipelined: How many are sent over a connection before their replies are read.
        connections: How many there are; while one is read, the server works on the others.
    """
    lanes = [_Lane(port, got) for _ in range(connections)]
    batch: list[Request] = []
    turn = 0
    try:
        for request in requests:
            batch.append(request)
            if len(batch) == pipelined:
                lane = lanes[turn % connections]
                lane.finish()
                lane.begin(batch)
                batch, turn = [], turn + 1
        for lane in lanes:
            lane.finish()
        lanes[0].begin(batch)
        lanes[0].finish()
    finally:
        for lane in lanes:
            lane.close()


class _Lane:
    """A connection and the requests that are under way over it."""

    def __init__(self, port: int, got: Callable[[Request, Reply], None]) -> None:
        self.port, self.got = port, got
        self.connection: _Connection | None = None
        self.fresh = True
        self.waiting: Sequence[Request] = ()
        self.later: Sequence[Request] = ()

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def begin(self, batch: Sequence[Request]) -> None:
        self.waiting, self.later = batch, ()
        # What may be refused goes alone: a server that refuses writes its 400 at once, before the replies to what came before.
        # What is no HTTP has a connection of its own, which ends after it: a server may wait for more, or take what follows
        # for its body.
        for place, request in enumerate(batch):
            if request.refusable:
                cut = max(place, 1)
                self.waiting, self.later = batch[:cut], batch[cut:]
                break
        if not self.waiting:
            return
        if self.waiting[0].broken:
            self.close()
        if self.connection is None:
            self.connection, self.fresh = _Connection(self.port), True
        sent = self.connection.send(b"".join(request.raw for request in self.waiting))
        if sent and self.waiting[0].broken:
            self.connection.end()

    def finish(self) -> None:
        """Read all that is under way. What a server left unanswered when it closed the connection is sent again."""
        while self.waiting:
            connection = self.connection
            assert connection is not None
            done = 0
            stays = True
            for request in self.waiting:
                read = connection.read(request.method)
                if read is None:
                    # On a connection of its own that is the answer. On a used one the server may have closed it before.
                    if done == 0 and self.fresh:
                        self.got(request, Reply(CLOSED, b""))
                        done = 1
                    stays = False
                    break
                reply, stays = read
                self.got(request, reply)
                done += 1
                self.fresh = False
                if not stays or request.broken:
                    stays = False
                    break
            rest = [*self.waiting[done:], *self.later]
            self.waiting = self.later = ()
            if not stays:
                self.close()
            if rest:
                self.begin(rest)
