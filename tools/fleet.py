"""
A fleet in one command: two app hosts behind HAProxy, one PostgreSQL, and a host that dies while it gets the certificate.

    python tools/fleet.py [--store URL]

It is example_projects/fleet, on this machine alone: a host is a web server and a renewing job of its own. The job runs on host
1, which is killed when the CA is about to look at the token; the same job on host 2 goes on with the same order. All that was
started is stopped at the end, also after a failure or Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import local_ports
import psycopg
from background import Background, listens
from demo import DemoFailed, fetch, terminated
from postgresql_server import PostgreSQL

from acme_middleware.local_ca import LocalCA

EXAMPLE = Path(__file__).resolve().parent.parent / "example_projects" / "fleet"
NAME = "shop.example"
PASSWORD = "change-me"
"""That of web-role.sql, as it stands there."""
COMMAND = [sys.executable, "-m", "acme_middleware"]
LOOKS_AFTER = 2.0
"""Seconds that the CA takes until it looks at a token: the time in which the host dies."""
LIMIT = 120.0
"""Seconds that any one step may take."""


def main(arguments: Sequence[str]) -> int:
    """Run the fleet, and return the exit code."""
    parser = argparse.ArgumentParser(description="Two app hosts share one certificate, and one of them dies.")
    parser.add_argument("--store", metavar="URL", help="a store that all share (default: a PostgreSQL is started)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, terminated)
    try:
        with contextlib.ExitStack() as things:
            serial, orders = demonstrate(options.store, things)
    except (DemoFailed, RuntimeError) as error:
        print(f"fleet failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fleet interrupted", file=sys.stderr)
        return 130
    print(f"OK {NAME} serial={serial} orders={orders}")
    return 0


def demonstrate(store: str | None, things: contextlib.ExitStack) -> tuple[str, int]:
    """Do all steps, leaving what is to be stopped to ``things``; returns the serial number served, in hex, and the orders."""
    folder = Path(things.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
    plain, https, one, two = things.enter_context(local_ports.reserve(4))
    lay_out(folder, {"8080": plain, "8443": https, "8001": one, "8002": two})
    store, tokens = (store, store) if store else prepare_database(folder, things)
    tell_job(folder, store)
    step(f"a CA that takes {LOOKS_AFTER:g} s to look at a token, and finds every name at HAProxy, 127.0.0.1:{plain}")
    resolve = {"*": f"127.0.0.1:{plain}"}
    ca = things.enter_context(LocalCA(resolve=resolve, terms=False, validation_delay=LOOKS_AFTER, state=folder / "ca"))
    asking = ["--ca", ca.directory_url, "--ca-bundle", str(ca.ca_bundle), "--self-check-via", f"127.0.0.1:{plain}"]
    job = [*COMMAND, "renew", "--config", "fleet.toml", *asking, "--self-check", "require"]

    step("two app hosts with two workers each, behind HAProxy")
    first, second = Host("host1", one, tokens, job, folder, things), Host("host2", two, tokens, job, folder, things)
    proxy = start(["haproxy", "-W", "-f", "haproxy.cfg", "-f", "tls"], folder, "haproxy", things)
    proxy.wait_until(lambda: serves(plain))

    step("host 1: acme-middleware renew")
    try:
        first.renew().wait_until(lambda: bool(ca.requests("challenge")), seconds=LIMIT)
    except RuntimeError as error:
        raise DemoFailed(f"the CA was not told that the token is there: {error}") from error
    step("host 1 dies, by kill -9 of its web server and of its renewing job, while the CA is about to look at the token")
    first.die()
    step("host 2: acme-middleware renew")
    print(wait_for(second.renew()), end="")

    step("the host of HAProxy: acme-middleware renew writes the files that HAProxy reads, and asks the CA for nothing")
    asked = len(ca.requests())
    wait_for(start([*job, "--publish-dir", "run/live"], folder, "edge-renew", things))
    if len(ca.requests()) > asked:
        raise DemoFailed(f"the CA was asked for {[entry.resource for entry in ca.requests()[asked:]]}")
    (folder / "tls" / "https.cfg").symlink_to("../https.cfg")
    os.kill(proxy.process.pid, signal.SIGUSR2)  # how HAProxy's master is told to reload
    proxy.wait_until(lambda: listens(https))
    step(f"fetching https://{NAME}:{https}/, trusting the CA's root and nothing else")
    serial = fetch(NAME, https, ca.ca_bundle, folder / "run" / "live" / NAME / "current" / "cert.pem")
    with ca.state.lock:
        orders = len(ca.state.orders)
    if orders != 1:
        raise DemoFailed(f"the CA got {orders} orders, and one was needed")
    return serial, orders


def prepare_database(folder: Path, things: contextlib.ExitStack) -> tuple[str, str]:
    """Start a PostgreSQL with our tables; returns the URLs of the job and of the web workers, who may only read tokens."""
    step("a PostgreSQL with our tables, by acme-middleware store init, and a role for the web workers, by web-role.sql")
    server = things.enter_context(PostgreSQL())
    tell_job(folder, server.url)
    wait_for(start([*COMMAND, "store", "init", "--config", "fleet.toml"], folder, "store-init", things))
    with psycopg.connect(server.admin_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute((folder / "web-role.sql").read_bytes())
    return server.url, f"postgresql://acme_web:{PASSWORD}@{server.host}:{server.port}/acme"


def tell_job(folder: Path, store: str) -> None:
    """Put the store's URL where the job looks for it."""
    file = folder / "fleet.toml"
    file.write_text(re.sub('^store = ".*"$', f'store = "{store}"', file.read_text(), flags=re.MULTILINE))


