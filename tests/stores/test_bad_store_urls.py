"""
Stores that cannot be used as they are named: what the commands say, what the web process does, and that no password is told.

Commands refuse with the fix. A web process refuses only what can never work, a wrong scheme or a missing driver: a server
that is down, or not set up yet, must not take the app with it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from pebble_lab import environment
from sqlalchemy.engine import make_url
from stored_certificates import command

from acme_middleware import lookup
from acme_middleware.cli import main
from acme_middleware.errors import StoreMisconfigured
from acme_middleware.stores.sql import SQLStore
from acme_middleware.wsgi import AcmeMiddleware

NO_CA = "https://127.0.0.1:1/directory"
VERBS = (["check"], ["status"], ["renew"], ["issue", "example.com", "--agree-tos", "--self-check", "skip"])
NAMED = [verb[0] for verb in VERBS]
SECRET = "a-secret-word"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a verb over a store, in this process; the exit code, and all that it says as one text."""
    for name in [name for name in os.environ if name.startswith("ACME_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACME_CA", NO_CA)

    def run(verb: list[str], url: str) -> tuple[int, str]:
        monkeypatch.setenv("ACME_STORE", url)
        code = main(verb)
        said = "".join(capsys.readouterr())
        _told_no_secret(said, url)
        return code, said

    return run


def _told_no_secret(said: str, url: str) -> None:
    assert (make_url(url).password or SECRET) not in said
    assert "Traceback" not in said


def answered(url: str) -> tuple[str, float]:
    """The status of a fetch of a token from an app over that store, and how long it took."""
    statuses: list[str] = []
    app = AcmeMiddleware(_page, store=url)
    began = time.monotonic()
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/.well-known/acme-challenge/a-token", "SCRIPT_NAME": ""}
    list(app(environ, lambda status, headers, error=None: statuses.append(status)))
    took = time.monotonic() - began
    list(app({**environ, "PATH_INFO": "/"}, lambda status, headers, error=None: statuses.append(status)))
    assert statuses[1] == "200 OK"
    return statuses[0], took


def _page(environ: Any, start_response: Any) -> list[bytes]:
    start_response("404 Not Found" if environ["PATH_INFO"] != "/" else "200 OK", [])
    return [b""]


@pytest.mark.parametrize("verb", VERBS, ids=NAMED)
def test_a_scheme_that_nobody_knows_lists_those_there_are(run, verb):
    code, said = run(verb, f"postgers://acme:{SECRET}@db.internal/acme")
    assert code == 2
    assert "there is no store for postgers:" in said
    for known in ("postgresql:", "mysql:", "sqlite:", "redis:", "file:"):
        assert known in said


def test_a_web_process_refuses_a_scheme_that_nobody_knows():
    with pytest.raises(StoreMisconfigured, match="there is no store for postgers:") as caught:
        AcmeMiddleware(_page, store=f"postgers://acme:{SECRET}@db.internal/acme")
    assert SECRET not in str(caught.value) + caught.value.hint


DRIVERS = [
    pytest.param("postgresql+psycopg", "psycopg", "sql", id="PostgreSQL"),
    pytest.param("mysql+pymysql", "pymysql", "sql", id="MySQL"),
    pytest.param("sqlite", "sqlalchemy", "sql", id="SQLite"),
    pytest.param("redis", "redis", "redis", id="Redis"),
]


@pytest.fixture
def without(tmp_path):
    """A function that makes a library impossible to import in another process, as where it was never installed."""

    def hide(library: str) -> dict[str, str]:
        folder = tmp_path / "without"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules[{library!r}] = None\n")
        return {"PYTHONPATH": str(folder)}

    return hide


@pytest.mark.parametrize(("scheme", "library", "extra"), DRIVERS)
def test_a_missing_driver_names_what_to_install(tmp_path, without, scheme, library, extra):
    url = f"{scheme}:///here.db" if scheme == "sqlite" else f"{scheme}://acme:{SECRET}@127.0.0.1:1/acme"
    ended = command(tmp_path, "status", env={"ACME_STORE": url, **without(library)})
    _told_no_secret(ended.out + ended.err, url)
    assert ended.code == 2
    assert f"pip install 'acme-middleware[{extra}]'" in ended.err


@pytest.mark.parametrize(("scheme", "library", "extra"), DRIVERS)
def test_a_web_process_without_the_driver_does_not_start(tmp_path, without, scheme, library, extra):
    url = f"{scheme}:///here.db" if scheme == "sqlite" else f"{scheme}://acme:{SECRET}@127.0.0.1:1/acme"
    code = (
        "from acme_middleware.errors import StoreMisconfigured\nfrom acme_middleware.wsgi import AcmeMiddleware\n"
        f"try:\n    AcmeMiddleware(print, store={url!r})\nexcept StoreMisconfigured as error:\n    print(error, error.hint)\n"
    )
    env = {**environment(), **without(library)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=True
    )
    _told_no_secret(done.stdout + done.stderr, url)
    assert f"pip install 'acme-middleware[{extra}]'" in done.stdout


ENGINES = ["postgresql", "mariadb"]


@pytest.fixture(params=ENGINES)
def server(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("verb", VERBS, ids=NAMED)
def test_tables_that_nobody_made_name_the_command_that_makes_them(run, server, verb):
    code, said = run(verb, server.new_database())
    assert code == 2
    assert "has no usable tables of acme-middleware" in said
    assert "acme-middleware store init" in said


def test_a_file_that_nobody_made_names_the_command_that_makes_it(run, tmp_path):
    for verb in VERBS:
        code, said = run(verb, f"sqlite:///{tmp_path}/not-there.db")
        assert code == 2
        assert "acme-middleware store init" in said
    assert not (tmp_path / "not-there.db").exists()


@pytest.mark.parametrize("verb", VERBS, ids=NAMED)
def test_a_user_without_rights_is_told_the_grant(run, server, verb):
    import sqlalchemy

    url = make_url(server.new_database())
    SQLStore(url.render_as_string(hide_password=False)).make_tables()
    user, password = f"poor_{secrets.token_hex(4)}", secrets.token_hex(8)
    admin = sqlalchemy.create_engine(make_url(server.admin_url).set(database=url.database), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        if url.drivername.startswith("postgresql"):
            connection.execute(sqlalchemy.text(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'"))
        else:
            connection.execute(sqlalchemy.text(f"CREATE USER {user} IDENTIFIED BY '{password}'"))
            # A right to one table only: without any, MariaDB does not let a user into the database.
            connection.execute(sqlalchemy.text(f"GRANT SELECT ON {url.database}.acme_middleware_fetch TO {user}"))
    admin.dispose()
    code, said = run(verb, url.set(username=user, password=password).render_as_string(hide_password=False))
    assert code == 2
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON " in said
    assert user in said


@pytest.mark.parametrize("engine", [*ENGINES, "redis"])
def test_a_wrong_password_is_wrong_and_not_for_later(run, request, engine):
    url = make_url(request.getfixturevalue(engine).url).set(password=secrets.token_hex(12))
    for verb in VERBS:
        code, said = run(verb, url.render_as_string(hide_password=False))
        assert code == 2
        assert "password" in said


@pytest.mark.parametrize("engine", ENGINES)
def test_a_database_that_is_not_there_names_it(run, request, engine):
    server = request.getfixturevalue(engine)
    name = f"acme_{secrets.token_hex(4)}"
    for verb in VERBS:
        code, said = run(verb, make_url(server.url).set(database=name).render_as_string(hide_password=False))
        assert code == 2
        assert f"CREATE DATABASE {name}" in said


GONE = [
    pytest.param("postgresql+psycopg://acme:{}@127.0.0.1:{}/acme", id="PostgreSQL"),
    pytest.param("mysql+pymysql://acme:{}@127.0.0.1:{}/acme", id="MySQL"),
    pytest.param("redis://acme:{}@127.0.0.1:{}/0", id="Redis"),
]


@pytest.mark.parametrize("url", GONE)
def test_a_server_that_is_gone_is_for_later(run, url):
    with socket.socket() as closed:  # bound and not listening: nobody else gets the port meanwhile
        closed.bind(("127.0.0.1", 0))
        there = url.format(SECRET, closed.getsockname()[1])
        for verb in VERBS:
            began = time.monotonic()
            code, said = run(verb, there)
            assert code == 75, said
            assert time.monotonic() - began < 20
            assert "see that" in said
        status, took = answered(there)
    assert status.startswith("503 ")
    assert took < lookup.TIME_LIMIT + 0.5


@pytest.mark.parametrize("url", GONE)
def test_a_server_that_accepts_and_says_nothing_is_for_later(run, url):
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        there = url.format(SECRET, silent.getsockname()[1])
        began = time.monotonic()
        code, said = run(["status"], there)
        assert code == 75, said
        assert time.monotonic() - began < 20
        status, took = answered(there)
    assert status.startswith("503 ")
    assert took < lookup.TIME_LIMIT + 0.5


@pytest.mark.parametrize("url", ["tables", "password"])
def test_a_web_process_starts_over_a_store_that_is_not_ready_and_answers_503(server, url):
    there = make_url(server.new_database())
    if url == "password":
        there = there.set(password="not-it")
    status, took = answered(there.render_as_string(hide_password=False))
    assert status.startswith("503 ")
    assert took < lookup.TIME_LIMIT + 0.5


def test_errors_as_json_have_the_fix_too(run, postgresql):
    code, said = run(["status", "--json"], postgresql.new_database())
    error = json.loads(said)["error"]
    assert (code, error["type"], error["exit_code"]) == (2, "StoreMisconfigured", 2)
    assert "store init" in error["hint"]
