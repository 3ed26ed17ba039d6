"""An nginx of a test's own, over TLS, and the string of DEPLOY for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import local_ports
from background import Background, listens
from tls_lab import client_context
from tls_load import peer

SERVER = """\
server {{
    listen 127.0.0.1:{port} ssl;
    server_name {names};
    ssl_certificate {current}/fullchain.pem;
    ssl_certificate_key {current}/privkey.pem;
    location / {{ return 200 hello; }}
}}
"""

MAIN = """\
{user}
daemon off;
pid pid;
worker_processes 2;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include sites/*.conf;
}}
"""


class NginxLab:
    """
    One nginx; started by :meth:`start`, after :meth:`site`.

    Attributes:
        live: PUBLISH_DIR.
        port, other: Ports for it on 127.0.0.1.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.live, self.log = folder / "nginx", folder / "live", folder / "nginx.log"
        self._things = ExitStack()
        self.port, self.other = self._things.enter_context(local_ports.reserve(2))
        (self.folder / "sites").mkdir(parents=True)
        (self.folder / "nginx.conf").write_text(MAIN.format(user="user root;" if os.geteuid() == 0 else ""))
        self._running: Background | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._things.close()

    def site(self, name: str, *others: str, port: int = 0) -> None:
        """Have a certificate in the configuration, which nginx reads at its next start or reload."""
        text = SERVER.format(port=port or self.port, names=" ".join([name, *others]), current=self.live / name / "current")
        self.add(name, text)

    def add(self, name: str, text: str) -> None:
        """Have some lines in the http block."""
        (self.folder / "sites" / f"{name}.conf").write_text(text)

    def start(self) -> None:
        self._running = Background(["nginx", "-p", self.folder, "-e", "stderr", "-c", self.folder / "nginx.conf"], log=self.log)
        self._running.wait_until(lambda: listens(self.port))

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    @property
    def spec(self) -> str:
        return f"nginx:?prefix={self.folder}&conf={self.folder}/nginx.conf&timeout=10"

    def presents(self, name: str, *, port: int = 0) -> bytes | None:
        """The certificate that a new connection sees."""
        return peer(port or self.port, name=name, context=client_context())


def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait for what happens in the background."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)
