"""
How long a certificate takes, whole process: ours, certbot, acme-tiny and lego against one Pebble.

    python benchmarks/issue.py        SCALE=ci: 5 rounds; full (the default): 25

Every run begins with nothing: a new account, new keys and a new name, as on the day a site is set up; for acme-tiny, which
makes no keys, openssl does. All write their tokens to one folder, answered by our middleware under gunicorn. Clients take
turns within a round, each round in another order, so that a slow moment of the machine hits all, and nobody always runs
after the one that sleeps for five seconds and lets the caches go cold. Python may keep what it compiles, as for any package
that pip or apt has installed. Pebble validates at once and refuses no nonce; requests are counted in its log. Only ours
checks its own answer before the CA does.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from background import Background, listens
from pebble_server import Pebble

FULL = os.environ.get("SCALE", "full") != "ci"
ROUNDS = 25 if FULL else 5
LIMIT = 120.0
"""Seconds that one run may take."""

OF_CERTBOT = 1 / 6 if FULL else 2 / 6
"""Our median may be this share of certbot's. A CI machine with other work to do gets twice that."""

REQUESTS, MOST_REQUESTS = 11, 13
"""The median of our requests to the CA, and the most that any run makes."""

OURS = "acme-middleware"
Command = Callable[[Pebble, Path, Path, str], Sequence[str | Path]]


@dataclass
class Client:
    """A client: its command for (CA, its new folder, the web root, the name), and what was measured."""

    name: str
    command: Command
    seconds: list[float] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)


def ours(ca: Pebble, folder: Path, webroot: Path, name: str) -> Sequence[str | Path]:
    start = [Path(sys.executable).with_name("acme-middleware")]
    stores = ["--store", f"file://{folder}/state", "--challenge-store", f"webroot://{webroot}"]
    where: list[str | Path] = [
        "--ca",
        ca.directory_url,
        "--ca-bundle",
        ca.ca_bundle,
        "--self-check-via",
        f"127.0.0.1:{ca.http_port}",
    ]
    return [*start, "issue", name, "--agree-tos", *stores, *where, "--publish-dir", folder / "live"]


def certbot(ca: Pebble, folder: Path, webroot: Path, name: str) -> Sequence[str | Path]:
    folders = [word for kind in ("config", "work", "logs") for word in (f"--{kind}-dir", folder / kind)]
    account = ["--agree-tos", "--register-unsafely-without-email", "--server", ca.directory_url]
    return ["certbot", "certonly", "--non-interactive", "--webroot", "-w", webroot, "-d", name, *account, *folders]


def acme_tiny(ca: Pebble, folder: Path, webroot: Path, name: str) -> Sequence[str | Path]:
    script = (
        "openssl genrsa -out account.key 2048 && openssl ecparam -name prime256v1 -genkey -noout -out key.pem && "
        'openssl req -new -key key.pem -subj "/CN=$1" -addext "subjectAltName=DNS:$1" -out csr.pem && '
        "acme-tiny --quiet --disable-check --account-key account.key --csr csr.pem "
        '--acme-dir "$2" --directory-url "$3" >cert.pem'
    )
    return ["sh", "-c", f'cd "$0" && {script}', folder, name, webroot / ".well-known" / "acme-challenge", ca.directory_url]


def lego(ca: Pebble, folder: Path, webroot: Path, name: str) -> Sequence[str | Path]:
    where: list[str | Path] = ["--server", ca.directory_url, "--path", folder, "--http", "--http.webroot", webroot]
    return ["lego", "--accept-tos", "--email", "ops@example.com", *where, "--domains", name, "run"]


def measure(client: Client, ca: Pebble, webroot: Path, name: str) -> None:
    """One run, from nothing to a certificate."""
    trust = {
        "REQUESTS_CA_BUNDLE": str(ca.ca_bundle),
        "SSL_CERT_FILE": str(ca.ca_bundle),
        "LEGO_CA_CERTIFICATES": str(ca.ca_bundle),
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory(prefix="issue-") as folder:
        command = client.command(ca, Path(folder), webroot, name)
        before, began = len(ca.requests()), time.perf_counter()
        done = subprocess.run(
            command, env={**environment, **trust}, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False
        )
        client.seconds.append(time.perf_counter() - began)
        client.requests.append(len(ca.requests()) - before)
        if done.returncode:
            raise SystemExit(
                f"{client.name} ended with {done.returncode}:\n{(done.stdout + done.stderr).decode(errors='replace')}"
            )


def compare(clients: list[Client], folder: Path) -> None:
    """All rounds, the first one uncounted: it fills the disk's cache and compiles what Python has not compiled yet."""
    webroot = folder / "webroot"
    (webroot / ".well-known" / "acme-challenge").mkdir(parents=True)
    (folder / "answering.py").write_text(
        "from acme_middleware.wsgi import AcmeMiddleware\n"
        "def site(environ, start_response):\n"
        "    start_response('404 Not Found', [])\n"
        "    return []\n"
        f"application = AcmeMiddleware(site, store='webroot://{webroot}')\n"
    )
    with Pebble() as ca:
        start = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--workers", "2"]
        command = [*start, "--bind", f"127.0.0.1:{ca.http_port}", "answering"]
        with Background(command, log=folder / "gunicorn.log", cwd=folder) as server:
            server.wait_until(lambda: listens(ca.http_port))
            order = random.Random(1)
            for turn in range(ROUNDS + 1):
                for client in order.sample(clients, len(clients)):
                    measure(client, ca, webroot, f"{client.name}-{turn}.example.com")
                if turn == 0:
                    for client in clients:
                        client.seconds.clear()
                        client.requests.clear()


def report(clients: list[Client]) -> list[str]:
    """Print the table, and return what is over its limit."""
    by_name = {client.name: client for client in clients}
    mine = by_name[OURS]
    median = statistics.median(mine.seconds)
    print(f"{ROUNDS} runs each, interleaved")
    print(f"{'client':<16} {'median':>8} {'fastest':>8} {'slowest':>8} {'/ ours':>7} {'requests':>9} {'most':>5}")
    for client in clients:
        middle = statistics.median(client.seconds)
        times = f"{middle:7.2f}s {min(client.seconds):7.2f}s {max(client.seconds):7.2f}s {middle / median:6.1f}x"
        print(f"{client.name:<16} {times} {statistics.median(client.requests):>9g} {max(client.requests):>5}")
    over = []
    if (share := median / statistics.median(by_name["certbot"].seconds)) > OF_CERTBOT:
        over.append(f"our median is {share:.3f} of certbot's; at most {OF_CERTBOT:.3f} is wanted")
    if (middle := statistics.median(mine.requests)) > REQUESTS or max(mine.requests) > MOST_REQUESTS:
        over.append(f"our requests: median {middle:g}, most {max(mine.requests)}; wanted: {REQUESTS} and {MOST_REQUESTS}")
    return over


def main() -> int:
    """Measure, print, and return 1 if a limit is passed."""
    if shutil.which("certbot") is None:
        raise SystemExit("certbot is what ours is measured against: install it (Debian: apt-get install certbot)")
    known = [Client(OURS, ours), Client("certbot", certbot), Client("acme-tiny", acme_tiny), Client("lego", lego)]
    clients = [client for client in known if client.name == OURS or shutil.which(client.name)]
    with tempfile.TemporaryDirectory(prefix="issue-") as folder:
        compare(clients, Path(folder))
    over = report(clients)
    for line in over:
        print(f"over the limit: {line}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
