"""The page about the post of 2015: its commands are those that are tested, and nginx takes what it says to write now."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import page_steps
import pytest
from seed_post import SEED

from acme_middleware.cli import acme
from acme_middleware.stores import open_challenges
from acme_middleware.stores.webroots import WebrootsChallengeStore
from acme_middleware.testing.certificates import self_made

PAGE = "docs/lets-encrypt-today.md"


def test_the_posts_commands_stand_there_word_for_word() -> None:
    assert [command for command in page_steps.commands(PAGE) if " simp_le " in command] == [
        f"acme-middleware {line}" for line, _ in SEED.values()
    ]


@pytest.mark.parametrize("command", [line for line in page_steps.commands(PAGE) if line.startswith("acme-middleware")])
def test_each_command_has_words_that_the_program_knows(command: str) -> None:
    _, verb, *words = shlex.split(command)
    found = acme.commands[verb]
    while words and words[0] in getattr(found, "commands", {}):
        found = found.commands[words.pop(0)]  # type: ignore[attr-defined]
    found.make_context(verb, words)


def test_nginx_takes_what_is_written_now(tmp_path: Path) -> None:
    location, tls = page_steps.blocks(PAGE, "nginx")
    pems = self_made("example.com")
    (tmp_path / "fullchain.pem").write_bytes(pems.cert + pems.chain)
    (tmp_path / "key.pem").write_bytes(pems.key)
    tls = re.sub(r"443", "8443", tls.replace("/etc/nginx/ssl", str(tmp_path)))
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/nginx.pid; events {{}} http {{ access_log off;"
        f"server {{ listen 127.0.0.1:8080; {location} location / {{ return 301 https://$host$request_uri; }} }}"
        f"server {{ {tls} }} }}"
    )
    command = ["nginx", "-t", "-p", str(tmp_path), "-e", "stderr", "-c", "nginx.conf"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "[warn]" not in ended.stderr


def test_the_line_around_the_app_reads_what_simp_le_writes(tmp_path: Path) -> None:
    [line] = page_steps.blocks(PAGE, "python")
    [url] = re.findall(r'store="(.*?)"', line)
    served = SEED["the folder of the app"][1]
    assert url == f"webroot://{served}"
    WebrootsChallengeStore([tmp_path]).present("a-token", "a-token.thumbprint", ttl=60)
    assert open_challenges(url.replace(served, str(tmp_path))).key_authorization("a-token") == "a-token.thumbprint"


def test_every_flag_of_the_table_is_one_and_none_is_left_out() -> None:
    rows = re.findall(r"^\| (`-.*?) \|", (page_steps.PROJECT / PAGE).read_text(), re.MULTILINE)
    told = {flag for row in rows for flag in re.findall(r"`(--?[a-z_]+)", row)} | {"--default_root"}
    there = {flag for option in acme.commands["simp_le"].params for flag in option.opts if not getattr(option, "hidden", False)}
    assert told <= there
    assert there - told <= {"--vhost", "--verbose", "-v", "--json", "--traceback", "--config"}
