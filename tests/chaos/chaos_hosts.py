"""
The hosts of the chaos tests: network namespaces with a name, an address and a small disk each, on one bridge with the servers.

All of it is made in namespaces of the program's own (``ENTER``), so that the kernel takes it away when that ends, however.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENTER = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--")
"""Runs a command where it may do all that this module does, out of everybody's sight."""

LAUNCHER = Path(__file__).with_name("chaos_launcher.py")
CA_ADDRESS, SERVER_ADDRESS = "10.77.0.1", "10.77.0.2"
NOBODY = "02:00:00:00:00:99"
"""A hardware address that no card has: what is sent there is gone, and nobody says so."""

DISK = 48
"""MiB of a host's disk: five versions of each certificate of some hundred schedules."""

SKEWS = {"h1": "-1800", "h2": "+1800"}
"""Seconds that the clocks of two hosts can be made wrong by: an hour apart, and each within what a CA bears."""

LIMIT = 30.0


def run(*argv: str) -> str:
    """Run a command that cannot fail."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
    return done.stdout


def make_bridge() -> None:
    """The network between the hosts and the servers."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "hub", "type", "bridge")
    for address in (CA_ADDRESS, SERVER_ADDRESS):
        run("ip", "address", "add", f"{address}/24", "dev", "hub")
    run("ip", "link", "set", "hub", "up")


@dataclass
class Command:
    """
    A command line that was started on a host.

    Attributes:
        output: What it printed, once it has ended.
    """

    host: str
    words: Sequence[str]
    path: Path
    pid: int = 0
    code: int | None = None
    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def output(self) -> str:
        return self.path.read_text(errors="replace") if self.path.exists() else ""

    def __str__(self) -> str:
        return f"{self.host}: {' '.join(self.words)} -> {self.code}\n{self.output}"


