"""What users install: the wheel and the source distribution, used where the source is not."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import acme_middleware

ROOT = Path(__file__).resolve().parent.parent
ADAPTERS = ("aiohttp", "django", "flask", "starlette", "tornado")
SOURCES = {
    "acme_middleware": ROOT / "acme_middleware",
    **{f"{name}_acme_middleware": ROOT / "integrations" / f"{name}_acme_middleware" for name in ADAPTERS},
}
PACKAGES = tuple(SOURCES)


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed, without a way to find the source by itself."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO"))}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it alone, as installers do."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    An environment of its own with the wheel, and what it depends on lent by the one that runs the tests.

    That lender has the project in editable form: its .pth file would bring the source back, so only its folder is named, and
    Python reads no .pth file there.
    """
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    run(*pip, built[1], cwd=folder)
    (site / "lent.pth").write_text("".join(f"{path}\n" for path in sys.path if Path(path).name == "site-packages"))
    return folder


def in_installed(folder: Path, code: str) -> str:
    return run(folder / "venv" / "bin" / "python", "-c", code, cwd=folder)


def files_below(source: Path) -> set[str]:
    found = subprocess.run(["git", "ls-files", "."], cwd=source, capture_output=True, text=True, check=True).stdout
    return {f"{source.name}/{line}" for line in found.splitlines()}


def test_the_wheel_has_every_file_of_its_packages_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    tops = {name.partition("/")[0] for name in names}
    assert tops == {*PACKAGES, f"acme_middleware-{acme_middleware.__version__}.dist-info"}
    for source in SOURCES.values():
        missing = files_below(source) - names
        assert not missing
        assert f"{source.name}/py.typed" in names
    assert any(name.startswith("django_acme_middleware/migrations/0001_") for name in names)
    assert f"acme_middleware-{acme_middleware.__version__}.dist-info/licenses/LICENSE" in names


def test_the_source_distribution_has_the_tests_and_no_leftovers(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"README.md", "LICENSE", "pyproject.toml", "tests/test_packaging.py", "tools/setup", "Makefile"} <= names
    assert not [name for name in names if name.startswith((".venv", ".pebble")) or "__pycache__" in name or ".sqlite3" in name]


def test_what_is_imported_is_what_was_installed(installed: Path) -> None:
    for package in PACKAGES:
        where = in_installed(installed, f"import {package}; print({package}.__file__)").strip()
        assert Path(where).is_relative_to(installed / "venv"), where


def test_the_version_is_written_once(installed: Path) -> None:
    shown = in_installed(installed, "import importlib.metadata as m; print(m.version('acme-middleware'))").strip()
    assert shown == acme_middleware.__version__
    written = subprocess.run(
        ["git", "grep", "-lF", f'"{shown}"', "--", "*.py", "*.toml", "*.cfg"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert written.stdout.split() == ["acme_middleware/__init__.py"]


def test_the_command_is_there(installed: Path) -> None:
    command = installed / "venv" / "bin" / "acme-middleware"
    assert "issue" in run(command, "--help", cwd=installed)
    assert acme_middleware.__version__ in run(command, "--version", cwd=installed)


def test_the_middleware_answers_from_the_wheel(installed: Path) -> None:
    folder = installed / "webroot" / ".well-known" / "acme-challenge"
    folder.mkdir(parents=True)
    (folder / "token").write_text("token.thumbprint")
    code = (
        "from wsgiref.util import setup_testing_defaults\n"
        "from acme_middleware.wsgi import AcmeMiddleware\n"
        f"app = AcmeMiddleware(None, store='webroot://{installed}/webroot')\n"
        "environ = {'PATH_INFO': '/.well-known/acme-challenge/token'}\n"
        "setup_testing_defaults(environ)\n"
        "print(*[part.decode() for part in app(environ, lambda status, headers, *rest: print(status))])"
    )
    assert in_installed(installed, code).splitlines() == ["200 OK", "token.thumbprint"]


def test_django_finds_app_commands_and_migrations_in_the_wheel(installed: Path) -> None:
    django_admin: list[str | Path] = [installed / "venv" / "bin" / "python", "-m", "django"]
    run(*django_admin, "startproject", "wheelsite", ".", cwd=installed)
    settings = installed / "wheelsite" / "settings.py"
    settings.write_text(
        settings.read_text()
        + 'INSTALLED_APPS += ["django_acme_middleware"]\n'
        + 'MIDDLEWARE = ["django_acme_middleware.middleware.AcmeMiddleware", *MIDDLEWARE]\n'
    )
    manage: list[str | Path] = [installed / "venv" / "bin" / "python", "manage.py"]
    assert "no issues" in run(*manage, "check", cwd=installed)
    assert "acme_middleware.0001_" in run(*manage, "migrate", cwd=installed)
    assert "No changes detected" in run(*manage, "makemigrations", "--check", cwd=installed)
    assert "issuecert" in run(*manage, "help", "--commands", cwd=installed)
