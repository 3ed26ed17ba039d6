"""The page about renewal, followed to the letter: its commands are typed, its programs are served."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from page_steps import Folder, blocks, commands
from pebble_lab import wait_until
from serving import PROJECT

from acme_middleware.stores.directory import DirectoryStore

PAGE = "docs/renewal.md"
PYTHON = blocks(PAGE, "python")

APP = """
from flask import Flask
from flask_acme_middleware import Acme


def create_app():
    app = Flask(__name__)
    Acme().init_app(app)
    return app
"""
ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("an app without lifespan")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""
WSGI = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
"""
LOGGED = "import logging\nlogging.basicConfig(level=logging.INFO)\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """A folder whose programs log at INFO, with a store that exists."""
    (tmp_path / "sitecustomize.py").write_text(LOGGED)
    DirectoryStore(tmp_path / "state").check(writable=True)
    paths = [tmp_path, PROJECT, PROJECT / "integrations"]
    with Folder(tmp_path, PYTHONPATH=":".join(map(str, paths)), ACME_STORE=f"file:{tmp_path}/state") as folder:
        yield folder


def block(*words: str) -> str:
    """The one Python block that has all these words."""
    [found] = [text for text in PYTHON if all(word in text for word in words)]
    return found


def django(folder: Folder) -> None:
    shutil.copytree(PROJECT / "example_projects/django_site", folder.path, dirs_exist_ok=True)
    folder.env |= {"DJANGO_SETTINGS_MODULE": "mysite.settings", "MYSITE_DATA": str(folder.path)}
    folder.run("python manage.py migrate -v0")


def write(folder: Folder, **files: str) -> None:
    for name, text in files.items():
        (folder.path / f"{name}.py").write_text(folder.here(text))


def django_asgi(folder: Folder) -> str:
    django(folder)
    (folder.path / "mysite" / "asgi.py").write_text(block("get_asgi_application"))
    return "uvicorn mysite.asgi:application --port 8000"


def django_gunicorn(folder: Folder) -> str:
    django(folder)
    (folder.path / "gunicorn.conf.py").write_text(block("django_acme_middleware.gunicorn"))
    return "gunicorn mysite.wsgi --bind 127.0.0.1:8000"


def flask_gunicorn(folder: Folder) -> str:
    write(folder, app=APP)
    (folder.path / "gunicorn.conf.py").write_text(block("flask_acme_middleware.gunicorn"))
    return "gunicorn 'app:create_app()' --bind 127.0.0.1:8000"


def flask_waitress(folder: Folder) -> str:
    write(folder, app=APP, program=block("waitress"))
    return "python program.py"


def fastapi(folder: Folder) -> str:
    write(folder, main=block("FastAPI"))
    return "uvicorn main:app --port 8000"


def tornado(folder: Folder) -> str:
    write(folder, main=block("AcmeRouter"))
    return "python main.py"


def aiohttp(folder: Folder) -> str:
    write(folder, main=block("cleanup_ctx"))
    return 'python -c "from main import app; from aiohttp import web; web.run_app(app, port=8000)"'


def plain_gunicorn(folder: Folder) -> str:
    write(folder, main=WSGI)
    (folder.path / "gunicorn.conf.py").write_text(folder.here(block("import hooks")))
    return "gunicorn main:app --bind 127.0.0.1:8000"


def gunicorn_by_environment(folder: Folder) -> str:
    """The form for which the page needs no block: the folder's environment has ACME_STORE."""
    write(folder, main=WSGI)
    (folder.path / "gunicorn.conf.py").write_text("from acme_middleware.gunicorn import post_worker_init, worker_exit\n")
    return "gunicorn main:app --bind 127.0.0.1:8000"


def plain_asgi(folder: Folder) -> str:
    write(folder, site_app=ASGI, main=block("RenewingApp"))
    return "uvicorn main:app --port 8000"


@pytest.mark.parametrize(
    "prepare",
    [
        fastapi,
        django_asgi,
        django_gunicorn,
        flask_gunicorn,
        flask_waitress,
        tornado,
        aiohttp,
        plain_gunicorn,
        gunicorn_by_environment,
        plain_asgi,
    ],
    ids=lambda prepare: prepare.__name__,
)
def test_a_program_of_the_page_is_served_and_renews(prepare: Callable[[Folder], str], folder: Folder) -> None:
    log = folder.start(prepare(folder), folder.port)
    wait_until(lambda: "takes part in renewing" in log.read_text(), "it takes part")
    assert "Traceback" not in log.read_text()


def test_the_other_programs_are_python_and_name_what_there_is(folder: Folder) -> None:
    write(folder, program=block("from acme_middleware.renewer import Renewer"))
    folder.run("python program.py")
    for text in (block("celery"), block("django.tasks"), block("apscheduler")):
        compile(text, PAGE, "exec")
        for line in re.findall(r"^from \w*acme_middleware.* import .+$", text, re.MULTILINE):
            folder.run(f"python -c '{line}'")


def test_the_commands_of_the_page_print_timers_and_what_they_run(folder: Folder) -> None:
    typed = [command for command in commands(PAGE) if "acme-middleware" in command]
    assert len(typed) == 6
    (folder.path / "bin").mkdir()
    crontab = folder.path / "bin" / "crontab"
    crontab.write_text("#!/bin/sh\nif [ \"$1\" = -l ]; then echo '# there before'; else cat > crontab; fi\n")
    crontab.chmod(0o755)
    folder.env["PATH"] = f"{folder.path}/bin:{folder.env['PATH']}"
    for command in typed:
        folder.run(command)
    units = [folder.path / "acme-renew.service", folder.path / "acme-renew.timer"]
    assert "renew --agree-tos --email ops@example.com" in units[0].read_text()
    if shutil.which("systemd-analyze"):
        subprocess.run(["systemd-analyze", "verify", *units], timeout=60, check=True)
    assert "kind: CronJob" in (folder.path / "acme-renew.yaml").read_text()
    first, *_, last = (folder.path / "crontab").read_text().splitlines()
    assert first == "# there before"
    assert last.endswith("renew --agree-tos --email ops@example.com > /dev/null")