class Commands:
    """The process on a host that forks one for each command line: see chaos_launcher.py."""

    def __init__(self, prefix: Sequence[str], env: Mapping[str, str], host: str, folder: Path) -> None:
        self._host, self._folder, self._next = host, folder, 0
        self._lock = threading.Lock()
        self._running: dict[int, Command] = {}
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        argv = [*prefix, sys.executable, str(LAUNCHER), "commands"]
        self._log = (folder / "launcher.log").open("ab")
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=dict(env))
        threading.Thread(target=self._listen, daemon=True).start()

    def wait_until_ready(self) -> None:
        """Wait until command lines can be started. Raises RuntimeError: it has ended instead."""
        if not self._answers.get(timeout=2 * LIMIT)["ready"]:
            raise RuntimeError(f"{self._host} does not begin: {(self._folder / 'launcher.log').read_text()[-2000:]}")

    def start(self, *words: str, **more: Any) -> Command:
        """Start a command line; ``more`` goes to the launcher."""
        with self._lock:
            self._next += 1
            number = self._next
            command = Command(self._host, words, self._folder / f"output-{id(self):x}-{number}")
            self._running[number] = command
            asked = {"id": number, "words": words, "output": str(command.path), **more}
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()
        return command

    def stop(self) -> None:
        """End the process, and those that it has forked."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "ready" in said:
                self._answers.put(said)
            elif "pid" in said:
                command = self._running[said["id"]]
                command.pid = said["pid"]
                command.begun.set()
            else:
                command = self._running.pop(said["id"])
                command.code = said["code"]
                command.ended.set()
        self._answers.put({"ready": False})


class Host:
    """
    One host.

    Args:
        name: ``h1``, ``h2`` ...: what it is called, to itself too.
        number: Its place in the network.
        folder: A folder of its own.
        told: What the launcher is told.
        env: The options of its commands, as the environment has them.

    Attributes:
        live: PUBLISH_DIR, on a small disk of the host's own.
        journal: What its commands tell the harness.
    """

    def __init__(self, name: str, number: int, folder: Path, told: Mapping[str, Any], env: Mapping[str, str]) -> None:
        self.name, self.address, self.folder = name, f"10.77.0.{10 + number}", folder
        self.disk, self.live, self.journal = folder / "disk", folder / "disk/live", folder / "journal"
        self.disk.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=755", f"disk-{name}", str(self.disk))
        # It says a word once it is in its namespaces.
        ready = 'hostname "$0" && echo && exec sleep infinity'
        self._anchor = subprocess.Popen(["unshare", "--net", "--uts", "sh", "-c", ready, name], stdout=subprocess.PIPE)
        assert self._anchor.stdout is not None
        self._anchor.stdout.readline()
        self._inside = ("nsenter", "--target", str(self._anchor.pid), "--net", "--uts", "--")
        self._connect()
        facts = {**told, "host": name, "address": self.address, "journal": str(self.journal)}
        self._env = {
            **{word: value for word, value in os.environ.items() if not word.startswith("ACME_")},
            **env,
            "ACME_PUBLISH_DIR": str(self.live),
            "CHAOS_HOST": json.dumps(facts),
            "CHAOS_OPTIONS": json.dumps({**told["options"], "publish_dir": str(self.live)}),
        }
        self.clocks = {"right": Commands(self._inside, self._env, name, folder)}
        if name in SKEWS:
            # The monotonic clock stays as it is: setting a machine's time does not move that.
            wrong = (*self._inside, "faketime", "--exclude-monotonic", "-f", f"{SKEWS[name]}s")
            (folder / "wrong").mkdir()
            self.clocks["wrong"] = Commands(wrong, {**self._env, "NO_FAKE_STAT": "1"}, name, folder / "wrong")
        self.commands = self.clocks["right"]
        with (folder / "server.log").open("ab") as log:
            argv = [*self._inside, sys.executable, str(LAUNCHER), "serve"]
            self._server = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, env=self._env)

    def _connect(self) -> None:
        port = f"port-{self.name}"
        run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(self._anchor.pid))
        run("ip", "link", "set", port, "master", "hub", "up")
        run(*self._inside, "ip", "link", "set", "lo", "up")
        run(*self._inside, "ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        run(*self._inside, "ip", "link", "set", "eth0", "up")

    def wait_until_ready(self) -> None:
        """Wait until commands can be started, and the CA is answered."""
        for commands in self.clocks.values():
            commands.wait_until_ready()
        assert self._server.stdout is not None
        if not self._server.stdout.readline():
            raise RuntimeError(f"the server of {self.name} has ended: {(self.folder / 'server.log').read_text()[-2000:]}")

    def cut_off(self, address: str) -> None:
        """Let all that is sent to an address vanish, in connections that are open too. No error tells of it."""
        run(*self._inside, "ip", "neighbour", "replace", address, "lladdr", NOBODY, "nud", "permanent", "dev", "eth0")

    def connect_again(self, address: str) -> None:
        """End what :meth:`cut_off` did."""
        run(*self._inside, "ip", "neighbour", "del", address, "dev", "eth0")

    def fill_disk(self) -> None:
        """Leave no byte on the disk."""
        with (self.disk / "filler").open("wb", buffering=0) as filler:
            free = os.statvfs(self.disk)
            os.posix_fallocate(filler.fileno(), 0, max(1, (free.f_bavail - 8) * free.f_bsize))
            filler.seek(0, os.SEEK_END)
            for size in (65536, 4096, 1):
                try:
                    while True:
                        filler.write(b"x" * size)
                except OSError:
                    continue

    def make_room(self) -> None:
        (self.disk / "filler").unlink()

    def set_read_only(self, read_only: bool) -> None:
        """Make the disk read-only, or end that. Raises RuntimeError while a file is open for writing."""
        run("mount", "-o", "remount,ro" if read_only else "remount,rw", str(self.disk))

    def stop(self) -> None:
        """End its processes, and take its disk away."""
        for commands in self.clocks.values():
            commands.stop()
        for process in (self._server, self._anchor):
            process.kill()
            process.wait()
        run("umount", "--lazy", str(self.disk))
