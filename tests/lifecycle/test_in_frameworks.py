"""The lifecycle verbs in Django and Flask: the same words, over the framework's own store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import django_sites
import flask_sites
import pytest
from click.testing import CliRunner
from pebble_lab import Ended

from acme_middleware.cli import acme as the_group
from acme_middleware.testing.certificates import self_made

Acme = Callable[..., Ended]
NAME = "example.com"


@pytest.fixture(params=["Django", "Flask"])
def acme(request: pytest.FixtureRequest, tmp_path: Path) -> Acme:
    """Run a verb of a site whose store is what its framework has by default."""
    folder = tmp_path / "site"
    folder.mkdir()
    if request.param == "Django":
        django = django_sites.Site(folder, settings="mysite.settings")
        django.manage("migrate", "-v0")

        def run(*words: str) -> Ended:
            ended = django.manage("acme", *words, check=False)
            return Ended(ended.returncode, ended.stdout, ended.stderr)
    else:
        flask = flask_sites.Site(folder)

        def run(*words: str) -> Ended:
            ended = flask.acme(*words)
            return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


def simp_le(folder: Path) -> Path:
    pems = self_made(NAME)
    folder.mkdir()
    (folder / "full.pem").write_bytes(pems.key + pems.cert + pems.chain)
    return folder


def test_certificate_comes_in_is_shown_goes_out_and_is_forgotten(acme: Acme, tmp_path: Path) -> None:
    tree, out = simp_le(tmp_path / "tree"), tmp_path / "out.pem"
    ended = acme("import", "simp_le", str(tree), "--json")
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["certificates"][0]["action"] == "imported"
    assert NAME in acme("status").out
    ended = acme("export", NAME, "--pem", str(out))
    assert ended.code == 0, ended.text
    assert "PRIVATE KEY" in out.read_text()
    ended = acme("delete", NAME, "--yes")
    assert ended.code == 0, ended.text
    assert acme("export", NAME, "--pem", "-").code == 2


def test_verb_of_two_words_takes_the_flags_that_are_the_frameworks_own_elsewhere(acme: Acme, tmp_path: Path) -> None:
    assert acme("import", "simp_le", str(simp_le(tmp_path / "tree"))).code == 0
    ended = acme("account", "show")
    assert ended.code == 2
    assert "the store has no account at" in ended.err
    assert "Traceback" not in ended.err
    assert "Exit codes:" in acme("account", "show", "--help").out
    ended = acme("account", "show", "--traceback")
    assert ended.code == 2
    assert "Traceback" in ended.err
    assert "the store has no account at" in ended.err


@pytest.mark.parametrize(
    "verb",
    ["export", "delete", "revoke", "import", "account show", "account update", "account rollover", "account deactivate"],
)
def test_help_teaches_what_it_does_and_how_it_ends(verb: str) -> None:
    ended = CliRunner().invoke(the_group, [*verb.split(), "--help"], prog_name="manage.py acme", terminal_width=80)
    assert ended.exit_code == 0
    assert "Exit codes:" in ended.output
    assert f"Usage: manage.py acme {verb} [OPTIONS]" in ended.output
    assert "--json" in ended.output
    assert all(len(line) <= 80 for line in ended.output.splitlines())
