"""Which process holds a lease, told so that another process on the same host can see whether it is still there."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Holder:
    """
    A process, as no other has ever been.

    Attributes:
        host: The host's name, for people.
        boot: A random id of this boot of the machine; empty where the system has none (then nothing is known of the process).
        namespace: The pid namespace: containers on one machine number their processes each for themselves.
        pid: The process id.
        started: When the process started, in ticks since the boot: process ids are used again.
    """

    host: str = ""
    boot: str = ""
    namespace: str = ""
    pid: int = 0
    started: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid else "another process"

    def facts(self) -> dict[str, Any]:
        """What a record holds of it."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: Any) -> Holder:
        """Read what :meth:`facts` wrote; what cannot be read names nobody, who is never gone."""
        if not isinstance(facts, dict):
            return cls()
        pid = facts.get("pid")
        return cls(
            host=str(facts.get("host", "")),
            boot=str(facts.get("boot", "")),
            namespace=str(facts.get("namespace", "")),
            pid=pid if type(pid) is int and pid > 0 else 0,
            started=str(facts.get("started", "")),
        )

    def is_gone(self) -> bool:
        """Whether this process, of this boot and namespace, has certainly ended; False where that cannot be known."""
        here = this_process()
        # The host's name too: machines resumed from one snapshot share a boot id.
        if not (self.pid and self.boot and self.namespace):
            return False
        if (self.host, self.boot, self.namespace) != (here.host, here.boot, here.namespace):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it exists, as another user's
        state, started = _stat(self.pid)
        # A zombie was killed and waits for its parent. An unreadable /proc (hidepid) says nothing: kill() found a process.
        return state in ("Z", "X") or bool(started and self.started and started != self.started)


def this_process() -> Holder:
    """The process that asks."""
    pid = os.getpid()
    return Holder(socket.gethostname(), _boot(), _namespace(), pid, _stat(pid)[1])


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""  # not Linux: the lease waits for its time to live


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, str]:
    """The state and start time of a process (proc(5)), empty where they cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the program's name in parentheses, and may hold spaces and parentheses itself.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return "", ""
    return fields[0].decode(), fields[19].decode()
