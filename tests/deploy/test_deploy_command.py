"""The verb `deploy`, once and watching; what `status`, `issue` and `renew` say of deployers; the hosts that follow another."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from renewal_site import RenewalSite, renewal_site

from acme_middleware import events, renewer
from acme_middleware.cli import timers
from acme_middleware.deploy import state
from acme_middleware.deploy.publish import publish
from acme_middleware.errors import ConfigurationError
from acme_middleware.issuance.following import Follower
from acme_middleware.renewer import Renewer
from acme_middleware.testing.certificates import self_made

NAME = "shop.example"
COMMAND = [sys.executable, "-c", "import sys; from acme_middleware.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def ca_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ca")


@pytest.fixture
def site(tmp_path: Path, ca_keys: Path) -> Iterator[RenewalSite]:
    with renewal_site(tmp_path, ca_keys) as running:
        yield running


@pytest.fixture
def hook(tmp_path: Path) -> str:
    """A deployer that notes each serial in `told`, and fails while there is a file `fails`."""
    path = tmp_path / "hook"
    path.write_text(f"#!/bin/sh\necho $CERT_SERIAL >> {tmp_path}/told\ntest ! -e {tmp_path}/fails || {{ echo no; exit 1; }}\n")
    path.chmod(0o755)
    return f"command:{json.dumps([str(path)])}"


@pytest.fixture
def host(site: RenewalSite, tmp_path: Path, hook: str) -> dict[str, str]:
    """The environment of a second host: the same store, files of its own, a deployer of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ACME_")}
    given = {f"ACME_{name.upper()}": str(value) for name, value in site.usual.items()}
    return {**clean, **given, "ACME_PUBLISH_DIR": str(tmp_path / "second"), "ACME_DEPLOY": json.dumps([hook]), "COLUMNS": "200"}


def run(host: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *args], env=host, capture_output=True, text=True, timeout=60, check=False)


def told(folder: Path) -> list[str]:
    return (folder / "told").read_text().split() if (folder / "told").exists() else []


