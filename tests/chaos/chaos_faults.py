"""Doing what a schedule says: each blow in a thread of its own, from its point or moment to its end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos_engines import Server
from chaos_hosts import CA_ADDRESS, SERVER_ADDRESS, Host
from chaos_journal import read
from chaos_schedule import STANDING, STRIKES, Blow

PATIENCE = 2.5
"""Seconds in which a command should come to a point; afterwards the blow falls wherever they are."""

PAST_THE_LEASE = 1.6
"""How many times to live of a lease a stopped process stays so."""


@dataclass(frozen=True)
class Hit:
    """
    A blow that has fallen on something.

    Attributes:
        at_point: Whether a command was at the point that the schedule names; a state of things is there at every point.
        began: When, by the monotonic clock.
        host: Where, as far as it is about one host.
    """

    blow: Blow
    at_point: bool
    began: float
    host: str = ""

    def __str__(self) -> str:
        return f"{self.blow.fault} {self.host} {self.blow.point if self.at_point and self.blow.point else 'at any moment'}"


class Blows:
    """
    The blows of one schedule.

    Args:
        ttl: Seconds that a lease lives.
        lasting: Its thread stays: the server ends with the thread that has started it.

    Attributes:
        hits: The blows that have fallen on something.
    """

    def __init__(self, server: Server, hosts: list[Host], strikes: Path, lasting: ThreadPoolExecutor, *, ttl: float) -> None:
        self.server, self.hosts, self.strikes, self.lasting, self.ttl = server, hosts, strikes, lasting, ttl
        self.hits: list[Hit] = []
        self.errors: list[BaseException] = []
        self._server_lock = threading.Lock()
        self._disk_locks = [threading.Lock() for _ in hosts]
        self._began = time.monotonic()

    def begin(self, blows: tuple[Blow, ...]) -> list[threading.Thread]:
        """Begin; all is well again when the threads have ended."""
        threads = [threading.Thread(target=self._deal, args=(blow,)) for blow in blows]
        for thread in threads:
            thread.start()
        return threads

    def _deal(self, blow: Blow) -> None:
        try:
            self._strike(blow)
        except BaseException as error:
            self.errors.append(error)

    def _strike(self, blow: Blow) -> None:
        if blow.fault in STANDING:
            self.hits.append(Hit(blow, True, self._began))
            return
        struck = self._at_point(blow) if blow.point else None
        if struck is None:
            time.sleep(max(0.0, self._began + blow.after - time.monotonic()))
        if blow.fault in STRIKES:
            self._at_process(blow, struck)
            return

        def release() -> None:
            if struck is not None:
                struck[1].unlink(missing_ok=True)

        if blow.fault == "read-only":
            release()  # a process that waits with a file open keeps its disk from becoming read-only
        host = self._host_of(struck[0]) if struck else None
        number = blow.host if host is None else host
        try:
            with self._broken(blow, number):
                self.hits.append(Hit(blow, struck is not None, time.monotonic(), self.hosts[number].name))
                release()
                time.sleep(blow.lasts)
        finally:
            release()

    @contextmanager
    def _broken(self, blow: Blow, number: int) -> Iterator[None]:
        host = self.hosts[number]
        match blow.fault:
            case "server restarted":
                with self._server_lock:
                    self.server.kill()
                    try:
                        yield
                    finally:
                        self.lasting.submit(self.server.restart).result()
            case "server frozen":
                with self._server_lock:
                    self.server.freeze()
                    try:
                        yield
                    finally:
                        self.server.thaw()
            case "connection black-holed":
                addresses = (SERVER_ADDRESS, CA_ADDRESS) if blow.wide else (SERVER_ADDRESS,)
                for address in addresses:
                    host.cut_off(address)
                try:
                    yield
                finally:
                    for address in addresses:
                        host.connect_again(address)
            case "disk full":
                with self._disk_locks[number]:
                    host.fill_disk()
                    try:
                        yield
                    finally:
                        host.make_room()
            case "read-only":
                with self._disk_locks[number]:
                    _again_and_again(lambda: host.set_read_only(True))
                    try:
                        yield
                    finally:
                        host.set_read_only(False)
            case other:
                raise ValueError(f"nobody knows how to do {other!r}")

    def _at_point(self, blow: Blow) -> tuple[int, Path] | None:
        """Lay out a strike, and wait until it has hit: the process, and the file whose removal lets it go on."""
        laid = self.strikes / blow.point
        deadline = time.monotonic() + PATIENCE
        whole = self.strikes / f"about to be laid {id(blow)}"
        whole.write_text(STRIKES.get(blow.fault, "wait"))
        ours = whole.stat().st_ino  # another blow at the same point may be laid out as soon as this one has been taken
        try:
            while time.monotonic() < deadline:
                try:
                    os.link(whole, laid)  # one blow at a time waits at a point; nobody finds it half written
                    break
                except FileExistsError:
                    time.sleep(0.02)
            else:
                return None
            while time.monotonic() < deadline:
                if (hit := self._hit(blow.point, ours)) is not None:
                    return hit
                time.sleep(0.005)
            with contextlib.suppress(FileNotFoundError):
                if laid.stat().st_ino == ours:
                    laid.unlink()
            return self._hit(blow.point, ours)
        finally:
            whole.unlink()

    def _hit(self, point: str, ours: int) -> tuple[int, Path] | None:
        """The process that has taken the strike of this inode, and the file."""
        for found in self.strikes.glob(f"struck * {point}"):
            with contextlib.suppress(FileNotFoundError):  # another's, which has just gone on
                if found.stat().st_ino == ours:
                    return int(found.name.split()[1]), found
        return None

    def _at_process(self, blow: Blow, struck: tuple[int, Path] | None) -> None:
        pid = struck[0] if struck else self._working()
        if pid is None:
            return
        self.hits.append(Hit(blow, struck is not None, time.monotonic()))
        with contextlib.suppress(ProcessLookupError):  # it has just ended, or has done it to itself
            if struck is None:
                os.kill(pid, signal.SIGKILL if blow.fault == "kill -9" else signal.SIGSTOP)
            if blow.fault != "kill -9":
                time.sleep(PAST_THE_LEASE * self.ttl)
                os.kill(pid, signal.SIGCONT)
        if struck is not None:
            struck[1].unlink(missing_ok=True)

    def _working(self) -> int | None:
        """The process that holds the lease, by what it has said itself; None when that has ended."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            held = [line for host in self.hosts for line in read(host.journal) if line["point"] == "lease held"]
            latest = max(held, key=lambda line: line["at"], default=None)
            if latest is not None and latest["at"] >= self._began and _is_there(latest["pid"]):
                return int(latest["pid"])
            time.sleep(0.02)
        return None

    def _host_of(self, pid: int) -> int | None:
        for number, host in enumerate(self.hosts):
            if any(line["pid"] == pid and line["point"] == "struck" for line in read(host.journal)):
                return number
        return None


def _is_there(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty for a zombie
    except (FileNotFoundError, ProcessLookupError):
        return False


def _again_and_again(work: Callable[[], Any]) -> None:
    """What the kernel refuses while a file is open for writing."""
    deadline = time.monotonic() + 5.0
    while True:
        try:
            work()
            return
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
