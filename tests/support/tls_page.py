"""docs/tls.md as programs: each section's files and command lines, run as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import local_ports
from background import Background
from tls_load import peer

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tls.md"
LIVE = "/var/lib/acme-middleware/live"
EXPORTED = "/etc/granian"
CHECK_EVERY = 0.05

WSGI = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]
"""
ASGI = """
async def app(scope, receive, send):
    assert scope["type"] == "http" or scope["type"] == "lifespan"
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})
"""
FLASK = """
from flask import Flask
app = Flask(__name__)
app.add_url_rule("/", view_func=lambda: "hello")
"""
TORNADO = """
from tornado.web import Application, RequestHandler
class Hello(RequestHandler):
    def get(self):
        self.finish("hello")
app = Application([("/", Hello)])
"""
AIOHTTP = """
from aiohttp import web
async def hello(request):
    return web.Response(text="hello")
app = web.Application()
app.add_routes([web.get("/", hello)])
"""
SANIC = """
from sanic import Sanic, text
app = Sanic("hello")
app.config.MOTD = False
@app.get("/")
async def hello(request):
    return text("hello")
"""
APPS = {
    "gunicorn": WSGI,
    "uvicorn under gunicorn": ASGI,
    "uvicorn": ASGI,
    "hypercorn": ASGI,
    "Tornado": TORNADO,
    "aiohttp": AIOHTTP,
    "Sanic": SANIC,
    "cheroot": WSGI,
    "werkzeug": WSGI,
    "flask run": FLASK,
    "daphne": ASGI,
    "granian": ASGI,
}


@dataclass(frozen=True)
class Section:
    """A section: its files by their names, and its command lines."""

    title: str
    files: dict[str, str]
    commands: list[str]


def sections() -> dict[str, Section]:
    """The sections that show a command line."""
    found = {}
    for part in PAGE.read_text().split("\n## ")[1:]:
        title, _, text = part.partition("\n")
        blocks = re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)
        files = {re.match(r"# (\S+)\n", code)[1]: code for kind, code in blocks if kind == "python"}  # type: ignore[index]
        commands = [line[2:] for kind, code in blocks if kind == "console" for line in code.splitlines()]
        if commands:
            found[title] = Section(title, files, commands)
    return found


@dataclass(frozen=True)
class Running:
    """A server: where it listens, and what it writes."""

    port: int
    process: Background

    def log(self) -> str:
        return self.process.log.read_text(errors="replace")


@contextmanager
def running(section: Section, command: str, folder: Path, live: Path, *, ready: bool = True) -> Iterator[Running]:
    """
    Run one command line of a section, with the certificates in ``live``, looked at more often than on the page.

    Args:
        ready: Wait for a handshake; else only until it accepts connections: there may be no certificate yet.
    """
    with local_ports.reserve() as (port,):

        def local(text: str) -> str:
            text = text.replace(f'("{LIVE}")', f'("{LIVE}", check_every={CHECK_EVERY})').replace(LIVE, str(live))
            text = text.replace(EXPORTED, str(folder / "exported"))
            return re.sub(r"\b443\b", str(port), text).replace("0.0.0.0", "127.0.0.1")

        for name, code in {**section.files, "myapp.py": APPS[section.title]}.items():
            (folder / name).write_text(local(code))
        program, *words = shlex.split(local(command))
        argv = [sys.executable, *([] if program == "python" else ["-m", program]), *words]
        if program == "gunicorn":
            argv.append("--no-control-socket")
        env = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]), "PYTHONUNBUFFERED": "1"}
        with Background(argv, log=folder / "log", env=env, cwd=folder) as process:
            process.wait_until(lambda: _answers(port, handshake=ready), seconds=40)
            yield Running(port, process)


def _answers(port: int, *, handshake: bool) -> bool:
    import socket

    try:
        if handshake:
            peer(port)
        else:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