def soon(holds: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_another_host_publishes_and_deploys_what_was_issued(site: RenewalSite, host: dict[str, str], tmp_path: Path) -> None:
    serial = site.issue(NAME).record.serial
    done = run(host, "deploy")
    assert done.returncode == 0, done.stderr
    assert f"deployed    {NAME}" in done.stdout
    assert "in all      1 deployed" in done.stdout
    assert told(tmp_path) == [serial]
    assert (tmp_path / "second" / NAME / "current" / "privkey.pem").exists()
    assert "in all      1 in place" in run(host, "deploy").stdout
    assert told(tmp_path) == [serial]
    assert run(host, "deploy", NAME, "--force").returncode == 0
    assert told(tmp_path) == [serial, serial]


def test_a_failure_is_exit_code_1_names_the_step_and_is_repeated(
    site: RenewalSite, host: dict[str, str], tmp_path: Path
) -> None:
    site.issue(NAME)
    (tmp_path / "fails").touch()
    done = run(host, "deploy")
    assert done.returncode == 1
    assert "hook: ended with code 1: no" in done.stderr
    assert f"acme-middleware deploy {NAME}" in done.stderr
    shown = run(host, "deploy", "--json")
    assert shown.returncode == 1
    document = json.loads(shown.stdout)
    assert (document["name"], document["action"], document["error"]["type"], document["error"]["step"]) == (
        NAME,
        "failed",
        "DeployFailed",
        "hook",
    )
    (tmp_path / "fails").unlink()
    assert run(host, "deploy", NAME).returncode == 0


def test_what_fails_in_the_same_way_with_several_names_is_said_once(
    site: RenewalSite, host: dict[str, str], tmp_path: Path
) -> None:
    for name in ("a.example", "b.example", "c.example"):
        site.issue(name)
    assert run(host, "deploy", "b.example").returncode == 0
    (tmp_path / "fails").touch()
    done = run(host, "deploy")
    assert (done.returncode, done.stderr.count("hook: ended with code 1: no")) == (1, 1)
    assert re.findall(r"^  failed +(\S+)$", done.stdout, re.MULTILINE) == ["a.example", "c.example"]
    assert done.stderr.count("repeats it") == 1
    assert "the certificates are kept; when that is mended, `acme-middleware deploy` repeats it" in done.stderr
    each = [json.loads(line) for line in run(host, "deploy", "--json").stdout.splitlines()]
    assert [one["name"] for one in each if one["error"]] == ["a.example", "c.example"]
    assert "`acme-middleware deploy c.example` repeats it" in each[2]["error"]["hint"]


def test_status_shows_how_far_the_deployers_are(site: RenewalSite, host: dict[str, str], tmp_path: Path, hook: str) -> None:
    site.issue(NAME)

    def status() -> tuple[int, str, dict[str, Any]]:
        shown, document = run(host, "status"), run(host, "status", "--json")
        assert shown.returncode == document.returncode
        return shown.returncode, shown.stdout, json.loads(document.stdout)["certificates"][0]["deployers"][0]

    code, text, deployer = status()
    assert (code, "not yet" in text, deployer["deployed"], deployer["serial"]) == (0, True, False, None)
    (tmp_path / "fails").touch()
    assert [run(host, "deploy").returncode for _ in range(2)] == [1, 1]
    code, text, deployer = status()
    assert code == 3
    assert "not deployed" in text
    assert f"last deploy error: {hook}: hook: ended with code 1: no (failure 2 in a row, " in text
    assert (deployer["deployer"], deployer["deployed"], deployer["failures"]) == (hook, False, 2)
    (tmp_path / "fails").unlink()
    assert run(host, "deploy").returncode == 0
    code, text, deployer = status()
    assert (code, deployer["deployed"], deployer["error"], deployer["failures"]) == (0, True, None, 0)
    assert "  deployed  " in text
    assert "error" not in text


def test_issue_and_renew_end_with_1_where_a_deployer_fails_and_say_what_a_flag_is_good_for(
    site: RenewalSite, host: dict[str, str], tmp_path: Path, hook: str
) -> None:
    del host["ACME_DEPLOY"]
    (tmp_path / "fails").touch()
    done = run(host, "issue", NAME, "--deploy", hook)
    assert done.returncode == 1
    assert "  issued " in done.stdout
    assert "was for this run alone: set ACME_DEPLOY" in done.stdout
    assert "hook: ended with code 1: no" in done.stderr
    document = json.loads(run(host, "issue", NAME, "--deploy", hook, "--json").stdout)
    assert (document["action"], document["undeployed"][0]["spec"]) == ("not due", hook)
    done = run(host, "renew", "--deploy", hook)
    assert done.returncode == 1
    assert "hook: ended with code 1: no" in done.stdout
    (tmp_path / "fails").unlink()
    done = run(host, "renew", "--deploy", hook)
    assert done.returncode == 0, done.stdout
    assert f"deployed    {NAME}: {hook}" in done.stdout
    assert run(host, "renew").returncode == 0
    assert len(told(tmp_path)) == 4


def test_watch_follows_another_host_and_ends_when_it_is_told_to(
    site: RenewalSite, host: dict[str, str], tmp_path: Path
) -> None:
    first = site.issue(NAME).record.serial
    watching = subprocess.Popen([*COMMAND, "deploy", "--watch", "--every", "0.2"], env=host, stdout=subprocess.PIPE, text=True)
    try:
        soon(lambda: told(tmp_path) == [first], "what there is, is deployed")
        second = site.issue(NAME, force=True).record.serial
        soon(lambda: told(tmp_path) == [first, second], "a renewal by the other host is deployed")
        other = site.issue("other.example").record.serial
        soon(lambda: told(tmp_path) == [first, second, other], "a new certificate is deployed")
        watching.send_signal(signal.SIGTERM)
        said, _ = watching.communicate(timeout=20)
    finally:
        watching.kill()
        watching.wait()
    assert watching.returncode == 0
    assert said.count("deployed    shop.example:") == 2
    assert sorted(os.listdir(tmp_path / "second" / NAME)) == ["1", "2", "current"]


def test_watch_waits_for_a_store_that_is_not_there_yet(host: dict[str, str], site: RenewalSite, tmp_path: Path) -> None:
    watching = subprocess.Popen(
        [*COMMAND, "deploy", "--watch", "--every", "0.2"], env=host, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert watching.stdout is not None
        assert "watching" in watching.stdout.readline()
        serial = site.issue(NAME).record.serial
        soon(lambda: told(tmp_path) == [serial], "it is deployed when it is there")
    finally:
        watching.kill()
        watching.communicate()


def test_a_run_that_is_killed_while_it_deploys_is_repeated_by_the_next(
    site: RenewalSite, host: dict[str, str], tmp_path: Path
) -> None:
    serial = site.issue(NAME).record.serial
    slow = tmp_path / "slow"
    slow.write_text(
        f"#!/bin/sh\necho $CERT_SERIAL >> {tmp_path}/told\n"
        f"while test ! -e {tmp_path}/goes-on -a -d {tmp_path}; do sleep 0.05; done\n"
    )
    slow.chmod(0o755)
    host["ACME_DEPLOY"] = json.dumps([f"command:{json.dumps([str(slow)])}"])
    killed = subprocess.Popen([*COMMAND, "deploy"], env=host, stdout=subprocess.DEVNULL)
    try:
        soon(lambda: told(tmp_path) == [serial], "the program runs")
    finally:
        killed.kill()
        killed.wait()
        (tmp_path / "goes-on").touch()
    assert "not yet" in run(host, "status").stdout
    assert run(host, "deploy").returncode == 0
    assert run(host, "deploy").returncode == 0
    assert told(tmp_path) == [serial, serial]


def test_what_fails_is_tried_again_later_and_keeps_no_other_waiting(
    site: RenewalSite, tmp_path: Path, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(site.options(publish_dir=tmp_path / "second", deploy=[hook]), listener=site.events.append)
    site.issue(NAME)
    (tmp_path / "fails").touch()
    assert [result.action for result in follower.look()] == ["failed"]
    assert follower.look() == [], "not at once"
    site.issue("other.example")
    assert [result.name for result in follower.look()] == ["other.example"]
    (tmp_path / "fails").unlink()
    later = time.monotonic() + 31
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert {result.name: result.action for result in follower.look()} == {NAME: "deployed", "other.example": "deployed"}
    assert follower.look() == []
    assert {type(event) for event in site.events} >= {events.Deployed, events.DeployFailed, events.Published}


@pytest.mark.parametrize("meanwhile", ["put back", "another certificate"])
def test_what_is_put_back_or_replaced_while_the_watcher_waits_is_not_settled(
    site: RenewalSite, tmp_path: Path, hook: str, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    nginx, second = tmp_path / "nginx", tmp_path / "second"
    nginx.write_text(f"#!/bin/sh\ntest ! -e {tmp_path}/fails\n")
    nginx.chmod(0o755)
    given = site.options(publish_dir=second, deploy=[f"nginx:?binary={nginx}", hook])
    waits = True

    def other(event: events.Event) -> None:
        """What another process does between the publication and the lock of what is deployed."""
        nonlocal waits
        if not isinstance(event, events.Published) or not waits:
            return
        waits = False
        if meanwhile == "another certificate":
            publish(second, NAME, lambda: self_made(NAME))
        else:
            (tmp_path / "fails").touch()
            assert [result.action for result in Follower(given, listener=site.events.append).once()] == ["failed"]
            (tmp_path / "fails").unlink()

    site.issue(NAME, deploy=[])
    Follower(given, listener=site.events.append).once()
    site.to_renewal(NAME)
    site.sweep(deploy=[])
    watcher = Follower(given, listener=other)
    result = watcher.look()[0]
    assert (result.action, meanwhile in result.reason) == ("failed", True)
    assert watcher.look() == [], "not at once"
    later = time.monotonic() + 31
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert [result.action for result in watcher.look()] == ["deployed"]
    assert told(tmp_path)[-1] == site.record(NAME).serial
    assert watcher.look() == []


def test_a_host_without_a_place_for_files_is_told_so(site: RenewalSite, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no PUBLISH_DIR"):
        Follower(site.options(store=f"sqlite:///{tmp_path / 'db'}"))


def test_renewal_inside_of_a_server_follows_other_hosts_too(
    site: RenewalSite, tmp_path: Path, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = site.issue(NAME).record.serial
    monkeypatch.setattr(renewer, "FOLLOW", 0.2)
    options = site.options(publish_dir=tmp_path / "second", deploy=[hook])
    with Renewer(options, first=0.01, every=3600):
        soon(lambda: told(tmp_path) == [first], "the first sweep deploys what there is")
        second = site.issue(NAME, force=True).record.serial
        soon(lambda: told(tmp_path) == [first, second], "what another host has renewed")
    assert state.read(tmp_path / "second", NAME)[hook].serial == second


@pytest.mark.parametrize(
    ("deploy", "confined"),
    [(["files:/etc/ssl/site?mode=0640"], True), (['command:["/bin/true"]'], False)],
    ids=["files", "command"],
)
def test_the_unit_of_systemd_watches_and_may_write_where_the_deployers_do(
    host: dict[str, str], site: RenewalSite, tmp_path: Path, deploy: list[str], confined: bool
) -> None:
    site.issue(NAME)
    host["ACME_DEPLOY"] = json.dumps(deploy)
    (tmp_path / "units").mkdir()
    done = run(host, "print-config", "systemd", "--deploy", "--into", str(tmp_path / "units"))
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path / "units") == ["acme-deploy.service"]
    lines = (tmp_path / "units" / "acme-deploy.service").read_text().splitlines()
    [start] = [line for line in lines if line.startswith("ExecStart=")]
    assert start.endswith(" deploy --watch")
    assert "Restart=on-failure" in lines
    assert "Type=oneshot" not in lines
    assert "WantedBy=multi-user.target" in lines
    assert ("ProtectSystem=full" in lines) is confined
    assert ('ReadWritePaths="-/etc/ssl/site"' in lines) is confined
    renewing = run(host, "print-config", "systemd").stdout
    assert ("ProtectSystem=full" in renewing) is confined
    assert timers.SECRETS in renewing
    if subprocess.run(["which", "systemd-analyze"], capture_output=True, check=False).returncode == 0:
        verified = subprocess.run(
            ["systemd-analyze", "verify", tmp_path / "units" / "acme-deploy.service"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (verified.returncode, verified.stderr) == (0, "")


def test_units_of_another_user_are_warned_of_what_only_root_may_do(host: dict[str, str], site: RenewalSite) -> None:
    site.issue(NAME)
    host["ACME_DEPLOY"] = "nginx:"
    assert "--user root" in run(host, "print-config", "systemd", "--user", "www-data").stderr
    assert "warning" not in run(host, "print-config", "systemd", "--user", "root").stderr


@pytest.mark.parametrize(
    "args", [["--watch", NAME], ["--watch", "--force"], ["--every", "3"], ["nobody.example"]], ids=" ".join
)
def test_what_makes_no_sense_is_refused(host: dict[str, str], site: RenewalSite, args: list[str]) -> None:
    site.issue(NAME)
    assert run(host, "deploy", *args).returncode == 2


@pytest.mark.parametrize(
    ("deploy", "code", "says"),
    [
        pytest.param(["systemd:app"], 0, "DEPLOY can be followed: systemd:app", id="good"),
        pytest.param(["sytemd:app"], 2, "did you mean systemd:?", id="misspelt"),
    ],
)
def test_check_tells_whether_the_deployers_can_be_followed(
    host: dict[str, str], site: RenewalSite, deploy: list[str], code: int, says: str
) -> None:
    site.issue(NAME)
    done = run({**host, "ACME_DEPLOY": json.dumps(deploy)}, "check")
    assert (done.returncode, says in done.stdout) == (code, True), done.stdout
