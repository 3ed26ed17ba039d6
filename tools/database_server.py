"""
What the database servers of our tests have in common: a real server that can be killed, frozen and started again.

As root a server runs as an ordinary user, as they insist on it, who may still use any folder that root gives it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import local_ports
from background import Background

LIMIT = 30.0
"""Seconds in which a server starts (a cold disk, a recovery), or ends once it is told to."""

FOLDERS_OF_ROOT = "+dac_override"
"""The capability to use folders below one of root's alone, where pytest keeps its own."""


class DatabaseServer:
    """
    A server running from ``with`` (or ``start``) until the end of the block (or ``stop``).

    Args:
        listen: The address to listen on; 0.0.0.0 for all of them.
        port: The port; by default one that is reserved.
        folder: Where the data is kept, and found again by a later server; by default a temporary one that ``stop`` removes.

    Attributes:
        host: The address in its URLs: ``listen``, or 127.0.0.1 where that is 0.0.0.0. May be set to another address of it.
        port: The port it listens on, once started.
        log: A file with what it says.
    """

    scheme: str
    """What its URLs begin with."""
    account: str
    """The system user that Debian's package made for it."""
    fast_stop: signal.Signals = signal.SIGTERM
    """Ends it without waiting for its clients."""
    abort: signal.Signals = signal.SIGKILL
    """Ends it at once, where nobody needs its data any more."""

    def __init__(self, *, listen: str = "127.0.0.1", port: int | None = None, folder: Path | None = None) -> None:
        self.listen = listen
        self.host = "127.0.0.1" if listen == "0.0.0.0" else listen
        self.port = port or 0
        self._fixed_port = port
        self._kept_folder = folder
        self._things = contextlib.ExitStack()
        self._running: Background | None = None

    def start(self) -> Self:
        """
        Make the data folder, unless it is there, start the server and wait until it answers.

        Raises:
            RuntimeError: it did not start; the message ends with its log.
        """
        if self.folder is not None:
            raise RuntimeError("it is started already: to start it again after kill(), call restart()")
        for tries_left in (2, 1, 0):
            with contextlib.ExitStack() as things:
                try:
                    self._begin(things)
                except RuntimeError as error:
                    # Ports are locked among our own processes only; any other program may have been faster.
                    if "address already in use" not in str(error).lower() or self._fixed_port or not tries_left:
                        raise
                else:
                    self._things = things.pop_all()
                    break
        return self

    folder: Path | None = None
    """Where the data is, from ``start`` to ``stop``."""

    def _begin(self, things: contextlib.ExitStack) -> None:
        things.callback(self._forget)
        # Short, since the path of a socket takes at most 107 characters.
        self.run_folder = Path(things.enter_context(tempfile.TemporaryDirectory(prefix=f"{self.account}-")))
        self.folder = self._kept_folder or self.run_folder / "kept"
        self.log = self.run_folder / "log"
        self.log.touch()
        if not self._fixed_port:
            (self.port,) = things.enter_context(local_ports.reserve())
        password = self.folder / "password"
        if not password.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self.password = secrets.token_urlsafe(18)
            self._own(self.run_folder, self.folder)
            self.make_data(self.folder / "data")
            password.write_text(self.password)
        self.password = password.read_text()
        self._own(self.run_folder, self.folder)
        things.callback(self._end, self.fast_stop if self._kept_folder else self.abort)
        self.restart()

    def _forget(self) -> None:
        self.folder = None

    def _own(self, *folders: Path) -> None:
        if os.getuid() == 0:
            account = self._account()
            for folder in folders:
                os.chown(folder, account.pw_uid, account.pw_gid)

    def _account(self) -> pwd.struct_passwd:
        try:
            return pwd.getpwnam(self.account)
        except KeyError:
            return pwd.getpwnam("nobody")

    def as_user(self, *argv: str | Path) -> list[str | Path]:
        """The command line that runs this one as the server's user."""
        if os.getuid():
            return list(argv)
        account = self._account()
        user = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        # Once more, as the kernel forgets it where the user changes: it ends with the thread that started it.
        tied = ["--pdeathsig", self.fast_stop.name.removeprefix("SIG")]
        return ["setpriv", *user, f"--inh-caps={FOLDERS_OF_ROOT}", f"--ambient-caps={FOLDERS_OF_ROOT}", *tied, "--", *argv]

    def restart(self) -> None:
        """
        Start the server again, on the same data and port, after ``kill`` or ``stop_process``; running, it is stopped first.

        Raises:
            RuntimeError: it did not start; the message ends with its log.
        """
        self.stop_process()
        assert self.folder is not None, "start() comes first"
        running = self._running = Background(self.as_user(*self.command(self.folder / "data")), log=self.log, cwd=self.folder)
        running.wait_until(self.answers, seconds=LIMIT)

    def stop_process(self) -> None:
        """End the server in good order; its data stays, and ``restart`` begins with it. Nothing where it does not run."""
        self._end(self.fast_stop)

    def _end(self, how: signal.Signals) -> None:
        if self._running is not None:
            self.thaw()
            self._running.process.send_signal(how)
            with contextlib.suppress(TimeoutError):  # what is left is killed
                _wait_until_gone(_tree(self.pid))
            self.kill()

    def stop(self) -> None:
        """End the server, and remove its folder unless it was given. May be called twice."""
        self._things.close()

    def kill(self) -> None:
        """Kill the server and all its processes at once, as a power cut does, and wait until they are gone."""
        if self._running is not None:
            everybody = self.freeze()  # so that none sees another's end, and none is forked meanwhile
            for pid in everybody:
                _signal(pid, signal.SIGKILL)
            self._running.process.wait(LIMIT)
            _wait_until_gone(everybody)
            self._running = None

    def freeze(self) -> list[int]:
        """Stop all its processes (SIGSTOP): connections stay open, and nothing is answered. Returns their ids."""
        everybody: list[int] = []
        while len(now := _tree(self.pid)) > len(everybody):  # until none was forked meanwhile
            everybody = now
            for pid in everybody:
                _signal(pid, signal.SIGSTOP)
        return everybody

    def thaw(self) -> None:
        """Let them go on (SIGCONT)."""
        for pid in reversed(_tree(self.pid)):
            _signal(pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        """The main process."""
        assert self._running is not None, "it does not run"
        return self._running.process.pid

    @property
    def url(self) -> str:
        """The database ``acme`` for open_store(), with an ordinary user and its password."""
        return self.url_of("acme", user="acme")

    def url_of(self, database: str, *, user: str) -> str:
        """A database by its name, for a user."""
        return f"{self.scheme}://{user}:{self.password}@{self.host}:{self.port}/{database}"

    def make_data(self, data: Path) -> None:
        """Fill a folder that does not exist yet, before the first start."""
        raise NotImplementedError

    def command(self, data: Path) -> list[str | Path]:
        """The command line of the server."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it is ready for the ordinary user."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def _stat(pid: int | str) -> tuple[str, int]:
    """The state and the parent of a process; ``("Z", 0)`` when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "Z", 0
    return fields[0], int(fields[1])


def _tree(pid: int) -> list[int]:
    """A process and all below it, parents first. By parent: each of PostgreSQL's has a process group of its own."""
    parents = {int(entry.name): _stat(entry.name)[1] for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found


def _wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + LIMIT
    while any(_stat(pid)[0] != "Z" for pid in pids):  # a zombie has let go of all it had; whose child it is may not reap it
        if time.monotonic() > deadline:
            raise TimeoutError(f"still there after {LIMIT:g} s: {pids}")
        time.sleep(0.01)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # ended by itself meanwhile
        os.kill(pid, number)
