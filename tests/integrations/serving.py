"""
Real servers for tests: start one on a loopback port of its own, talk to it byte by byte, stop it and read its log.

    with gunicorn("my_app:application", "-w", "4", env={"MY_STORE": url}) as server:
        assert get(server, "/").status == 200
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import local_ports

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
START_LIMIT = 30.0


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, and what it has written to its log."""

    port: int
    process: subprocess.Popen[bytes]
    logfile: Path
    address: str = "127.0.0.1"

    def log(self) -> str:
        return self.logfile.read_text(errors="replace")


@dataclass(frozen=True)
class Reply:
    """What came back: header names in lower case, each with its values; ``body`` is all that followed the headers."""

    status: int
    headers: Mapping[str, list[str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = self.headers.get(name.lower())
        return ", ".join(values) if values else None


def gunicorn(application: str, *options: str, env: Mapping[str, str] | None = None) -> AbstractContextManager[Server]:
    """A gunicorn that serves ``application`` ("module:attribute"; see :func:`serve` for where modules are found)."""
    return serve(
        [sys.executable, "-m", "gunicorn", application, "--bind", "fd://{fd}", "--no-control-socket", *options], env=env
    )


def uvicorn(application: str, *options: str, env: Mapping[str, str] | None = None) -> AbstractContextManager[Server]:
    """A uvicorn that serves ``application`` ("module:attribute"; see :func:`serve` for where modules are found)."""
    return serve([sys.executable, "-m", "uvicorn", application, "--fd", "{fd}", *options], env=env)


@contextmanager
def serve(
    command: list[str], *, env: Mapping[str, str] | None = None, address: str = "127.0.0.1", inherit: bool = True
) -> Iterator[Server]:
    """
    Run a server for the length of a with block; it is up when the block begins.

    The listening socket is made here and inherited: no other test can take the port in between.

    Args:
        command: Its argument list; ``{fd}`` stands for the number of the listening socket, ``{port}`` for its port.
        address: Where it listens: ``127.0.0.1`` or ``::1``.
        inherit: False for a server that takes no socket: it is to listen on ``{port}``, which is reserved for it.
        env: Added to this process's environment. PYTHONPATH has the project, ``integrations`` and this folder.
    """
    paths = [str(PROJECT), str(PROJECT / "integrations"), str(HERE), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **(env or {})}
    with ExitStack() as stack:
        logfile = Path(stack.enter_context(tempfile.TemporaryDirectory()), "log")
        with _listener(address) if inherit else nullcontext() as listener, logfile.open("wb") as log:
            port = listener.getsockname()[1] if listener else stack.enter_context(local_ports.reserve())[0]
            fds = [listener.fileno()] if listener else []
            process = subprocess.Popen(
                [part.format(fd=fds[0] if fds else None, port=port) for part in command],
                env=environment,
                pass_fds=fds,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(port, process, logfile, address)
        try:
            _wait_until_up(server)
            yield server
        except BaseException:
            print(f"the log of {process.args!r}:\n{server.log()[-20_000:]}", file=sys.stderr)
            raise
        finally:
            _stop(process)


def _listener(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 0), family=family, backlog=256)


def _wait_until_up(server: Server) -> None:
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            # The socket has a backlog before the server runs: only an answer says that it is up.
            raw_request(server, b"OPTIONS * HTTP/1.0\r\n\r\n", limit=START_LIMIT)
            return
        except OSError as error:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{server.process.args!r} does not answer:\n{server.log()}") from error
            time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    # The group is the server and its workers: it has a session of its own. Tornado's workers outlive their parent.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def raw_request(server: Server | int, data: bytes, *, limit: float = 10.0) -> Reply:
    """Send these bytes over a new connection and read one reply. Raises OSError where none comes within ``limit`` seconds."""
    with connect(server, limit=limit) as connection:
        connection.sendall(data)
        # A HEAD's reply is read until the connection closes: a body that a server wrongly sends is seen.
        return read_reply(connection, to_the_end=data.startswith(b"HEAD "))


def connect(server: Server | int, *, limit: float = 10.0) -> socket.socket:
    """Open a connection; whatever waits on it raises TimeoutError after ``limit`` seconds."""
    address = ("127.0.0.1", server) if isinstance(server, int) else (server.address, server.port)
    return socket.create_connection(address, timeout=limit)


def read_reply(connection: socket.socket, *, to_the_end: bool = False) -> Reply:
    """Read one reply; ``to_the_end``: until the connection closes, whatever its Content-Length says."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection, received)
    head, _, body = received.partition(b"\r\n\r\n")
    status, headers = _parse_head(head)
    length = None if to_the_end else headers.get("content-length")
    while length is None or len(body) < int(length[0]):
        more = connection.recv(65536)
        if not more:
            break
        body += more
    return Reply(status, headers, body)


def _more(connection: socket.socket, received: bytes) -> bytes:
    more = connection.recv(65536)
    if not more:
        raise ConnectionResetError(f"the server closed the connection after {received!r}")
    return more


def _parse_head(head: bytes) -> tuple[int, dict[str, list[str]]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), []).append(value.strip())
    return int(first.split(" ")[1]), headers


def get(
    server: Server | int,
    target: str,
    *,
    method: str = "GET",
    host: str | None = "example.com",
    headers: Mapping[str, str] | None = None,
    limit: float = 10.0,
) -> Reply:
    """One request over a new connection, its target sent as it is. ``host=None``: HTTP/1.0 without a Host header."""
    lines = [f"{method} {target} HTTP/{'1.0' if host is None else '1.1'}", "Connection: close"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return raw_request(server, ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), limit=limit)
