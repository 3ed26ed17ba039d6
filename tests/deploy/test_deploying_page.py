"""The page about deploying says what is so: every deployer on it can be followed, every flag and variable is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from deployments import deployment

from acme_middleware import options
from acme_middleware.cli import acme
from acme_middleware.deploy import running
from acme_middleware.deploy.deployers import SCHEMES, parse, parse_all

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "deploying.md").read_text()
SPECS = sorted(set(re.findall(rf"`((?:{'|'.join(SCHEMES)}):[^`]*)`", PAGE)))


@pytest.mark.parametrize("spec", SPECS)
def test_each_deployer_on_the_page_can_be_followed(spec: str) -> None:
    if spec not in ("command:", "hooks:"):  # the kind, in a sentence
        assert parse(spec).spec == spec


def test_there_is_one_of_each_kind() -> None:
    assert {spec.partition(":")[0] for spec in SPECS} == set(SCHEMES)


def test_the_words_for_files_are_all_there() -> None:
    section = PAGE.partition("### Copies at fixed paths")[2].partition("###")[0]
    words = re.findall(r"^\| `(.+?)`(?:, `(.+?)`)? \|", section, re.MULTILINE)
    given = {word.partition("=")[0]: word for row in words for word in row if word}
    assert set(given) == {"names", "owner", "group", "mode", "p12", "password_file", "legacy"}
    parse("files:/etc/ssl/sites?" + "&".join(given.values()))


def test_the_variables_are_those_that_a_program_finds(tmp_path: Path) -> None:
    listed = set(re.findall(r"`([A-Z_]+)`", PAGE.partition("| variable | |")[2].partition("\n\n")[0]))
    assert listed == set(running.environment(deployment(tmp_path, "a.example"))) - set(running.environment())


def test_the_files_of_options_can_be_read() -> None:
    files = re.findall(r"```toml\n(.+?)```", PAGE.replace("\n   ", "\n"), re.DOTALL)
    assert len(files) == 2
    for text in files:
        read = options.read(("the page", tomllib.loads(text)))
        parse_all(read.deploy)
        for declared in read.certificates:
            assert declared.deploy
            parse_all(declared.deploy)


def test_every_flag_on_the_page_is_one() -> None:
    for line in re.findall(r"\$ (?:sudo )?acme-middleware (.+)", PAGE):
        verb, *words = line.split()
        command = acme.commands[verb]
        if verb == "print-config":
            command = command.commands[words[0]]  # type: ignore[attr-defined]
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= flags
    for flag in ("--watch", "--every", "--force", "--deploy"):
        assert flag in PAGE
        assert any(flag in parameter.opts for parameter in acme.commands["deploy"].params)
