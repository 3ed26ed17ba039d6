"""
What a timer costs when nothing is due: `renew` over 1,000 certificates, beside `certbot renew` over 1,000 lineages.

    python benchmarks/renew.py        SCALE=ci: 200 of each, and twice the limits; full (the default): 1,000

Each certificate is a copy of one that Pebble has issued, to certbot and to ours; both have asked for renewal information
before, and need not ask again. Ours runs from a directory store and as `manage.py acme renew` over the ORM (SQLite). The three
take turns within a round. Compared is processor time, user's and system's, which other work on the machine changes least.

Then ours alone, over 10,000: its time above that of the framework's start-up, the memory that it takes at most, and the
connections that it opens to the CA, counted by a listener in the CA's place. None is wanted.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from pebble_server import Pebble

FULL = os.environ.get("SCALE", "full") != "ci"
COUNT, ROUNDS = (1_000, 5) if FULL else (200, 3)
MANY = 10_000 if FULL else 2_000
ALLOWANCE = 1 if FULL else 2
"""A CI machine with other work to do gets twice the limits; with fewer certificates the start weighs more."""

OF_CERTBOT = {"directory": 1 / 15, "django": 1 / 10}
"""Our median may be this share of certbot's."""
ABOVE_START = 1.0
"""Seconds that 10,000 certificates may take above the framework's own start-up."""
MEMORY = 60.0
"""MiB, for the first count, and for the second from the directory. Django alone takes 45, and each record more than a KiB."""
LIMIT = 600.0
"""Seconds that one run may take."""

NAME = "one.example.com"
ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "example_projects" / "django_site"
PYTHON = Path(sys.executable)
FILL = """
import sys, django
django.setup()
from django_acme_middleware.models import Record
version, value = open(sys.argv[1]).read().split("\\n", 1)
names = [f"copy-{number}.example.com" for number in range(int(sys.argv[3]))]
copies = [Record(key=f"renewal/{name}", value=value.replace(sys.argv[2], name).encode(), version=version) for name in names]
Record.objects.all().delete()
Record.objects.bulk_create(copies, batch_size=500)
"""


class Run(NamedTuple):
    """One run: seconds of the processor, seconds, and the most memory in MiB."""

    cpu: float
    wall: float
    memory: float


@dataclass
class Command:
    """A command, where it runs, and what was measured."""

    words: Sequence[str | Path]
    environment: dict[str, str]
    cwd: Path
    runs: list[Run] = field(default_factory=list)

    def run(self) -> Run:
        """Run it once, with its whole output read and its own children's time counted."""
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in self.words],
            env=self.environment,
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        watchdog = threading.Timer(LIMIT, process.kill)
        watchdog.start()
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        watchdog.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        if process.returncode:
            raise SystemExit(f"{self.words} ended with {process.returncode}:\n{said.decode(errors='replace')[-3000:]}")
        return Run(used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024)

    def measure(self) -> None:
        self.runs.append(self.run())

    @property
    def cpu(self) -> float:
        """The median, in seconds."""
        return statistics.median(run.cpu for run in self.runs)


class Places:
    """The folders and commands of all three, filled with copies."""

    def __init__(self, ca: Pebble, folder: Path) -> None:
        self.ca, self.folder = ca, folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ACME_")}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        self.environment = {**kept, "REQUESTS_CA_BUNDLE": str(ca.ca_bundle)}
        beside = PYTHON.with_name("certbot")
        self.certbot_program: str | Path = beside if beside.exists() else "certbot"
        if shutil.which(self.certbot_program) is None:
            raise SystemExit("certbot is what ours is measured against: install it (Debian: apt-get install certbot)")
        folders = [word for kind in ("config", "work", "logs") for word in (f"--{kind}-dir", folder / kind)]
        self.folders: list[str | Path] = [*folders, "--non-interactive"]
        self.state, self.data = folder / "state", folder / "site"
        self.data.mkdir()
        self.site = {
            **self.environment,
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "MYSITE_DATA": str(self.data),
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "integrations", SITE))),
        }
        where: list[str | Path] = ["--ca", ca.directory_url, "--ca-bundle", ca.ca_bundle, "--agree-tos"]
        program = PYTHON.with_name("acme-middleware")
        self.certbot = self.command([self.certbot_program, "renew", "--no-random-sleep-on-renew", *self.folders])
        self.directory = self.command([program, "renew", "--store", f"file://{self.state}", *where])
        self.django = Command([PYTHON, SITE / "manage.py", "acme", "renew", *where], self.site, self.data)
        self.where = where

    def command(self, words: Sequence[str | Path]) -> Command:
        return Command(words, self.environment, self.folder)

    def issue(self) -> None:
        """One certificate for each of certbot and ours, over real challenges."""
        account = ["--agree-tos", "--register-unsafely-without-email", "--server", self.ca.directory_url]
        standalone = ["--standalone", "--http-01-port", str(self.ca.http_port), "-d", NAME]
        self.command([self.certbot_program, "certonly", *standalone, *account, *self.folders]).run()
        program = PYTHON.with_name("acme-middleware")
        with answering(self.state, self.ca.http_port):
            check = ["--self-check-via", f"127.0.0.1:{self.ca.http_port}"]
            self.command([program, "issue", NAME, "--store", f"file://{self.state}", *self.where, *check]).run()
        Command([PYTHON, SITE / "manage.py", "migrate", "-v0"], self.site, self.data).run()

    def copy_lineages(self, count: int) -> None:
        """certbot's tree: archive, live with its links, and the configuration of the renewal."""
        config = self.folder / "config"
        template = (config / "renewal" / f"{NAME}.conf").read_text()
        for number in range(count - 1):  # with the one there is
            name = f"copy-{number}.example.com"
            shutil.copytree(config / "archive" / NAME, config / "archive" / name)
            (config / "live" / name).mkdir()
            for link in (config / "live" / NAME).iterdir():
                if link.is_symlink():
                    (config / "live" / name / link.name).symlink_to(os.readlink(link).replace(NAME, name))
            (config / "renewal" / f"{name}.conf").write_text(template.replace(NAME, name))

    def fill(self, count: int) -> None:
        """Our two stores, with as many copies of the public record, and the published files that each sweep looks at."""
        records, template = self.state / "renewal", self.folder / "template"
        lineage, published = self.folder / "lineage", (self.state / "live", self.data / "certificates")
        if not template.exists():
            shutil.copy(records / NAME, template)
            shutil.copytree(self.state / "live" / NAME, lineage, symlinks=True)
        for folder in (records, *published):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(0o700)
        text = template.read_text()
        for number in range(count):
            name = f"copy-{number}.example.com"
            (records / name).write_text(text.replace(NAME, name))
            for folder in published:
                shutil.copytree(lineage, folder / name, symlinks=True, copy_function=os.link)
        Command([PYTHON, "-c", FILL, template, NAME, str(count)], self.site, self.data).run()


