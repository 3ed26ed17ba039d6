"""A HAProxy of a test's own, with a certificate directory, a stats socket and a master, and wrk to put it under load."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import local_ports
from background import Background, listens
from tls_lab import client_context
from tls_load import connect

from acme_middleware.deploy.deployer import Deployment
from acme_middleware.deploy.deployers import parse
from acme_middleware.deploy.haproxy_socket import RuntimeAPI, RuntimeAPIError

CONFIGURATION = """\
global
    stats socket {stats} mode 600 level admin expose-fd listeners
    stats socket {operator} mode 600 level operator
    stats socket ipv4@127.0.0.1:{admin} level admin
    {more}
defaults
    mode http
    timeout connect 2s
    timeout client 20s
    timeout http-keep-alive 20s
    timeout server 20s
frontend https
    bind 127.0.0.1:{port} ssl crt "{crt}" alpn http/1.1
    http-request return status 200 content-type text/plain string hello
"""


class HAProxyLab:
    """
    One HAProxy, with its master, as a service runs it; started by :meth:`start`.

    Attributes:
        certs: Its certificate directory.
        port: Where it listens for TLS, on 127.0.0.1.
        stats, operator, master: Its sockets.
        admin: The port of a stats socket over TCP.
    """

    def __init__(self, folder: Path, *, certs: str = "certs", crt: Path | None = None, more: str = "") -> None:
        self.folder, self.certs, self.crt, self.more = folder, folder / certs, crt, more
        self.certs.mkdir(exist_ok=True)
        self._things = ExitStack()
        # The path of a socket has room for a hundred characters, and HAProxy appends some for a moment.
        sockets = Path(self._things.enter_context(tempfile.TemporaryDirectory(prefix="acme-haproxy-")))
        self.stats, self.operator, self.master = (sockets / name for name in ("stats", "operator", "master"))
        self.port, self.admin = self._things.enter_context(local_ports.reserve(2))
        self.log = folder / "haproxy.log"
        self._running: Background | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._things.close()

    def start(self) -> None:
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(
            CONFIGURATION.format(
                stats=self.stats,
                operator=self.operator,
                admin=self.admin,
                port=self.port,
                crt=self.crt or f"{self.certs}/",
                more=self.more,
            )
        )
        self._running = Background(["haproxy", "-W", "-S", self.master, "-f", configuration], log=self.log)
        self._running.wait_until(lambda: listens(self.port) and self._has_a_master())

    def _has_a_master(self) -> bool:
        try:
            return "worker" in RuntimeAPI(str(self.master)).ask("show proc")
        except RuntimeAPIError:
            return False

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    @property
    def spec(self) -> str:
        return f"haproxy:{self.certs}?socket={self.stats}"

    def deploy(self, made: Deployment, spec: str = "") -> None:
        parse(spec or self.spec).deploy(made)

    def serial(self, name: str) -> str:
        """The serial number that a new connection sees which asks for ``name``."""
        return serial(self.port, name)

    def ask(self, command: str, payload: bytes = b"") -> str:
        return RuntimeAPI(str(self.stats)).ask(command, payload)

    def files(self) -> set[str]:
        """What HAProxy would load from its directory."""
        return {path.name for path in self.certs.iterdir() if not path.name.startswith(".")}


def serial(port: int, name: str) -> str:
    """The serial number of the certificate that a new connection sees."""
    from cryptography import x509

    with connect(port, name=name, context=_context) as connection:
        shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    return f"{x509.load_der_x509_certificate(shown).serial_number:x}"


_context: ssl.SSLContext = client_context(alpn=["http/1.1"])

REPORT = """\
done = function(summary)
    local errors = summary.errors
    print(string.format('{"requests": %d, "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}',
        summary.requests, errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""


class Wrk:
    """
    ``wrk -t1 -c20`` for the length of a with block.

    Args:
        close: A connection for each request, instead of keeping them.

    Attributes:
        counts: Afterwards: how many requests were answered, and how many failed in which way.
    """

    def __init__(self, folder: Path, url: str, *, close: bool) -> None:
        script = folder / "report.lua"
        script.write_text(REPORT)
        header = ["-H", "Connection: close"] if close else []
        self._argv = ["wrk", "-t1", "-c20", "-d600s", "--timeout", "5s", "-s", str(script), *header, url]
        self.counts: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            said, _ = self._process.communicate(timeout=30)
        finally:
            self._process.kill()
        if error is None:
            self.counts = json.loads(said.strip().splitlines()[-1])
