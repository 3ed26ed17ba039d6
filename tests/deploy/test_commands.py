"""`command:`, `hooks:` and `systemd:`: what is run, what it is told, and what becomes of one that hangs or fails."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from deployments import deployment

from acme_middleware import options
from acme_middleware.deploy import running
from acme_middleware.deploy.deployer import Deployment
from acme_middleware.deploy.deployers import parse, parse_all
from acme_middleware.errors import ConfigurationError, DeployFailed


@pytest.fixture
def made(tmp_path: Path) -> Deployment:
    deployment(tmp_path / "live", "shop.example", "www.shop.example")
    return deployment(tmp_path / "live", "shop.example", "www.shop.example")


def script(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return path


def command(*argv: object, timeout: float | None = None) -> str:
    return f"command:{json.dumps([str(word) for word in argv])}" + (f"?timeout={timeout}" if timeout else "")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # nobody in a container may wait for an orphan


class TestCommand:
    def test_it_is_run_without_a_shell_with_the_environment_of_certbot_and_ours(self, made: Deployment, tmp_path: Path) -> None:
        told = tmp_path / "told.json"
        code = "import json, os, sys; json.dump([sys.argv[2:], dict(os.environ)], open(sys.argv[1], 'w'))"
        parse(command(sys.executable, "-c", code, told, "$HOME; *", "two words")).deploy(made)
        argv, environ = json.loads(told.read_text())
        assert argv == ["$HOME; *", "two words"]
        assert {
            name: value
            for name, value in environ.items()
            if name.startswith(("RENEWED_", "CERT", "KEY_", "CHAIN_", "FULL", "BUNDLE_"))
        } == {
            "RENEWED_LINEAGE": str(tmp_path / "live/shop.example/2"),
            "RENEWED_DOMAINS": "shop.example www.shop.example",
            "CERT_NAME": "shop.example",
            "CERT_DOMAINS": "shop.example www.shop.example",
            "CERT_PATH": str(made.directory / "cert.pem"),
            "KEY_PATH": str(made.directory / "privkey.pem"),
            "CHAIN_PATH": str(made.directory / "chain.pem"),
            "FULLCHAIN_PATH": str(made.directory / "fullchain.pem"),
            "BUNDLE_PATH": str(made.directory / "bundle.pem"),
            "CERT_SERIAL": made.serial,
            "CERT_NOT_AFTER": made.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "CERT_PREVIOUS_SERIAL": made.previous_serial,
        }
        assert made.previous_serial not in ("", made.serial)

    def test_none_of_our_secrets_is_in_its_environment(self, monkeypatch: pytest.MonkeyPatch, made: Deployment) -> None:
        secrets = [options.setting_name(option.name) for option in options.table() if option.metadata.get("secret")]
        assert secrets
        for name in secrets:
            monkeypatch.setenv(name, "hunter2")
        assert not set(running.environment(made)) & set(secrets)
        assert "PRIVATE KEY" not in str(running.environment(made))

    def test_of_stores_it_is_told_those_without_a_password(self, monkeypatch: pytest.MonkeyPatch, made: Deployment) -> None:
        urls = [options.setting_name(option.name) for option in options.table() if option.metadata.get("url")]
        assert urls
        for name in urls:
            monkeypatch.setenv(name, "postgresql+psycopg://acme:hunter2@db.internal/acme")
        assert not set(running.environment(made)) & set(urls)
        for name in urls:
            monkeypatch.setenv(name, "postgresql+psycopg://acme@/acme?host=/run/postgresql")
        assert set(running.environment(made)) >= set(urls)

    def test_its_output_is_logged_and_the_last_line_is_in_the_error(
        self, made: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        program = script(tmp_path / "reload", "echo one; echo two >&2; exit 3")
        with caplog.at_level(logging.INFO, "acme_middleware.deploy"), pytest.raises(DeployFailed) as caught:
            parse(command(program)).deploy(made)
        assert caplog.messages == ["reload: one", "reload: two"]
        assert str(caught.value).endswith("reload: ended with code 3: two")
        assert (caught.value.step, caught.value.name, caught.value.spec) == ("reload", "shop.example", command(program))
        assert "acme-middleware deploy shop.example" in caught.value.hint

    def test_one_that_hangs_is_killed_with_all_that_it_has_started(self, made: Deployment, tmp_path: Path) -> None:
        pids = tmp_path / "pids"
        program = script(
            tmp_path / "hangs",
            "trap '' TERM",  # it and its child take no notice
            f"sh -c 'echo $$ >> {pids}; while :; do sleep 1; done' &",
            f"echo $$ >> {pids}; echo stuck; while :; do sleep 1; done",
        )
        began = time.monotonic()
        with pytest.raises(DeployFailed, match=r"did not end within 0\.5 s, and was killed: stuck"):
            parse(command(program, timeout=0.5)).deploy(made)
        assert time.monotonic() - began < 0.5 + running.GRACE + 5
        started = [int(line) for line in pids.read_text().split()]
        assert len(started) == 2
        deadline = time.monotonic() + 5
        while any(alive(pid) for pid in started):
            assert time.monotonic() < deadline, "something lives on"
            time.sleep(0.01)

    def test_a_daemon_that_it_starts_goes_on_and_is_not_waited_for(self, made: Deployment, tmp_path: Path) -> None:
        pid = tmp_path / "pid"
        program = script(tmp_path / "starts", f"sleep 60 & echo $! > {pid}")
        began = time.monotonic()
        parse(command(program, timeout=20)).deploy(made)
        assert time.monotonic() - began < 10
        daemon = int(pid.read_text())
        assert alive(daemon)
        os.kill(daemon, signal.SIGKILL)

    @pytest.mark.parametrize(
        ("argv", "says"),
        [
            pytest.param(["/nowhere/reload"], "cannot start /nowhere/reload: No such file", id="program that is not there"),
            pytest.param(["/etc/passwd"], "Permission denied", id="file that is no program"),
            pytest.param(["sh", "-c", "kill -9 $$"], "killed by signal 9", id="program that somebody kills"),
        ],
    )
    def test_one_that_cannot_run_or_end_well_is_an_error_that_says_why(
        self, made: Deployment, argv: list[str], says: str
    ) -> None:
        with pytest.raises(DeployFailed) as caught:
            parse(command(*argv)).deploy(made)
        assert says in str(caught.value)


class TestHooks:
    def test_certbots_folders_are_run_in_its_order(self, made: Deployment, tmp_path: Path) -> None:
        folder, told = tmp_path / "renewal-hooks", tmp_path / "told"
        for place in ("post/a", "deploy/b", "deploy/a", "pre/z"):
            script(folder / place, f'echo "{place} $RENEWED_LINEAGE $RENEWED_DOMAINS" >> {shlex.quote(str(told))}')
        script(folder / "deploy/c~", f"echo backup >> {told}")
        (folder / "deploy/README").write_text("not executable")
        parse(f"hooks:{folder}").deploy(made)
        what = f"{made.directory} shop.example www.shop.example"
        assert told.read_text().splitlines() == [f"{place} {what}" for place in ("pre/z", "deploy/a", "deploy/b", "post/a")]

    def test_one_that_fails_keeps_no_other_from_running(self, made: Deployment, tmp_path: Path) -> None:
        folder, told = tmp_path / "renewal-hooks", tmp_path / "told"
        script(folder / "deploy/a", "echo broken; exit 1")
        script(folder / "deploy/b", f"touch {told}")
        with pytest.raises(DeployFailed, match="deploy/a: ended with code 1: broken"):
            parse(f"hooks:{folder}").deploy(made)
        assert told.exists()

    def test_a_folder_that_is_not_there_is_an_error(self, made: Deployment, tmp_path: Path) -> None:
        with pytest.raises(DeployFailed, match="there is no such folder"):
            parse(f"hooks:{tmp_path / 'none'}").deploy(made)


class TestSystemd:
    @pytest.fixture
    def systemctl(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A `systemctl` that notes what it is told: a container has no systemd."""
        told = tmp_path / "told"
        script(
            tmp_path / "bin/systemctl",
            f'echo "$*" >> {told}',
            f"test ! -e {tmp_path / 'slow'} || sleep 0.5",
            f"test ! -e {tmp_path / 'fails'} || {{ echo Job failed.; exit 1; }}",
        )
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        return told

    @pytest.mark.parametrize(
        ("spec", "action"),
        [
            ("systemd:nginx.service", "reload nginx.service"),
            ("systemd:app@1?action=reload", "reload app@1"),
            ("systemd:app?action=restart&timeout=5", "restart app"),
        ],
    )
    def test_the_unit_is_reloaded_or_restarted(self, made: Deployment, systemctl: Path, spec: str, action: str) -> None:
        parse(spec).deploy(made)
        assert systemctl.read_text() == f"--no-ask-password {action}\n"

    def test_its_no_is_an_error_that_names_the_step(self, made: Deployment, systemctl: Path, tmp_path: Path) -> None:
        (tmp_path / "fails").touch()
        with pytest.raises(DeployFailed, match=r"systemctl reload nginx: ended with code 1: Job failed\.") as caught:
            parse("systemd:nginx").deploy(made)
        assert systemctl.exists()
        assert caught.value.step == "systemctl reload nginx"

    def test_of_many_at_once_not_each_restarts_the_unit_and_the_next_one_does(
        self, made: Deployment, systemctl: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "slow").touch()
        threads = [threading.Thread(target=parse("systemd:app?action=restart").deploy, args=(made,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        together = len(systemctl.read_text().splitlines())
        assert 1 <= together <= 3
        parse("systemd:app?action=restart").deploy(made)
        assert len(systemctl.read_text().splitlines()) == together + 1


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param("command:reload nginx", "is no list in JSON", id="command that is no list"),
        pytest.param("command:[]", "no list of a program", id="empty list"),
        pytest.param('command:["a", 1]', "no list of a program", id="word that is a number"),
        pytest.param('command:["a"] b', "no list of a program", id="something behind the list"),
        pytest.param('command:["a"]?timeout=soon', "timeout=soon", id="time limit that is none"),
        pytest.param("hooks:renewal-hooks", "absolute path", id="relative folder of hooks"),
        pytest.param("systemd:", "where a unit should be", id="no unit"),
        pytest.param("systemd:--user", "where a unit should be", id="option in the place of a unit"),
        pytest.param("systemd:nginx?action=stop", "action=stop", id="action that serves nobody"),
        pytest.param("comand:[]", "did you mean command:", id="misspelt deployer"),
        pytest.param("/usr/bin/reload", "there is no deployer", id="no deployer at all"),
    ],
)
def test_what_cannot_be_followed_is_refused_when_it_is_read(spec: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(spec)
    assert says in str(caught.value)
    assert caught.value.option == "deploy"


def test_the_unknown_deployer_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse("ftp://host")
    for scheme in ("files:", "command:", "hooks:", "systemd:", "haproxy:", "nginx:"):
        assert scheme in caught.value.hint


def test_the_same_one_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        parse_all(["systemd:a", "systemd:b", "systemd:a"])
