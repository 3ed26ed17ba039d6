"""
The whole road in one command: a CA, a Django site that answers its challenges, and the site served with its certificate.

    python tools/demo.py [--name NAME] [COMMAND ...]

The CA is the project's own, `acme-middleware ca`; the site is example_projects/django_site, its data in a temporary folder.
All that was started is stopped at the end, also after a failure or Ctrl-C. COMMAND runs before that, with DEMO_ADDRESS
(host:port of the site over TLS), DEMO_NAME and DEMO_ROOT (a PEM file with the root to trust) in its environment.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import local_ports
from background import Background, listens

SITE = Path(__file__).resolve().parent.parent / "example_projects" / "django_site"
LIMIT = 120.0
"""Seconds that any one command may take."""


class DemoFailed(Exception):
    """A step did not end as it should; the message says which and why."""


def main(arguments: Sequence[str]) -> int:
    """Run the demo, and return its exit code."""
    parser = argparse.ArgumentParser(description="A Django site gets a certificate from a CA on this machine.")
    parser.add_argument("--name", default="example.com", help="the name to get a certificate for (default: %(default)s)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="run this before stopping: see tools/demo.py")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, terminated)
    try:
        with contextlib.ExitStack() as things:
            serial = demonstrate(options.name, options.command, things)
    except DemoFailed as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo interrupted", file=sys.stderr)
        return 130
    print(f"OK {options.name} serial={serial}")
    return 0


def demonstrate(name: str, command: Sequence[str], things: contextlib.ExitStack) -> str:
    """Do all steps, leaving what is to be stopped to ``things``, and return the serial number that was served, in hex."""
    folder = Path(things.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
    site = Site(folder, {**os.environ, "MYSITE_DATA": str(folder), "MYSITE_HOSTS": name}, things)

    http, ca_port, port = things.enter_context(local_ports.reserve(3))
    step(f"starting a CA at 127.0.0.1:{ca_port}, which finds every name at 127.0.0.1:{http}")
    directory, root = start_ca(ca_port, f"*=127.0.0.1:{http}", folder, things)

    step("creating the site's database")
    site.manage("migrate", "--verbosity=0")

    step(f"serving the site under gunicorn at 127.0.0.1:{http}, two workers")
    site.serve(http)

    step(f"python manage.py issuecert {name}")
    site.manage("issuecert", name, "--ca", directory, "--ca-bundle", root, "--self-check-via", f"127.0.0.1:{http}")

    published = folder / "certificates" / name / "current"
    step(f"serving the site over TLS at 127.0.0.1:{port} with its new certificate")
    site.serve(port, "--certfile", published / "fullchain.pem", "--keyfile", published / "privkey.pem")

    step(f"fetching https://{name}/, trusting the CA's root and nothing else")
    serial = fetch(name, port, root, published / "cert.pem")
    if command:
        environment = {"DEMO_ADDRESS": f"127.0.0.1:{port}", "DEMO_NAME": name, "DEMO_ROOT": str(root)}
        run(command, env={**os.environ, **environment})
    return serial


def start_ca(port: int, resolve: str, folder: Path, things: contextlib.ExitStack) -> tuple[str, Path]:
    """Start the project's own CA; returns the URL of its directory, and its root."""
    command = [sys.executable, "-m", "acme_middleware", "ca", "--json", "--port", str(port), "--resolve", resolve]
    log = folder / "ca.log"
    ca = Background([*command, "--state", folder / "ca"], log=log, env=dict(os.environ), cwd=folder)
    things.callback(ca.stop)
    try:
        ca.wait_until(lambda: listens(port) and log.read_text().endswith("\n"))
    except RuntimeError as error:
        raise DemoFailed(str(error)) from error
    said = json.loads(log.read_text().splitlines()[-1])
    return said["directory"], Path(said["root"])


class Site:
    """
    The example site, with its data in a folder.

    Args:
        folder: Where its database and certificates are kept.
        environment: All variables that it gets.
        things: What is to be stopped in the end.
    """

    def __init__(self, folder: Path, environment: dict[str, str], things: contextlib.ExitStack) -> None:
        self.folder = folder
        self.environment = environment
        self.things = things

    def manage(self, *arguments: str | Path) -> None:
        """Run manage.py."""
        run([sys.executable, "manage.py", *arguments], cwd=SITE, env=self.environment)

    def serve(self, port: int, *arguments: str | Path) -> None:
        """Serve it under gunicorn until the end."""
        start = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--bind", f"127.0.0.1:{port}"]
        command = [*start, "--workers", "2", *arguments, "mysite.wsgi"]
        server = Background(command, log=self.folder / f"gunicorn-{port}.log", env=self.environment, cwd=SITE)
        self.things.callback(server.stop)
        try:
            server.wait_until(lambda: listens(port))
        except RuntimeError as error:
            raise DemoFailed(str(error)) from error


def step(words: str) -> None:
    print(f"demo: {words}", flush=True)


def run(command: Sequence[str | Path], *, env: dict[str, str], cwd: Path | None = None) -> None:
    try:
        code = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, timeout=LIMIT, check=False).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DemoFailed(str(error)) from error
    if code:
        raise DemoFailed(f"{' '.join(map(str, command))} ended with {code}")


def fetch(name: str, port: int, root: Path, certificate: Path) -> str:
    """Fetch the site's first page as a browser would, and return the serial number of the certificate that it came with."""
    context = ssl.create_default_context(cafile=root)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            served, facts = connection.getpeercert(binary_form=True), connection.getpeercert() or {}
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
    except (OSError, http.client.HTTPException) as error:
        raise DemoFailed(f"the site does not answer over TLS: {error}") from error
    if served != ssl.PEM_cert_to_DER_cert(certificate.read_text()):
        raise DemoFailed(f"the site was served with another certificate than {certificate}")
    if answer.status >= 400:
        raise DemoFailed(f"the site answered {answer.status}")
    return str(facts["serialNumber"])


def terminated(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
