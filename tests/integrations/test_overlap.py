"""
Certificates are issued again and again while people use the site: none of them notices.

Each example, under two workers, and the command of its README, against Pebble.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from background import Background, listens
from ordinary_clients import Page, Visitors
from pebble_lab import FULL, fresh
from pebble_server import Pebble
from serving import PROJECT

OVERLAPS = 2000 if FULL else 500
"""How many ordinary requests must have begun and ended within an issuance."""

ISSUANCES = 3
"""At least so many, however fast the site is."""

LIMIT = 120.0


@dataclass(frozen=True)
class Example:
    """An example, and where its README says how to run it and how to issue; words that differ here are replaced."""

    folder: str
    serve: str
    issue: str
    pages: list[Page]
    before: str = ""
    port: str = "8000"
    workers: tuple[str, str] = ("", "")


DJANGO_PAGES = [
    Page("/healthz", 200, "ok"),
    Page("/", 200, "<"),
    Page("/account/", 302, "/login/?next=/account/"),
    Page("/", 301, "https://example.com/", https=False),
]

EXAMPLES = {
    "Django under gunicorn": Example(
        "django_site",
        serve=r"MYSITE_HOSTS=\S+ gunicorn .*",
        issue=r"python manage\.py issuecert --agree-tos example\.com www\.example\.com",
        pages=DJANGO_PAGES,
        before=r"python manage\.py migrate",
        port="0.0.0.0:80",
        workers=("-w 4", "-w 2"),
    ),
    "Django under uvicorn": Example(
        "django_site",
        serve=r"uvicorn --workers 2 .*\.asgi:application",
        issue=r"python manage\.py issuecert --agree-tos example\.com www\.example\.com",
        pages=DJANGO_PAGES,
        before=r"python manage\.py migrate",
        port="--host 0.0.0.0 --port 80",
    ),
    "Flask under gunicorn": Example(
        "flask_app",
        serve=r"gunicorn -w 2 .*",
        issue=r"flask acme issue example\.com www\.example\.com --ca local",
        pages=[
            Page("/healthz", 200, "ok"),
            Page("/login", 200, "<"),
            Page("/", 302, "/login"),
            Page("/", 302, "https://example.com/", https=False),
        ],
    ),
    "FastAPI under uvicorn": Example(
        "fastapi_app",
        serve=r"APP_PASSWORD=\w+ uvicorn .*--workers 2",
        issue=r"acme-middleware issue .* --ca local",
        pages=[
            Page("/healthz", 200, "worker"),
            Page("/", 401, "Not authenticated"),
            Page("/openapi.json", 200, "An API"),
            Page("/", 307, "https://example.com/", https=False),
        ],
    ),
    "Tornado in two processes": Example(
        "tornado_app",
        serve=r"python app\.py .*--processes=2",
        issue=r"acme-middleware issue .* --ca local",
        pages=[
            Page("/", 200, "The pages of example.com"),
            Page("/anything", 200, "/anything of example.com"),
            Page("/v1", 200, "version", host="api.example.com"),
            Page("/", 301, "https://example.com/", https=False),
        ],
    ),
}


def documented(example, pattern):
    """The line of the README that is this command."""
    readme = (PROJECT / "example_projects" / example.folder / "README.md").read_text()
    lines = [line.strip(" `$") for line in readme.splitlines()]
    (found,) = [match[0] for line in lines if (match := re.search(pattern, line))]
    return found


class Typed:
    """The commands of an example's README, in a copy of its folder, for a CA of the test."""

    def __init__(self, example, path, ca):
        self.example, self.path, self.ca = example, path, ca
        source = PROJECT / "example_projects" / example.folder
        shutil.copytree(source, path, ignore=shutil.ignore_patterns("__pycache__", "state", "instance", "db.*", "secret-key"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ACME_", "DJANGO_"))}
        self.env = {**kept, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}

    def served(self):
        here = {"0.0.0.0:80": "127.0.0.1:{}", "--host 0.0.0.0 --port 80": "--port {}"}.get(self.example.port, "{}")
        command = documented(self.example, self.example.serve)
        command = command.replace(self.example.port, here.format(self.ca.http_port)).replace(*self.example.workers)
        return Background(["sh", "-c", f"exec env {command}"], log=self.path / "server.log", env=self.env, cwd=self.path)

    def prepare(self):
        if self.example.before:
            command = documented(self.example, self.example.before)
            subprocess.run(["sh", "-c", command], cwd=self.path, env=self.env, check=True, capture_output=True, timeout=LIMIT)

    def issue(self, welcome):
        """Get a certificate for a new name; returns when it began to, and when it had it. Sets the event between."""
        command = documented(self.example, self.example.issue).replace("example.com www.example.com", fresh("overlap"))
        command = (
            f"{command.removesuffix('--ca local')} --agree-tos --ca {self.ca.directory_url} --ca-bundle {self.ca.ca_bundle}"
        )
        command += f" --self-check require --self-check-via 127.0.0.1:{self.ca.http_port}"
        with subprocess.Popen(
            ["sh", "-c", f"exec timeout {LIMIT:.0f} {command}"],
            cwd=self.path,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            said, times = [], {}
            for line in process.stdout:
                said.append(line)
                step = (line.split() or [""])[0]
                times[step] = time.monotonic()
                # From the account, which the order follows, to the certificate that is stored and published.
                if step == "account":
                    welcome.set()
                elif step == "issued":
                    welcome.clear()
        welcome.clear()
        assert process.returncode == 0, f"{command}\n{''.join(said)}"
        return times["account"], times["issued"]


@pytest.fixture(scope="module")
def ca():
    with Pebble() as pebble:
        yield pebble


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_ordinary_request_fails_while_certificates_are_issued(name, ca, tmp_path, capsys):
    example = EXAMPLES[name]
    typed = Typed(example, tmp_path / example.folder, ca)
    typed.prepare()
    with typed.served() as server:
        server.wait_until(lambda: listens(ca.http_port), seconds=30)
        visitors = Visitors(ca.http_port, server.process.pid, example.pages)
        issuances, counted, start = [], [], time.monotonic()
        with visitors.at_work():
            while len(counted) < OVERLAPS or len(issuances) < ISSUANCES:
                began, ended = typed.issue(visitors.welcome)
                issuances.append(ended - began)
                counted += [visit for visit in visitors.visits if began <= visit.began and visit.ended <= ended]
                assert [visit.wrong for visit in visitors.visits if visit.wrong] == []
        took = time.monotonic() - start
        log = server.log.read_text()

    assert [visit.wrong for visit in visitors.visits if visit.wrong] == []
    # Of all visitors: they come only while a certificate is issued, and who looks closely may be late for its end.
    workers = {visit.worker for visit in visitors.visits} - {None}
    assert len(workers) == 2, "both workers have answered those who came while certificates were issued"
    assert {visit.kept for visit in counted} == {True, False}
    assert "Traceback" not in log
    with capsys.disabled():
        print(
            f"\n{name}: {len(counted)} ordinary requests within {len(issuances)} issuances of {sum(issuances):.1f} s together, "
            f"none failed; {len(visitors.visits)} requests in {took:.0f} s, by {len(workers)} workers"
        )
