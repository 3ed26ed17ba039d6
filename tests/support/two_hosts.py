"""
Two hosts on one machine: a network, a name and process ids of their own each, and this machine as what they both reach.

It takes root. Where there is none a test is skipped, which CI does not allow.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from background import Background
from pebble_lab import COMMAND, environment

ROOM = "198.18.{}"
"""Addresses that RFC 2544 keeps for the tests of networks: nobody has them."""

ENTER = ("--net", "--uts", "--mount", "--pid")


class Host:
    """
    A host, made by :func:`two_hosts`.

    Attributes:
        name: What it calls itself.
        address: Where others reach it.
    """

    def __init__(self, name: str, address: str, gateway: str, link: str, folder: Path, things: ExitStack) -> None:
        self.name, self.address, self.folder, self._things = name, address, folder / name, things
        self.folder.mkdir()
        # The kernel takes all of it away with this one process, which is the first of the host and has nothing to do.
        inside = ["unshare", *ENTER, "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        log = self.folder / "host.log"
        running = Background([*inside, "sh", "-c", f"hostname {name} && echo up && exec sleep infinity"], log=log)
        things.callback(running.stop)
        running.wait_until(lambda: log.read_text().endswith("up\n"))
        pid = running.process.pid
        self._pid = Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self._pid)
        _ip("address", "add", f"{gateway}/30", "dev", link)
        _ip("link", "set", link, "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{address}/30", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", gateway),
        ):
            subprocess.run(self.argv("ip", *words), check=True)

    def argv(self, *words: str) -> list[str]:
        """A command line that runs there, in the host's folder."""
        # The root too: where this runs in a chroot, that of the namespace is another one.
        return ["nsenter", "--target", self._pid, *ENTER, "--root", f"--wd={self.folder}", "--", *words]

    def serve(self, *words: str, port: int, env: Mapping[str, str]) -> None:
        """Start a server there, and wait until it listens at the port."""
        log = self.folder / f"server-{port}.log"
        running = Background(self.argv(*words), log=log, env=env)
        self._things.callback(running.stop)
        running.wait_until(lambda: _listens(self.address, port))

    def start(self, *words: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start ``acme-middleware`` there."""
        process = subprocess.Popen(
            self.argv(*COMMAND, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(env),
        )
        self._things.callback(process.kill)
        return process


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[str, Sequence[Host]]]:
    """Run two hosts until the end of the block; yields the address at which both reach this machine, and them."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces take root")
    room = ROOM.format(random.randrange(256))
    with ExitStack() as things:
        hosts = []
        for number in (0, 1):
            gateway, address = f"{room}.{4 * number + 1}", f"{room}.{4 * number + 2}"
            link = f"am{os.getpid()}{'ab'[number]}"
            hosts.append(Host(f"host{number + 1}", address, gateway, link, folder, things))
        yield f"{room}.1", hosts


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _listens(address: str, port: int) -> bool:
    from background import listens

    return listens(port, host=address)
