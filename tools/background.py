"""Servers in the background that never outlive the program that started them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

# The kernel ends the command when its parent does, and it does not begin when the parent ended even earlier. By setpriv rather
# than a preexec_fn, which may deadlock in a program with threads.
TIED = ("setpriv", "--pdeathsig", "TERM", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


class Background:
    """
    A server in a process group of its own, its output in a file.

    Stopping ends the whole group. On Linux the server is told to stop also when the thread that started it ends, for whatever
    reason (kill -9 too), so start it in a thread that stays.

    Args:
        argv: The command.
        log: Where its output goes.
        env: Variables on top of this process's own.
        cwd: The folder to run it in.

    Raises:
        FileNotFoundError: the command does not exist.
    """

    def __init__(
        self, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.argv = [str(word) for word in argv]
        self.log = log
        if shutil.which(self.argv[0]) is None:
            raise FileNotFoundError(f"no such command: {self.argv[0]}")
        tied = [*TIED, str(os.getpid())] if sys.platform == "linux" and shutil.which("setpriv") else []
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*tied, *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 20.0) -> None:
        """
        Wait until ``ready()`` is true.

        Raises:
            RuntimeError: the server ended, or was not ready in time; the message ends with its log.
        """
        deadline = time.monotonic() + seconds
        while (ended := self.process.poll()) is not None or not ready():
            if ended is not None or time.monotonic() > deadline:
                what = f"ended with {ended}" if ended is not None else f"is not ready after {seconds:g} s"
                tail = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{Path(self.argv[0]).name} {what}; its log:\n{tail}")
            time.sleep(0.02)

    def stop(self, *, seconds: float = 5.0) -> None:
        """End the process group: SIGTERM, then SIGKILL for what is left. May be called twice."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):  # the SIGKILL below is for that
                self.process.wait(seconds)
        self._signal(signal.SIGKILL)
        self.process.wait(seconds)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # the whole group is gone, which is what was wanted
            os.killpg(self.process.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def listens(port: int, *, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections on that TCP port."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