class Host:
    """A host of the fleet: it serves the app, and may run the renewing job. Both are here until it dies."""

    def __init__(
        self, name: str, port: int, tokens: str, job: Sequence[str], folder: Path, things: contextlib.ExitStack
    ) -> None:
        self.name, self._job, self._folder, self._things = name, job, folder, things
        server = [sys.executable, "-m", "gunicorn", "--no-control-socket", "-w", "2", "--bind", f"127.0.0.1:{port}", "app:app"]
        self._running = [start(server, folder, name, things, ACME_CHALLENGE_STORE=tokens, HOST_NAME=name)]
        self._running[0].wait_until(lambda: serves(port))

    def renew(self) -> Background:
        """Start the renewing job."""
        self._running.append(start(self._job, self._folder, f"{self.name}-renew", self._things))
        return self._running[-1]

    def die(self) -> None:
        """Kill all that runs here, at once."""
        for running in self._running:
            if running.process.poll() is not None:
                raise DemoFailed(f"{running.argv} has ended before its host died:\n{running.log.read_text()}")
            os.killpg(running.process.pid, signal.SIGKILL)


def lay_out(folder: Path, ports: dict[str, int]) -> None:
    """Copy the example, with ports of our own in its configuration."""
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run", "tls", "__pycache__"))
    (folder / "run").mkdir()
    (folder / "tls").mkdir()
    for file in folder.glob("*.cfg"):
        text = file.read_text()
        for written, meant in ports.items():
            text = text.replace(written, str(meant))
        file.write_text(text)


def start(command: Sequence[str], folder: Path, name: str, things: contextlib.ExitStack, **env: str) -> Background:
    """Start a command, its output in a file; in its environment are these options, and none of the caller's."""
    unset = {name: "" for name in os.environ if name.startswith("ACME_")}  # what is empty is not set
    running = Background(command, log=folder / "run" / f"{name}.log", env={**unset, **env}, cwd=folder)
    things.callback(running.stop)
    return running


def wait_for(running: Background) -> str:
    """Wait for a command to end well; returns what it printed."""
    until(lambda: running.process.poll() is not None, f"{' '.join(running.argv[:5])} ... does not end")
    printed = running.log.read_text()
    if running.process.returncode:
        raise DemoFailed(f"{' '.join(running.argv[2:4])} ended with {running.process.returncode}:\n{printed}")
    return printed


def serves(port: int) -> bool:
    """Whether the app answers there, and not only a server without it, for a token that nobody has presented."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request("GET", "/.well-known/acme-challenge/nobody-presented-it")
        return connection.getresponse().status == 404
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def until(holds: Callable[[], bool], otherwise: str) -> None:
    """Wait for something, and fail where it does not come."""
    deadline = time.monotonic() + LIMIT
    while not holds():
        if time.monotonic() > deadline:
            raise DemoFailed(otherwise)
        time.sleep(0.02)


def step(words: str) -> None:
    print(f"fleet: {words}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
