"""
How many answers a second: ours beside a hello-world, Tornado's StaticFileHandler, and django-letsencrypt.

    python benchmarks/answers.py      SCALE=ci: 4 rounds of a second; full (the default): 15

One token, 43 characters, and its answer, 87 bytes, fetched by wrk from one worker. The hello-world is a bare WSGI or ASGI app
that sends the same body with the same headers and knows it by heart: what ours is short of it is the price of looking into
the store. Tornado's StaticFileHandler serves the same file, as one would do without us, by Tornado's own server.
django-letsencrypt is set up as its README says, in the same site that ours is in, with Django's default middleware and
SQLite in a file. Ours is there in both of its ways: around the application, as docs/frameworks/others.md has it, and as the
first line of MIDDLEWARE, where half of the time is what Django does for any request, so that less is wanted of it.

All servers run at the same time and take turns in an order that rotates, so that a busy moment of the machine hits all of
them; of all rounds the best counts. On a machine with two cores or more every server has the first of them and wrk the second.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import local_ports
from background import Background, listens

from acme_middleware.challenge import PREFIX, found
from acme_middleware.stores import open_challenges

if TYPE_CHECKING:
    from acme_middleware.stores.base import ChallengeStore

FULL = os.environ.get("SCALE", "full") != "ci"
ROUNDS = 15 if FULL else 4
CONNECTIONS = 16
ALLOWANCE = 1.0 if FULL else 0.5
"""A CI machine with other work to do may reach this share of the limits."""

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ANSWER = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
HEADERS = found("GET", ANSWER).headers

PLAIN = """
from acme_middleware import asgi, wsgi

BODY = {body!r}
HEADERS = {headers!r}
LOWER = [(name.lower().encode(), value.encode()) for name, value in HEADERS]

def hello_wsgi(environ, start_response):
    start_response("200 OK", list(HEADERS))
    return [BODY]

async def hello_asgi(scope, receive, send):
    await send({{"type": "http.response.start", "status": 200, "headers": LOWER}})
    await send({{"type": "http.response.body", "body": BODY}})

def page_wsgi(environ, start_response):
    start_response("404 Not Found", [("Content-Length", "0")])
    return [b""]

