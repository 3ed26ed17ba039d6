"""
Ports for servers that tests, the demo and the benchmarks start, also for many of them at the same time.

A port that was free a moment ago may be taken by the time a server listens on it. So ports come in blocks, each kept by a
lock on a file for as long as this process lives, and lie below 32768, where the kernel takes none for outgoing connections.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

BLOCK = 10
FIRST, LAST = 12000, 32000


@contextlib.contextmanager
def reserve(count: int = 1) -> Iterator[list[int]]:
    """
    Reserve TCP and UDP ports on 127.0.0.1 for the length of a with block.

    Args:
        count: How many, 10 at most.

    Raises:
        RuntimeError: two hundred blocks of ports were all taken.
    """
    if not 0 < count <= BLOCK:
        raise ValueError(f"count is {count} but takes 1 to {BLOCK}")
    folder = Path(tempfile.gettempdir()) / f"acme-middleware-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for _ in range(200):
        first = random.randrange(FIRST, LAST, BLOCK)
        with (folder / str(first)).open("w") as lock:
            ports = [first + i for i in range(count)]
            if _locked(lock) and all(map(_free, ports)):
                yield ports
                return
    raise RuntimeError(f"no {count} free ports in a row between {FIRST} and {LAST}")


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            # As servers do: else connections of a server that just stopped (TIME_WAIT) would look like a taken port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
