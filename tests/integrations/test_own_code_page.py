"""The page about certificates from an app's own code, followed to the letter: a site with 200 customers' domains."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from background import Background, listens
from flask import Flask
from flask_acme_middleware import Acme
from local_ports import reserve
from page_steps import Folder, blocks, dialogues
from pebble_lab import wait_until
from postgresql_server import PostgreSQL
from redis_server import Redis
from serving import PROJECT

import acme_middleware
from acme_middleware import errors
from acme_middleware.errors import NotAllowed
from acme_middleware.local_ca import LocalCA

PAGE = "docs/from-your-code.md"
PYTHON = blocks(PAGE, "python")
DOMAINS = 200

CELERY = """
import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
app = Celery("mysite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
SETTINGS = """
import json

DATABASES = {{"default": json.loads({database!r})}}
INSTALLED_APPS += ["customers"]
ROOT_URLCONF = "mysite.all_urls"
ACME_PUBLISH_DIR = None
CELERY_BROKER_URL = {broker!r}
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
"""
URLS = """
from django.urls import include, path

urlpatterns = [path("", include("mysite.urls")), path("", include("customers.urls"))]
"""


def block(*words: str) -> str:
    """The one Python block that has all these words."""
    [found] = [text for text in PYTHON if all(word in text for word in words)]
    return found


@dataclass
class Site:
    """The example site with the page's app, its database in PostgreSQL and its queue in Redis."""

    folder: Path
    env: dict[str, str]
    database: str

    def manage(self, *words: str, code: int = 0) -> str:
        ended = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=self.folder,
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout

    def ask(self, script: str, **given: Any) -> Any:
        """What a script prints as JSON, with ``client`` logged in as a customer, and ``given``."""
        start = """
import json, os, sys
import django
django.setup()
from django.contrib.auth.models import User
from django.test import Client
from django_acme_middleware import statuses
from customers.models import Domain

client = Client(SERVER_NAME="localhost", headers={"x-forwarded-proto": "https"})
client.force_login(User.objects.get_or_create(username="customer")[0])
given = json.loads(sys.argv[1])
"""
        ended = subprocess.run(
            [sys.executable, "-c", start + script, json.dumps(given)],
            cwd=self.folder,
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def add(self, *names: str) -> list[int]:
        """Add domains, as a customer does in a browser; the answers' status codes."""
        script = 'print(json.dumps([client.post("/domains/add", {"name": name}).status_code for name in given["names"]]))'
        codes: list[int] = self.ask(script, names=names)
        return codes

    def wait_for(self, secured: int, seconds: float) -> None:
        """Wait until so many domains have their certificates. One connection, and few questions: the machine has work to do."""
        deadline = time.monotonic() + seconds
        with psycopg.connect(self.database.replace("+psycopg", ""), autocommit=True) as connection:
            while (count := self._secured(connection)) < secured:
                assert time.monotonic() < deadline, f"after {seconds:.0f} s only {count} of {secured} have their certificates"
                time.sleep(0.2)

    @staticmethod
    def _secured(connection: psycopg.Connection[tuple[int]]) -> int:
        [count] = connection.execute("SELECT count(*) FROM customers_domain WHERE secured").fetchone() or [0]
        return count


@pytest.fixture
def ca(tmp_path: Path) -> Iterator[LocalCA]:
    with LocalCA(state=tmp_path / "ca", perspectives=1) as ca:
        yield ca


@pytest.fixture
def site(tmp_path: Path, ca: LocalCA) -> Iterator[Site]:
    folder = tmp_path / "site"
    shutil.copytree(PROJECT / "example_projects/django_site", folder)
    with ExitStack() as stack:
        [port] = stack.enter_context(reserve(1))
        database, queue = stack.enter_context(PostgreSQL()), stack.enter_context(Redis())
        url = database.new_database()
        entry = json.dumps(database.django(url))
        (folder / "customers/migrations").mkdir(parents=True)
        for name in ("customers/__init__.py", "customers/migrations/__init__.py"):
            (folder / name).touch()
        for text in PYTHON:
            if named := re.match(r"# (customers/\w+\.py)\n", text):
                (folder / named[1]).write_text(text)
        with (folder / "mysite/settings.py").open("a") as settings:
            settings.write(SETTINGS.format(database=entry, broker=queue.url) + block("CELERY_BEAT_SCHEDULE"))
        (folder / "mysite/all_urls.py").write_text(URLS)
        (folder / "mysite/celery.py").write_text(CELERY)
        (folder / "mysite/__init__.py").write_text("from mysite.celery import app as celery_app\n")
        env = {
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "PYTHONPATH": os.pathsep.join(map(str, [folder, PROJECT, PROJECT / "integrations"])),
            "MYSITE_SECRET_KEY": secrets.token_hex(30),
            "MYSITE_ACME_CA": ca.directory_url,
            "MYSITE_ACME_CA_BUNDLE": str(ca.ca_bundle),
            "MYSITE_ACME_AGREE_TOS": "yes",
            "MYSITE_ACME_EMAIL": "ops@example.com",
            "MYSITE_ACME_SELF_CHECK": "require",
            "MYSITE_ACME_SELF_CHECK_VIA": f"127.0.0.1:{port}",
        }
        made = Site(folder, env, url)
        made.manage("makemigrations", "-v0", "customers")
        made.manage("migrate", "-v0")
        server = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--no-control-socket"]
        web = Background([*server, "mysite.wsgi"], log=tmp_path / "web.log", env=env, cwd=folder)
        stack.callback(web.stop)
        worker = [sys.executable, "-m", "celery", "-A", "mysite", "worker", "--concurrency", "4", "--loglevel", "INFO"]
        work = Background([*worker, "--without-mingle", "--without-gossip"], log=tmp_path / "worker.log", env=env, cwd=folder)
        stack.callback(work.stop)
        web.wait_until(lambda: listens(port), seconds=30)
        ca.resolve["*"] = f"127.0.0.1:{port}"
        yield made


def test_two_hundred_customers_get_their_certificates_and_nobody_else(site: Site, ca: LocalCA) -> None:
    names = [f"customer-{number}.example" for number in range(DOMAINS - 10)]
    greedy = [f"shop-{number}.example.com" for number in range(14)]
    ca.resolve["late.example"] = "127.0.0.1:9"  # not pointed at the site yet
    assert set(site.add(*names, *greedy, "late.example")) == {202}
    # A name in upper case is one that is there; what can be no domain is told at once.
    assert site.add("CUSTOMER-0.example.", "no name", "192.0.2.1") == [202, 400, 400]
    site.wait_for(DOMAINS, seconds=300)

    with ca.state.lock:
        ordered = Counter(order.identifiers[0].value for order in ca.state.orders.values())
    assert set(ordered.values()) == {1}
    assert set(ordered) >= set(names)
    assert len(set(ordered) & set(greedy)) == 10
    stands = site.ask("print(json.dumps({one.name: one.state for one in statuses()}))")
    assert Counter(stands.values()) == {"ok": DOMAINS}

    shown = site.ask(
        'print(json.dumps({name: client.get(f"/domains/{name}").json() for name in given["names"]}))',
        names=[names[0], "late.example", *set(greedy) - set(ordered)],
    )
    assert shown[names[0]]["state"] == "ok"
    assert shown[names[0]]["until"] is not None
    late = shown.pop("late.example")
    assert late["state"] in ("missing", "failing")
    assert "late.example" in late["problem"]
    assert Counter(entry["state"] for entry in shown.values()) == {"ok": 1, "missing": 4}

    # The one that was not ready is so now, and its customer presses a button; the task that comes every five minutes sees it.
    # The greedy wait on.
    del ca.resolve["late.example"]
    site.ask('from django_acme_middleware import issue\nissue("late.example", by_hand=True)\nprint("null")')
    task = site.ask("from customers.tasks import get_missing_certificates as all\nall.delay()\nprint(json.dumps(all.name))")
    assert task in block("CELERY_BEAT_SCHEDULE")
    site.wait_for(DOMAINS + 1, seconds=60)

    # Renewals are the timer's; who has left is not among them.
    gone = site.ask("print(client.post(f\"/domains/{given['name']}/remove\").status_code)", name=names[0])
    assert gone == 202
    wait_until(lambda: f'"{names[0]}"' not in site.manage("acme", "status", "--json"), "it is forgotten", limit=30)
    assert site.manage("acme", "renew").startswith(f"  {DOMAINS} certificates: {DOMAINS} not due;")
    [command] = [command for command, _ in dialogues(PAGE)]
    assert f"customer-{DOMAINS - 11}.example" in site.manage(*command.removeprefix("python manage.py ").split())
    assert len(ca.state.orders) == DOMAINS + 2  # the one that came late twice


def test_an_app_with_an_event_loop_secures_names_and_nginx_serves_each_by_its_name(ca: LocalCA, tmp_path: Path) -> None:
    paths = os.pathsep.join(map(str, [tmp_path, PROJECT, PROJECT / "integrations"]))
    with Folder(tmp_path, PYTHONPATH=paths, ACME_CA=ca.directory_url, ACME_CA_BUNDLE=str(ca.ca_bundle)) as folder:
        folder.env["ACME_SELF_CHECK_VIA"] = ca.resolve["*"] = f"127.0.0.1:{folder.port}"
        (tmp_path / "main.py").write_text(folder.here(block("BackgroundTasks")))
        folder.start("uvicorn main:app --port 8000", folder.port)
        for name in ("one.example", "two.example"):
            assert reply(folder.port, "PUT", name)[0] == 202

        def state(name: str) -> Any:
            status, document = reply(folder.port, "GET", name)
            assert status == 200
            return document["state"]

        wait_until(lambda: {state("one.example"), state("two.example")} == {"ok"}, "both have their certificates")
        assert state("three.example") == "missing"
        check_nginx(folder, ca)


def reply(port: int, method: str, name: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, f"/domains/{name}")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def check_nginx(folder: Folder, ca: LocalCA) -> None:
    [certificates] = blocks(PAGE, "nginx")
    certificates = certificates.replace("/srv/mysite/certificates", f"{folder.path}/state/live")
    (folder.path / "nginx.conf").write_text(
        f"user {getpass.getuser()}; daemon off; pid {folder.path}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; server {{ listen 127.0.0.1:{folder.ca_port} ssl; {certificates} return 204; }} }}\n"
    )
    folder.start(f"nginx -p {folder.path} -c nginx.conf", folder.ca_port)
    trust = ssl.create_default_context(cadata=ca.root_pem)
    for name in ("one.example", "two.example"):
        with (
            socket.create_connection(("127.0.0.1", folder.ca_port), timeout=10) as plain,
            trust.wrap_socket(plain, server_hostname=name) as served,
        ):
            assert (("DNS", name),) == served.getpeercert()["subjectAltName"]  # type: ignore[index]


def test_a_flask_app_secures_a_name_within_its_context(ca: LocalCA, tmp_path: Path) -> None:
    app = Flask("shop", instance_path=str(tmp_path / "instance"))
    app.config.update(ACME_CA=ca.directory_url, ACME_CA_BUNDLE=ca.ca_bundle, ACME_AGREE_TOS=True, ACME_SELF_CHECK="skip")
    Acme(app)
    ca.resolve["*"] = app
    code: dict[str, Any] = {}
    exec(block("flask_acme_middleware"), code)
    until = code["get_certificate"](app, "shop.example", lambda name: name == "shop.example")
    assert until - datetime.now(UTC) > timedelta(days=80)
    with pytest.raises(NotAllowed):
        code["get_certificate"](app, "other.example", lambda name: name == "shop.example")


def test_what_the_page_names_is_there() -> None:
    compile(block("django.tasks"), PAGE, "exec")
    text = (PROJECT / PAGE).read_text()
    for name in re.findall(r"`([A-Z][A-Za-z]+)`", text):
        if name in vars(errors):
            assert issubclass(vars(errors)[name], errors.AcmeMiddlewareError)
    table = re.findall(r"^\| (\d+) \| (.+?) \|", text, re.MULTILINE)
    assert [code for code, _ in table] == ["75", "2", "1"]
    for code, names in table:
        for name in re.findall("`(.+?)`", names):
            made = vars(errors)[name]("x", problem=errors.Problem("unauthorized", "no"), status=403, retry_after=None)
            assert made.exit_code == int(code)
    offered = set(re.findall(r"`(\w+)(?:\([^`]*\))?`", text.split("## ")[0]))
    assert offered >= set(acme_middleware.__all__)