@contextmanager
def answering(state: Path, port: int) -> Iterator[None]:
    """Our middleware in this process, for the one certificate that is issued."""
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    from acme_middleware.wsgi import AcmeMiddleware

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    def site(environ: object, start_response: object) -> list[bytes]:
        raise AssertionError("the CA asks for tokens only")

    with make_server("127.0.0.1", port, AcmeMiddleware(site, store=f"file://{state}"), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield
        server.shutdown()
        thread.join()


@contextmanager
def counted(port: int) -> Iterator[list[object]]:
    """Listen there in the CA's place; yields the addresses that connected."""
    found: list[object] = []
    with socket.create_server(("127.0.0.1", port)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                found.append(address)
                connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield found
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def compare(places: Places) -> list[str]:
    """Beside certbot; the first round is not counted: certbot asks for renewal information in it, and caches fill."""
    places.issue()
    places.copy_lineages(COUNT)
    places.fill(COUNT)
    commands = {"certbot": places.certbot, "directory": places.directory, "django": places.django}
    order = random.Random(1)
    for turn in range(ROUNDS + 1):
        before = len(places.ca.requests())
        for command in order.sample(list(commands.values()), len(commands)):
            command.measure()
        if turn == 0:
            for command in commands.values():
                command.runs.clear()
        elif len(places.ca.requests()) != before:
            raise SystemExit("somebody has asked the CA, and nothing was due")
    version = subprocess.run([places.certbot_program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{COUNT:,} certificates, none due, {ROUNDS} runs each, interleaved; {version}")
    print(f"{'':<12} {'processor':>10} {'wall':>8} {'memory':>9} {'of certbot':>11} {'limit':>7}")
    over = []
    for name, command in commands.items():
        share = command.cpu / places.certbot.cpu
        limit = OF_CERTBOT.get(name, 1.0) * ALLOWANCE
        wall, memory = statistics.median(run.wall for run in command.runs), max(run.memory for run in command.runs)
        line = f"{name:<12} {command.cpu:9.3f}s {wall:7.2f}s {memory:5.1f} MiB {share:11.3f}"
        print(line + (f" {limit:7.3f}" if name in OF_CERTBOT else ""))
        if name in OF_CERTBOT and share > limit:
            over.append(f"{name}: {share:.3f} of certbot's time; at most {limit:.3f} is wanted")
        if name in OF_CERTBOT and memory > MEMORY:
            over.append(f"{name}: {memory:.1f} MiB for {COUNT:,} certificates; at most {MEMORY:.0f} are wanted")
    return over


def alone(places: Places) -> list[str]:
    """Many more, against the start of Python and of Django; the CA's place is taken by a listener."""
    places.fill(MANY)
    starts = {
        "directory": places.command([PYTHON, "-c", "pass"]),
        "django": Command([PYTHON, "-c", "import django; django.setup()"], places.site, places.data),
    }
    commands = {"directory": places.directory, "django": places.django}
    over = []
    for command in commands.values():
        command.runs.clear()
    with counted(int(places.ca.directory_url.rsplit(":", 1)[1].split("/")[0])) as connections:
        for _ in range(ROUNDS):
            for name, command in commands.items():
                starts[name].measure()
                command.measure()
    print(f"\n{MANY:,} certificates, none due")
    print(f"{'':<12} {'start-up':>9} {'above it':>9} {'limit':>7} {'memory':>9}")
    for name, command in commands.items():
        above, memory = command.cpu - starts[name].cpu, max(run.memory for run in command.runs)
        most = ABOVE_START * ALLOWANCE
        print(f"{name:<12} {starts[name].cpu:8.3f}s {above:8.3f}s {most:6.1f}s {memory:5.1f} MiB")
        if above > most:
            over.append(f"{name}: {above:.2f} s above the start-up; at most {most:.1f} are wanted")
        if name == "directory" and memory > MEMORY:
            over.append(f"{name}: {memory:.1f} MiB; at most {MEMORY:.0f} are wanted")
    print(f"connections to the CA: {len(connections)}")
    if connections:
        over.append(f"{len(connections)} connections to the CA")
    return over


def main() -> int:
    """Measure, print, and return 1 if a limit is passed."""
    with tempfile.TemporaryDirectory(prefix="renew-") as name:
        with Pebble() as ca:
            places = Places(ca, Path(name))
            over = compare(places)
        over += alone(places)
    for line in over:
        print(f"over the limit: {line}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
