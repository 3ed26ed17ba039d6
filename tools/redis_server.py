"""
Redis, a real one for tests: it listens on TCP, wants a password, and loses nothing when it is killed.

    with Redis() as server:
        ...  # use server.url
        server.kill()
        server.restart()  # on the same port, with what was written before
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import local_ports
from background import Background

LIMIT = 2.0
"""Seconds that the server has to answer whether it is ready."""

SETTINGS = {
    # An answer means that it is on the disk: a killed server must lose nothing.
    "appendonly": "yes",
    "appendfsync": "always",
    "save": '""',
    "maxmemory": "64mb",
    "maxmemory-policy": "noeviction",
    "protected-mode": "no",
    "databases": "2",
    "enable-debug-command": "no",
}


class Redis:
    """
    A Redis server, running from ``with`` (or ``start``) until the end of the block (or ``stop``).

    Args:
        listen: The address to listen on; ``0.0.0.0`` for all, other network namespaces included.
        port: The port, or None for a free one, which stays this server's own until ``stop``.
        folder: Where its data are and stay; by default in a temporary folder, which ``stop`` removes.
        settings: Lines of redis.conf by their first word, on top of the ones above.

    Attributes:
        host: The address in its URLs: ``listen``, or 127.0.0.1 where that is 0.0.0.0. May be set to another address of it.
        port: The port.
        log: The server's log, in its folder.
    """

    def __init__(
        self,
        *,
        listen: str = "127.0.0.1",
        port: int | None = None,
        folder: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.host = "127.0.0.1" if listen == "0.0.0.0" else listen
        self._listen, self._port, self._folder = listen, port, folder
        self._settings = {**SETTINGS, **(settings or {})}
        self._prefixes = itertools.count(1)
        self._things = contextlib.ExitStack()
        self._server: Background | None = None

    def start(self) -> Self:
        """
        Start the server and wait until it answers.

        Raises:
            RuntimeError: it did not start; the message ends with its log.
            FileNotFoundError: there is no redis-server on this machine.
        """
        for tries_left in (2, 1, 0):
            with contextlib.ExitStack() as things:
                try:
                    self._begin(things)
                except RuntimeError as error:
                    # Ports are locked among our own processes only; any other program may have been faster.
                    if "address already in use" not in str(error).lower() or self._port or not tries_left:
                        raise
                else:
                    self._things = things.pop_all()
                    break
        return self

    def _begin(self, things: contextlib.ExitStack) -> None:
        self.folder = self._folder or Path(things.enter_context(tempfile.TemporaryDirectory(prefix="redis-")))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self._port or things.enter_context(local_ports.reserve())[0]
        self.log = self.folder / "redis.log"
        things.callback(self._end)
        self._configure()
        self._run()

    def _configure(self) -> None:
        # The passwords stay those of the folder, so that URLs outlive the server.
        kept = self.folder / "passwords"
        if not kept.exists():
            kept.touch(mode=0o600)
            kept.write_text(f"{secrets.token_urlsafe(18)} {secrets.token_urlsafe(18)}")
        self._password, self._admin_password = kept.read_text().split()
        users = [
            "user default off",
            f"user acme on >{self._password} ~* &* +@all -@admin -@dangerous +info +config|get",
            f"user admin on >{self._admin_password} ~* &* +@all",
        ]
        config = self.folder / "redis.conf"
        config.touch(mode=0o600)
        settings = {**self._settings, "bind": self._listen, "port": str(self.port), "dir": str(self.folder)}
        config.write_text("\n".join([*(f"{name} {value}" for name, value in settings.items()), *users, ""]))

    def _run(self) -> None:
        self._server = server = Background(["redis-server", self.folder / "redis.conf"], log=self.log)
        server.wait_until(self._is_ready)

    def _is_ready(self) -> bool:
        """Whether a server that knows our password answers, and has read its data."""
        try:
            with socket.create_connection((self.host, self.port), LIMIT) as connection:
                connection.sendall(f"AUTH acme {self._password}\r\nPING\r\nQUIT\r\n".encode())
                answers = connection.makefile("rb").read()
        except OSError:
            return False
        return b"+PONG" in answers

    @property
    def url(self) -> str:
        """For open_store(), with the password of ``acme``, an ordinary user who may use any key and administer nothing."""
        return f"redis://acme:{self._password}@{self.host}:{self.port}/0"

    @property
    def admin_url(self) -> str:
        """The same for ``admin``, who may do everything."""
        return f"redis://admin:{self._admin_password}@{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id, also its process group's."""
        return self._running().process.pid

    def _running(self) -> Background:
        if self._server is None:
            raise RuntimeError("the server was not started")
        return self._server

    def stop(self) -> None:
        """Stop the server, and remove its temporary folder. May be called twice."""
        self._things.close()

    def _end(self) -> None:
        if self._server is not None:
            self._signal(signal.SIGCONT)  # a frozen one would let its SIGTERM wait
            self._server.stop()

    def kill(self) -> None:
        """End it by SIGKILL, whatever it is doing, and wait until it is gone. Its data stay for ``restart``."""
        self._signal(signal.SIGKILL)
        self._running().process.wait()

    def restart(self) -> None:
        """
        Start it again, on the same folder and port; one that still runs is stopped first.

        Raises:
            RuntimeError: it did not start; the message ends with its log.
        """
        self._end()
        self._run()

    def freeze(self) -> None:
        """Stop all its processes where they are: its connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it is gone already
            os.killpg(self.pid, number)

    def new_database(self) -> str:
        """The URL of a place where nothing is yet: the same server, with a prefix of its own for all keys."""
        return f"{self.url}?prefix=database-{next(self._prefixes)}-{secrets.token_hex(4)}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
