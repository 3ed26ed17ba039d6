"""
Other versions than the newest, each framework absent, the wheel alone, and what type checkers make of the public API.

    make nox                      # all of it
    make nox ARGS="-s wheel"      # one session
    make nox ARGS="-s lowest"     # the oldest libraries that pyproject.toml allows: CI has a step of its own for it

`make test` tries everything, on one Python with the newest libraries. Here each session runs what could differ: the serving
path, the options, the stores, the adapters on a real server, a certificate from Pebble. Conformance, faults, kills, the matrix
and fuzzing are left out: they depend on none of this.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nox

PYTHONS = ("3.11", "3.12", "3.13")
DJANGOS = {"5.2": PYTHONS, "6.1": ("3.12", "3.13")}

PLAIN_SERVERS = "tests/integrations/test_plain_servers.py"
CORE = [
    *("tests/test_wsgi.py", "tests/test_asgi.py", "tests/test_responder.py", "tests/test_lookup.py", "tests/test_options.py"),
    *("tests/test_open_stores.py", "tests/test_webroot.py", "tests/stores/test_contract.py"),
    "tests/protocol/test_issue.py::test_files_hold_what_their_names_say",
]
ADAPTERS = {
    "aiohttp": ["tests/integrations/test_aiohttp_answering.py"],
    "django": [
        "tests/integrations/test_django_answering.py",
        "tests/integrations/test_django_checks.py",
        "tests/integrations/test_django_issuing.py",
        "tests/integrations/test_django_tasks.py",
    ],
    "flask": [
        "tests/integrations/test_flask_answering.py",
        "tests/integrations/test_flask_extension.py",
        "tests/integrations/test_flask_issuing.py",
    ],
    "starlette": ["tests/integrations/test_starlette_answering.py", PLAIN_SERVERS],
    "tornado": ["tests/integrations/test_tornado_answering.py", "tests/integrations/test_tornado_webroot.py"],
}
BESIDES = {"flask": ["flask-talisman"], "starlette": ["fastapi", "hypercorn"]}
"""What the tests of an adapter need besides its framework."""
EVERYTHING = f".[{','.join(ADAPTERS)},local-ca]"

# Left out unless SCALE=full: servers that start the same code in another way, a second order, and what takes long by itself.
TOO_LONG = {
    "core": "ten_thousand or work_takes",
    "django": "threads or wrapped or left_behind or call_command or when_the_site",
    "flask": "threads or debugger or left_behind or test_runner or when_the_app",
    "starlette": "threads or h11 or mounted",
    "tornado": "forked or bind or twice",
}

nox.options.sessions = ["tests", "absent", "wheel", "types"]
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True


def found_pythons() -> list[str]:
    """
    The versions that are here, newest last; their folders go first in PATH, where nox looks.

    pyenv's own programs are on PATH for versions that it would not run: each is tried.
    """
    found = []
    for version in PYTHONS:
        builds = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin"), key=lambda folder: release(folder.parent.name))
        for folder in [*os.environ["PATH"].split(os.pathsep), *map(str, reversed(builds))]:
            program = Path(folder, f"python{version}")
            if program.exists() and not subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode:
                os.environ["PATH"] = os.pathsep.join([folder, os.environ["PATH"]])
                found.append(version)
                break
        else:
            print(f"noxfile: no Python {version} on PATH or in ~/.pyenv/versions: it is left out")
    return found


def release(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


FOUND = found_pythons()


FULL = os.environ.get("SCALE") == "full"


def pytest(session: nox.Session, what: str, *, without: str = "") -> None:
    """Run the tests of the core or of an adapter, in an environment that has not got a framework."""
    tests = CORE if what == "core" else ADAPTERS[what]
    # pytest-django is always there, and would look for the settings.
    options = ["-o", "DJANGO_SETTINGS_MODULE="] if without == "django" else []
    if what in TOO_LONG and not FULL:
        options += ["-k", f"not ({TOO_LONG[what]})"]
    if without == "starlette":
        options += ["--ignore", PLAIN_SERVERS]  # among the apps that it serves are Starlette's
    session.run("python", "-m", "pytest", "-q", *options, *tests, *session.posargs)


@nox.session(python=FOUND)
def tests(session: nox.Session) -> None:
    """The Django adapter on each Django that this Python can have; the core; on the newest Python all adapters."""
    for django in (django for django, pythons in DJANGOS.items() if session.python in pythons):
        session.install("-q", f"django~={django}.0", "-e", EVERYTHING, "--group", "adapters")
        pytest(session, "django")
    for what in ["core", *ADAPTERS] if FULL or session.python == FOUND[-1] else ["core"]:
        if what != "django":
            pytest(session, what)


@nox.session(python=FOUND[-1:])
def absent(session: nox.Session) -> None:
    """Without one framework after another: the core and another adapter (SCALE=full: every other), and what ours says then."""
    session.install("-q", "-e", EVERYTHING, "--group", "adapters")
    names = list(ADAPTERS)
    for place, name in enumerate(names):
        session.run("python", "-m", "pip", "uninstall", "-q", "-y", name)
        others = [*names[place + 1 :], *names[:place]]
        for what in ["core", *(others if FULL else others[:1])]:
            pytest(session, what, without=name)
        if name != "starlette":  # its adapter is ASGI's, and imports nothing of it
            said = session.run("python", "-c", f"import {name}_acme_middleware", success_codes=[1], silent=True)
            if f"pip install 'acme-middleware[{name}]'" not in str(said):
                session.error(f"without {name}, its adapter does not say what to install: {said}")
        session.install("-q", name)


@functools.cache
def clean_checkout() -> Path:
    """What is committed, with the wheel that is built from it in dist/, and then without our packages."""
    folder = Path(tempfile.mkdtemp(prefix="nox-checkout-"))
    atexit.register(shutil.rmtree, folder)
    archive = subprocess.run(["git", "archive", "HEAD"], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    build = ["pip", "wheel", "-q", "--no-deps", "-w", folder / "dist", folder]
    subprocess.run([sys.executable, "-m", *build], check=True)
    shutil.rmtree(folder / "acme_middleware")
    shutil.rmtree(folder / "integrations")
    return folder


def wheel_with(extras: str) -> str:
    (built,) = (clean_checkout() / "dist").glob("*.whl")
    return f"acme-middleware[{extras}] @ {built.as_uri()}"


@nox.session(python=FOUND[-1:], reuse_venv=False)
@nox.parametrize("framework", ["core", *ADAPTERS])
def wheel(session: nox.Session, framework: str) -> None:
    """
    The wheel in an empty environment with one framework, our source being nowhere: the tests of that framework.

    The local CA, which tests issue from, comes along; it brings werkzeug and no framework.
    """
    session.install(
        "-q",
        wheel_with("local-ca" if framework == "core" else f"{framework},local-ca"),
        *BESIDES.get(framework, []),
        "--group",
        "serving",
    )
    session.chdir(clean_checkout())
    where = session.run("python", "-c", "import acme_middleware; print(acme_middleware.__file__)", silent=True)
    if "site-packages" not in str(where):
        session.error(f"not the wheel: {where}")
    pytest(session, framework, without="" if framework == "django" else "django")


@nox.session(python=FOUND[-1:])
def types(session: nox.Session) -> None:
    """mypy and pyright over tests/typing, where the public API is used as its users do, with the wheel installed."""
    session.install("-q", "--force-reinstall", "--no-deps", wheel_with(""))
    session.install("-q", wheel_with(",".join(ADAPTERS)), "fastapi", "django-stubs", "mypy", "pyright[nodejs]")
    session.chdir("tests/typing")
    session.run("mypy", "--config-file", "mypy.ini", ".")
    # Its Node.js and its own code come with these packages. All that it wants of a network is to hear of newer versions.
    session.run("pyright", "-p", ".", env={"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"})


@nox.session(python=False)
def lowest(session: nox.Session) -> None:
    """The oldest libraries that pyproject.toml allows."""
    session.run("make", "lowest", external=True)
