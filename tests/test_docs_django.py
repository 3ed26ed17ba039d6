"""The page about Django, followed to the letter on a new site."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from page_steps import Folder, blocks, commands, dialogues, steps

PAGE = "docs/frameworks/django.md"
INSTALL, *MAKE_TABLES, SERVE, ISSUE, _, CURL = commands(PAGE)
# Of several lines: a quoted text goes on.
PRESENT = blocks(PAGE, "console")[-1].removeprefix("$ ").partition("\n$ ")[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A new site with the page's settings, and its server; its CA is the one for development."""
    path = tmp_path_factory.mktemp("site")
    with Folder(path) as folder:
        folder.env = {name: value for name, value in folder.env.items() if not name.startswith("DJANGO_")}
        subprocess.run([sys.executable, "-m", "django", "startproject", "mysite", path], env=folder.env, check=True, timeout=60)
        (settings,) = blocks(PAGE, "python")
        with (path / "mysite" / "settings.py").open("a") as file:
            file.write(settings)
        folder.checked = [folder.run(command) for command in MAKE_TABLES]
        folder.start(SERVE, folder.port)
        folder.start("acme-middleware ca", folder.ca_port)
        yield folder


def test_the_page_has_six_steps_and_one_import_of_ours() -> None:
    assert steps(PAGE) == [1, 2, 3, 4, 5, 6]
    assert INSTALL == 'pip install "acme-middleware[django]" gunicorn'
    code = "\n".join(blocks(PAGE, "python") + blocks(PAGE, "console"))
    assert len(re.findall(r"^\s*(?:from|import) \w*acme_middleware", code, re.MULTILINE)) == 1


def test_django_finds_no_mistake(site: Folder) -> None:
    assert len(MAKE_TABLES) == 2
    assert "no issues" in site.checked[1]


def test_the_command_gets_a_certificate_and_does_nothing_until_it_is_due(site: Folder) -> None:
    # The page issues from a public CA, by the names' own addresses: here it is the CA of the test.
    assert ISSUE == "python manage.py issuecert example.com"
    command = f"{ISSUE} --ca local --self-check-via 127.0.0.1:8000"
    assert "issued" in site.run(command)
    assert "not due" in site.run(command)
    assert re.search(r"^  example\.com +ok ", site.run("python manage.py acme status"), re.MULTILINE)
    current = site.path / "certificates" / "example.com" / "current"
    assert oct((current / "privkey.pem").stat().st_mode)[-3:] == "600"
    verify = ["openssl", "verify", "-CAfile", site.path / "ca" / "root.pem", "-untrusted", current / "fullchain.pem"]
    verified = subprocess.run(
        [*verify, "-verify_hostname", "example.com", current / "fullchain.pem"], capture_output=True, check=True
    )
    assert verified.stdout.endswith(b"OK\n")


def test_the_check_by_hand_prints_what_the_page_says(site: Folder) -> None:
    site.run(PRESENT)
    _, said = dialogues(PAGE)[-1]
    assert said == "by-hand.it-works\n"
    assert site.run(CURL.replace("curl ", "curl -s ")) == said.rstrip("\n")