async def page_asgi(scope, receive, send):
    await send({{"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]}})
    await send({{"type": "http.response.body", "body": b""}})

ours_wsgi = wsgi.AcmeMiddleware(page_wsgi, store={store!r})
ours_asgi = asgi.AcmeMiddleware(page_asgi, store={store!r})
"""

TORNADO = """
import asyncio, logging, sys
import tornado.web

async def main():
    handler = (r"/.well-known/acme-challenge/(.*)", tornado.web.StaticFileHandler, {{"path": {folder!r}}})
    tornado.web.Application([handler]).listen(int(sys.argv[1]), address="127.0.0.1")
    await asyncio.Event().wait()

logging.basicConfig(level=logging.WARNING)  # no line per request, as for the others
asyncio.run(main())
"""

# What `django-admin startproject` writes, but for what either README adds.
DJANGO = """
import os
from pathlib import Path

import django
from django.urls import include, path, re_path

OURS = os.environ["WHICH"] == "ours"
SECRET_KEY = "x" * 50
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_acme_middleware" if OURS else "letsencrypt",
]
MIDDLEWARE = [
    *(["django_acme_middleware.middleware.AcmeMiddleware"] if OURS else []),
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).with_name(os.environ["WHICH"] + ".sqlite3")}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
STATIC_URL = "static/"
"""

URLS = """
from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path

urlpatterns = [path("admin/", admin.site.urls)]
if not settings.OURS:
    urlpatterns.append(re_path(r"^\\.well-known/", include("letsencrypt.urls")))
"""

SITE = """
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
"""

WRAPPED = """
from acme_middleware.wsgi import AcmeMiddleware
from site_wsgi import application

application = AcmeMiddleware(application, store="django:")
"""

PRESENT = """
import django
from django.core.management import call_command

django.setup()
call_command("migrate", verbosity=0)
if {which!r} == "ours":
    from acme_middleware.stores import open_challenges
    open_challenges("django:").present({token!r}, {answer!r}, ttl=3600)
else:
    from letsencrypt.models import AcmeChallenge
    AcmeChallenge.objects.create(challenge={token!r}, response={answer!r})
"""


@dataclass
class Side:
    """A server: how it is started, but for its port, and the answers a second that it gave in each round."""

    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    port: int = 0
    rates: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        return max(self.rates)


@dataclass
class Comparison:
    """Ours, who it is measured against, and how many times that one's rate ours must have."""

    ours: Side
    other: Side
    limit: float

    def report(self) -> bool:
        """Print it, and return whether it is within the limit."""
        ratio, limit = self.ours.best / self.other.best, self.limit * ALLOWANCE
        print(f"{self.ours.name:<28} / {self.other.name:<28} = {ratio:5.2f}, at least {limit:.3g} is wanted")
        return ratio >= limit


def uvicorn(app: str) -> list[str]:
    return ["-m", "uvicorn", f"plain:{app}", "--no-access-log", "--port", "{port}"]


def gunicorn(app: str) -> list[str]:
    return ["-m", "gunicorn", app, "--no-control-socket", "--workers", "1", "--bind", "127.0.0.1:{port}"]


def prepare(folder: Path) -> list[Comparison]:
    """Write the apps, present the token wherever it is fetched from, and say what is compared."""
    store = f"file:{folder}/state"
    cast("ChallengeStore", open_challenges(store)).present(TOKEN, ANSWER, ttl=3600)
    tokens = f"{folder}/state/challenges{PREFIX}"
    (folder / "plain.py").write_text(PLAIN.format(body=ANSWER.encode(), headers=HEADERS, store=store))
    (folder / "static.py").write_text(TORNADO.format(folder=tokens))
    (folder / "settings.py").write_text(DJANGO)
    (folder / "urls.py").write_text(URLS)
    (folder / "site_wsgi.py").write_text(SITE)
    (folder / "wrapped_wsgi.py").write_text(WRAPPED)
    sites = {}
    for which in ("ours", "letsencrypt"):
        sites[which] = {"WHICH": which, "DJANGO_SETTINGS_MODULE": "settings"}
        script = PRESENT.format(which=which, token=TOKEN, answer=ANSWER)
        subprocess.run([sys.executable, "-c", script], env={**os.environ, **sites[which]}, cwd=folder, check=True, timeout=60)
    asgi = Side("ours, uvicorn", uvicorn("ours_asgi"))
    letsencrypt = Side("django-letsencrypt, gunicorn", gunicorn("site_wsgi"), sites["letsencrypt"])
    return [
        Comparison(asgi, Side("hello-world, uvicorn", uvicorn("hello_asgi")), 0.75),
        Comparison(
            Side("ours, gunicorn", gunicorn("plain:ours_wsgi")),
            Side("hello-world, gunicorn", gunicorn("plain:hello_wsgi")),
            0.88,
        ),
        Comparison(asgi, Side("StaticFileHandler, Tornado", ["static.py", "{port}"]), 5),
        Comparison(Side("ours around Django, gunicorn", gunicorn("wrapped_wsgi"), sites["ours"]), letsencrypt, 3),
        Comparison(Side("ours in MIDDLEWARE, gunicorn", gunicorn("site_wsgi"), sites["ours"]), letsencrypt, 2.75),
    ]


@contextmanager
def running(sides: list[Side], folder: Path) -> Iterator[None]:
    """All servers, each having answered once: exactly, and ours and its double with the headers that they should have."""
    with ExitStack() as stack:
        ports = stack.enter_context(local_ports.reserve(len(sides)))
        logs = [folder / f"{number}.log" for number in range(len(sides))]
        for side, port, log in zip(sides, ports, logs, strict=True):
            side.port = port
            command = [*_core(0), sys.executable, *(word.format(port=port) for word in side.command)]
            server = stack.enter_context(Background(command, log=log, env=side.env, cwd=folder))
            server.wait_until(partial(listens, port))
            with urlopen(_url(side), timeout=10) as reply:
                if (reply.status, reply.read()) != (200, ANSWER.encode()):
                    raise SystemExit(f"{side.name} gives another answer than it was told to")
                sent = {(name.title(), value) for name, value in reply.headers.items()}
                if side.name.startswith(("ours", "hello")) and not set(HEADERS) <= sent:
                    raise SystemExit(f"{side.name} sends other headers: {sorted(sent)}")
        yield
        for side, log in zip(sides, logs, strict=True):
            said = log.read_text()
            if "Traceback" in said or "ERROR" in said:
                raise SystemExit(f"{side.name} wrote errors into its log:\n{said[-3000:]}")


def measure(side: Side) -> float:
    """Fetch for a second; returns the answers a second. Anything but 200, or a broken connection, ends the benchmark."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d1s", "--timeout", "10s", _url(side)]
    done = subprocess.run([*_core(1), *command], capture_output=True, text=True, check=True, timeout=60)
    rate = re.search(r"Requests/sec: +([0-9.]+)", done.stdout)
    if rate is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(f"{side.name} did not answer every fetch:\n{done.stdout}{done.stderr}")
    return float(rate[1])


def _url(side: Side) -> str:
    return f"http://127.0.0.1:{side.port}{PREFIX}{TOKEN}"


def _core(number: int) -> list[str]:
    """What keeps a command on one core; nothing where there are not two."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return ["taskset", "--cpu-list", str(cores[number])] if len(cores) > 1 and shutil.which("taskset") else []


def main() -> int:
    """Measure, print, and return 1 if a limit is missed."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk makes the requests: install it (Debian: apt-get install wrk)")
    with tempfile.TemporaryDirectory(prefix="answers-") as name:
        folder = Path(name)
        comparisons = prepare(folder)
        sides = list({side.name: side for pair in comparisons for side in (pair.ours, pair.other)}.values())
        with running(sides, folder):
            for turn in range(ROUNDS + 1):
                first = turn % len(sides)
                for side in sides[first:] + sides[:first]:
                    side.rates.append(measure(side))
                if turn == 0:  # uncounted: it fills what is filled once
                    for side in sides:
                        side.rates.clear()
    print(f"{ROUNDS} rounds of a second, the best of each")
    for side in sides:
        print(f"{side.name:<28} {side.best:>8.0f} answers a second")
    fine = [comparison.report() for comparison in comparisons]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
