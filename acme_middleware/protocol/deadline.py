"""
A deadline for a whole reply.

A time limit of requests, as of sockets, is for each wait: a CA, or a proxy before it, that sends a byte now and then could hold
a command for days, in the headers as well as in the body. So the reply is read through something that knows when to stop.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
from typing import Any

from requests.adapters import HTTPAdapter

LIMITS = 3
"""A whole reply may take so many times the time limit, which is for each part of it. An ACME reply is a few kilobytes."""


class _Reader(io.RawIOBase):
    """What a socket receives, until a reply has taken too long."""

    def __init__(self, sock: socket.socket, received: io.RawIOBase) -> None:
        self._socket, self._received = sock, received
        self._allowed = LIMITS * (sock.gettimeout() or math.inf)
        self._end = time.monotonic() + self._allowed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left, limit = self._end - time.monotonic(), self._socket.gettimeout()
        if limit is not None and 0 < left < limit:
            self._socket.settimeout(left)  # the next reply over this connection gets a limit of its own
        try:
            if left > 0:
                return self._received.readinto(buffer)
        except TimeoutError:
            if time.monotonic() < self._end:
                raise
        raise TimeoutError(f"the reply did not end within {self._allowed:g} s")

    def close(self) -> None:
        self._received.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        self.fp = io.BufferedReader(_Reader(sock, self.fp.detach()))


class DeadlineAdapter(HTTPAdapter):
    """Gives every reply a deadline, that of a proxy too."""

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more)
        _limit(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **more)
        if not known:
            _limit(manager)
        return manager


def _limit(manager: Any) -> None:
    """Have the connections of a pool manager of urllib3, of whatever kind they are, read replies as here."""
    pools = {}
    for scheme, pool in manager.pool_classes_by_scheme.items():
        connection = type(pool.ConnectionCls.__name__, (pool.ConnectionCls,), {"response_class": _Response})
        pools[scheme] = type(pool.__name__, (pool,), {"ConnectionCls": connection})
    manager.pool_classes_by_scheme = pools
