"""
The cells that there are: which framework is run by which server, and how all of them are started, each once and in time.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from matrix_frameworks import FRAMEWORKS, MAIN, OTHER, Framework
from matrix_requests import Row, outcome
from matrix_servers import SERVERS, Kind
from serving import PROJECT, Server, raw_request

HERE = Path(__file__).resolve().parent

# The frameworks that have a page of their own are run by every server of their kind, any other by two.
PAIRS = {
    "Bottle": ("gunicorn sync", "waitress"),
    "Pyramid": ("gunicorn gthread", "waitress"),
    "Falcon": ("gunicorn sync", "granian, WSGI"),
    "An app under SCRIPT_NAME": ("gunicorn sync", "waitress"),
    "Django, wrapped in wsgi.py": ("gunicorn gthread", "nginx, gunicorn"),
    "Django, wrapped in asgi.py": ("uvicorn", "daphne"),
    "Falcon, ASGI": ("uvicorn", "hypercorn"),
    "Quart": ("uvicorn", "hypercorn"),
    "Litestar": ("uvicorn", "granian"),
    "Sanic": ("uvicorn", "gunicorn, ASGI"),
    "A Starlette Mount": ("uvicorn", "hypercorn"),
    "An app under --root-path": ("uvicorn --root-path", "hypercorn --root-path"),
}


@dataclass(frozen=True)
class Surface:
    """A framework run by a server."""

    framework: Framework
    server: Kind

    @property
    def id(self) -> str:
        return f"{self.framework.id}, on {self.server.id}"


def _surfaces():
    for framework in MAIN:
        for server in SERVERS:
            if server.runs == framework.kind and server.only in ("", framework.id) and not server.sparingly:
                yield Surface(framework, server)
    servers = {server.id: server for server in SERVERS}
    for framework in OTHER:
        for name in PAIRS[framework.id]:
            yield Surface(framework, servers[name])


SURFACES = {surface.id: surface for surface in _surfaces()}


# Each framework with a page of its own behind a store that fails, and each kind of server.
FAULTY = [
    "plain WSGI, on gunicorn gthread",
    "Django, WSGI, on gunicorn sync",
    "Flask, on waitress",
    "Flask, on granian, WSGI",
    "plain ASGI, on daphne",
    "Django, ASGI, on uvicorn",
    "Starlette, on granian",
    "Starlette, on gunicorn, ASGI",
    "FastAPI, on hypercorn",
    "Tornado, on Tornado, 2 processes",
    "aiohttp, on aiohttp",
]

# Each server that takes a listening socket.
IPV6 = [
    "Django, WSGI, on gunicorn sync",
    "Flask, on gunicorn gthread",
    "plain ASGI, on gunicorn, ASGI",
    "plain ASGI, on hypercorn",
    "plain ASGI, on daphne",
    "Starlette, on uvicorn",
    "Tornado, on Tornado, 2 processes",
    "aiohttp, on aiohttp",
]


@dataclass
class Running:
    """A surface that runs: its servers, clients connect to the first; the token that was presented, and its answer."""

    surface: Surface
    servers: list[Server]
    token: str
    answer: bytes

    @property
    def base(self) -> str:
        return self.surface.framework.base

    def ask(self, row: Row) -> str:
        """Send a row, and say what came of it."""
        try:
            reply = raw_request(self.servers[0], row.bytes(self.base, self.token))
        except ConnectionError:
            reply = None
        return outcome(reply, self.answer, method=row.method, outer=bool(self.base))

    def log(self) -> str:
        return "".join(server.log() for server in self.servers)


class Fleet:
    """
    Starts surfaces in the order in which they will be asked for, some ahead of time, and stops each in the background.

    Args:
        folder: An empty folder.
        surfaces: In the order in which they are asked for.
        ahead: How many are started ahead of the one that is asked for.
        store: A Python expression for the store of every app; empty: a folder, or what is the framework's default, in which
            a token is presented when an app is up.
    """

    def __init__(
        self, folder: Path, surfaces: list[Surface], *, ahead: int = 2, store: str = "", address: str = "127.0.0.1"
    ) -> None:
        self.surfaces, self.ahead, self.address = surfaces, ahead, address
        self.calls = folder / "calls"
        self.url = f"file://{folder}/state"
        self.env = {"WALLED_DATABASE": str(folder / "db.sqlite3"), "MATRIX_CALLS": str(self.calls)}
        self.paths = [str(folder), str(HERE / "apps")]
        for framework in FRAMEWORKS.values():
            framework.write(folder, store or repr(self.url), everywhere=bool(store))
        self._starters, self._stoppers = ThreadPoolExecutor(2), ThreadPoolExecutor(4)
        self._started: dict[str, Future[Running]] = {}
        self._stacks: dict[str, ExitStack] = {}
        self._stopped: list[Future[None]] = []
        self._presenter = None if store else Presenter(self.environment() | FRAMEWORKS["Django, WSGI"].env)

    def environment(self) -> dict[str, str]:
        paths = [*self.paths, str(PROJECT), str(PROJECT / "integrations")]
        return {**self.env, "PYTHONPATH": os.pathsep.join(paths)}

    def running(self, surface: Surface) -> Running:
        """Return it when it runs and its token is presented; those that come next are being started meanwhile."""
        place = self.surfaces.index(surface)
        for coming in self.surfaces[place : place + 1 + self.ahead]:
            if coming.id not in self._started:
                self._started[coming.id] = self._starters.submit(self._start, coming)
        return self._started[surface.id].result()

    def stop(self, surface: Surface) -> None:
        """Stop it, in the background."""
        self._stopped.append(self._stoppers.submit(self._stacks.pop(surface.id).close))

    def close(self) -> None:
        """Stop whatever runs."""
        self._starters.shutdown(cancel_futures=True)
        self._stopped += [self._stoppers.submit(stack.close) for stack in self._stacks.values()]
        self._stoppers.shutdown()
        if self._presenter:
            self._presenter.close()
        for stopped in self._stopped:
            stopped.result()

    def _start(self, surface: Surface) -> Running:
        stack = self._stacks[surface.id] = ExitStack()
        framework, env = surface.framework, self.environment()
        servers = stack.enter_context(surface.server.run(framework.target, {**framework.env, **env}, address=self.address))
        token, answer = secrets.token_urlsafe(32), b""
        if self._presenter:  # by another process, and when the workers are up
            answer = self._presenter.present("django:" if framework.own_store else self.url, token)
        return Running(surface, servers, token, answer)


class Presenter:
    """The process that issues: see presenter.py."""

    def __init__(self, env: dict[str, str]) -> None:
        env = {**os.environ, **env}
        subprocess.run([sys.executable, "-m", "django", "migrate", "-v0"], env=env, check=True, timeout=60)
        self._process = subprocess.Popen(
            [sys.executable, HERE / "presenter.py"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()

    def present(self, url: str, token: str) -> bytes:
        """Present a token; returns its key authorization."""
        key_authorization = f"{token}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
        with self._lock:
            self._process.stdin.write(f"{url} {token} {key_authorization}\n")
            self._process.stdin.flush()
            if self._process.stdout.readline() != f"{token}\n":
                raise RuntimeError("the presenting process failed: see its error output")
        return key_authorization.encode()

    def close(self) -> None:
        self._process.communicate()
