"""The README's Django section, followed to the letter on a new project, as somebody does who has five minutes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from background import Background, listens
from pebble_server import Pebble

from acme_middleware.authorities import LOCAL_PORT

README = Path(__file__).resolve().parent.parent / "README.md"
NAME = "example.com"
FILES = {"privkey.pem": 0o600, "cert.pem": 0o644, "chain.pem": 0o644, "fullchain.pem": 0o644, "bundle.pem": 0o600}


def django_blocks() -> tuple[str, list[str]]:
    """The section's settings, and its commands without the prompt."""
    section = re.search(r"^## Django$(.*?)^## ", README.read_text(), re.MULTILINE | re.DOTALL)
    assert section
    settings, console = (re.search(rf"```{kind}\n(.*?)```", section[1], re.DOTALL) for kind in ("python", "console"))
    assert settings
    assert console
    return settings[1], [line.removeprefix("$ ") for line in console[1].splitlines()]


class Project:
    """A new Django project that trusts the test's CA, and what the README says to type in it."""

    def __init__(self, folder: Path, ca: Pebble) -> None:
        self.folder, self.ca = folder, ca
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("ACME_", "DJANGO_"))}
        self.run("django-admin startproject mysite .")
        settings, self.commands = django_blocks()
        # Only what the test's CA differs in from the public one: where it is, its root, and where names lead to.
        settings += f'ACME_CA = "{ca.directory_url}"\nACME_CA_BUNDLE = "{ca.ca_bundle}"\n'
        settings += f'ACME_SELF_CHECK_VIA = "127.0.0.1:{ca.http_port}"\n'
        with (folder / "mysite" / "settings.py").open("a") as file:
            file.write(settings)

    def run(self, command: str) -> str:
        words = command.split()
        start = {"python": [sys.executable], "django-admin": [sys.executable, "-m", "django"]}[words[0]]
        done = subprocess.run(
            [*start, *words[1:]], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def orders(self) -> int:
        return self.ca.requests().count(("POST", "/order-plz"))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The project, its site served where the CA looks."""
    folder = tmp_path / "project"
    folder.mkdir()
    with Pebble() as ca:
        project = Project(folder, ca)
        start = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--workers", "2"]
        serve = [*start, "--bind", f"127.0.0.1:{ca.http_port}", "mysite.wsgi"]
        with Background(serve, log=tmp_path / "gunicorn.log", env=project.env, cwd=folder) as server:
            server.wait_until(lambda: listens(ca.http_port))
            yield project


def by_openssl(path: Path, *arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments, "-in", path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_django_section_gets_a_certificate(project: Project) -> None:
    assert project.commands == ["python manage.py migrate", f"python manage.py issuecert {NAME}"]
    migrate, issue = project.commands
    project.run(migrate)
    project.run(issue)
    assert project.orders() == 1

    current = project.folder / "certificates" / NAME / "current"
    assert {path.name: path.stat().st_mode & 0o777 for path in current.iterdir() if path.suffix == ".pem"} == FILES
    for name in ("cert.pem", "fullchain.pem", "bundle.pem"):
        assert f"DNS:{NAME}" in by_openssl(current / name, "x509", "-noout", "-ext", "subjectAltName")
    assert "Pebble Intermediate" in by_openssl(current / "chain.pem", "x509", "-noout", "-subject")
    public_keys = {
        by_openssl(current / "cert.pem", "x509", "-noout", "-pubkey"),
        by_openssl(current / "privkey.pem", "pkey", "-pubout"),
        by_openssl(current / "bundle.pem", "pkey", "-pubout"),
    }
    assert len(public_keys) == 1

    before = {path: path.read_bytes() for path in current.iterdir()}
    assert "not due" in project.run(issue)
    assert project.orders() == 1
    assert {path: path.read_bytes() for path in current.iterdir()} == before


def test_every_command_that_the_readme_names_exists(tmp_path: Path) -> None:
    """Verbs and flags of code blocks and tables, as their own --help has them."""
    start = [sys.executable, "-c", "import sys; from acme_middleware.cli import main; sys.exit(main())"]

    def helped(*verb: str) -> str:
        return subprocess.run(
            [*start, *verb, "--help"], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
        ).stdout

    text = README.read_text()
    verbs = set(re.findall(r"acme-middleware ([a-z]+(?:-[a-z]+)*)\b", re.sub(r"ACME_\w+|//\S+", "", text)))
    of_certificates = {"export", "import", "issue", "placeholder", "renew", "revoke", "status", "verify"}
    assert verbs == of_certificates | {"ca", "check", "deploy", "print-config", "store"}
    for verb in verbs:
        assert verb in helped()
    ours = "\n".join(line for line in text.splitlines() if not re.match(r"\$ (certbot|lego|acme\.sh) ", line))
    flags = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", ours))
    assert flags >= {"--agree-tos", "--email", "--staging", "--dry-run", "--force", "--json", "--ca-bundle"}
    of_others = {"--help", "--cacert"}
    shown = "".join(map(helped, verbs)) + helped("print-config", "systemd")
    assert not [flag for flag in flags - of_others if flag not in shown]


def test_trying_it_first_needs_no_setting_but_the_readmes(tmp_path: Path) -> None:
    """The section about the local CA: its three commands, on the ports that they take by default."""
    section = re.search(r"^## Try it first.*?^```console\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert section
    ca, serve, issue = (line.removeprefix("$ ").split()[1:] for line in section[1].splitlines())
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ACME_", "DJANGO_"))} | state
    subprocess.run([sys.executable, "-m", "django", "startproject", "mysite", tmp_path], check=True, env=env, timeout=60)
    settings = django_blocks()[0].replace("ACME_AGREE_TOS", "# ACME_AGREE_TOS")
    with (tmp_path / "mysite" / "settings.py").open("a") as file:
        file.write(settings)

    def manage(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    manage("migrate")
    with (
        Background([sys.executable, *ca], log=tmp_path / "ca.log", env=env, cwd=tmp_path) as running,
        Background([sys.executable, *serve, "--noreload"], log=tmp_path / "site.log", env=env, cwd=tmp_path) as site,
    ):
        running.wait_until(lambda: listens(LOCAL_PORT))
        site.wait_until(lambda: listens(8000))
        assert "issued" in manage(*issue[1:])
        assert "the local CA answers" in manage("acme", "check", "--ca", "local")
    root = tmp_path / "state/acme-middleware/local-ca/root.pem"
    fullchain = tmp_path / "certificates" / NAME / "current" / "fullchain.pem"
    verify = ["openssl", "verify", "-CAfile", root, "-untrusted", fullchain, "-verify_hostname", NAME, fullchain]
    assert subprocess.run(verify, capture_output=True, text=True, check=True).stdout.endswith("OK\n")
