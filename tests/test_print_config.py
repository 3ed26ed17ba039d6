"""What `print-config` prints is read by the programs that it is for, and what it says to run runs."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from click_runner import runner

from acme_middleware.cli import acme, timers
from acme_middleware.cli.invocation import Invocation
from acme_middleware.issuance.records import RenewalRecord, renewal_key
from acme_middleware.stores.directory import DirectoryStore

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLES = PROJECT / "example_projects"
BARE = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
"""What cron and systemd give a command, and nothing of this test's."""

ODD = "a b%c$d'e\"f\\g"
"""A folder's name as nobody should choose one."""


def printed(directory: Path, *argv: str, env: dict[str, str] | None = None) -> str:
    found = {name: value for name, value in os.environ.items() if not name.startswith("ACME_")}
    environment = {**found, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(env or {})}
    done = subprocess.run(argv, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=["acme-middleware", "manage.py", "flask"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[str], dict[str, str]]:
    """A project's folder, the command there, and the environment of the person who types it."""
    folder = tmp_path / ODD
    folder.mkdir()
    stores = {"acme-middleware": "state", "flask": "instance/acme"}
    if request.param in stores:
        DirectoryStore(folder / stores[request.param]).check(writable=True)
    if request.param == "acme-middleware":
        return folder, [str(Path(sys.executable).with_name("acme-middleware"))], {"ACME_STORE": "file:state"}
    example = {"manage.py": "django_site", "flask": "flask_app"}[request.param]
    shutil.copytree(EXAMPLES / example, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sqlite3", "instance"))
    if request.param == "flask":
        return folder, [sys.executable, "-m", "flask", "--app", "app:create_app()", "acme"], {}
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=folder, timeout=60, check=True)
    return folder, [sys.executable, "manage.py", "acme"], {}


def sections(text: str) -> dict[str, dict[str, list[str]]]:
    """A unit file (systemd.syntax(7)): sections of keys, each with its values."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in text.splitlines():
        if re.fullmatch(r"\[\w+\]", line):
            here = found.setdefault(line[1:-1], {})
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            assert name.isalpha(), line
            here.setdefault(name, []).append(value)
    return found


def words(value: str) -> list[str]:
    """The words of a line, as systemd takes them: quotes, backslashes, %% and $$."""
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(value)]


def test_the_service_runs_from_anywhere_and_the_timer_is_one(site, tmp_path):
    folder, command, env = site
    units = tmp_path / "units"
    units.mkdir()
    printed(folder, *command, "print-config", "systemd", "--unit", "renewing", "--into", str(units), env=env)
    assert sorted(path.name for path in units.iterdir()) == ["renewing.service", "renewing.timer"]
    if shutil.which("systemd-analyze"):
        verified = subprocess.run(
            ["systemd-analyze", "verify", *units.iterdir()], capture_output=True, text=True, timeout=60, check=False
        )
        assert (verified.returncode, verified.stderr) == (0, "")

    timer = sections((units / "renewing.timer").read_text())
    assert timer["Timer"]["Persistent"] == ["true"]
    assert re.fullmatch(r"\*-\*-\* 0[0-5]/6:[0-5]\d:00", timer["Timer"]["OnCalendar"][0])
    assert timer["Timer"]["RandomizedDelaySec"] == ["90min"]
    assert timer["Install"]["WantedBy"] == ["timers.target"]

    service = sections((units / "renewing.service").read_text())["Service"]
    assert service["Type"] == ["oneshot"]
    assert service["SuccessExitStatus"] == ["75"]
    assert service["User"] == [folder.owner()]
    assert service["WorkingDirectory"] == [str(folder).replace("%", "%%")]
    given = dict(words(entry)[0].split("=", 1) for entry in service.get("Environment", []))
    argv = words(service["ExecStart"][0])
    assert Path(argv[0]).is_absolute()
    assert argv[-1] == "renew"
    done = subprocess.run(argv, cwd=folder, env=BARE | given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("failure", "there", "hint"),
    [
        pytest.param(errno.EACCES, True, "run it as root, or leave --into out, and copy what is printed then", id="no right"),
        pytest.param(
            errno.ENOENT, False, "make that folder first, or leave --into out, and copy what is printed then", id="none"
        ),
        pytest.param(errno.EROFS, True, "leave --into out, and copy what is printed then", id="mounted read-only"),
        pytest.param(errno.ENOSPC, True, "leave --into out, and copy what is printed then", id="full"),
    ],
)
def test_units_that_cannot_be_written_come_with_what_helps_against_it(
    failure: int, there: bool, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path, text: str) -> None:
        raise OSError(failure, os.strerror(failure), str(path))

    units = tmp_path / "units"
    if there:
        units.mkdir()
    DirectoryStore(tmp_path / "state").check(writable=True)
    monkeypatch.setattr(Path, "write_text", fails)
    words = ["print-config", "systemd", "--store", f"file:{tmp_path}/state", "--into", str(units)]
    done = runner().invoke(acme, words, env={"ACME_CONFIG": ""})
    assert (done.exit_code, done.stderr.splitlines()) == (
        2,
        [f"error: cannot write {units}/acme-renew.service: {os.strerror(failure)}", f"  {hint}"],
    )


def test_the_line_for_cron_runs_from_anywhere(site):
    folder, command, env = site
    *comments, line = printed(folder, *command, "print-config", "cron", env=env).splitlines()
    assert all(comment.startswith("#") for comment in comments)
    field = r"(?:\*|\d{1,2}(?:-\d{1,2}(?:/\d{1,2})?)?)"
    found = re.fullmatch(rf"({field}) ({field}) \* \* \* (.+)", line)
    assert found, line
    minute, hours, job = found.groups()
    assert 0 <= int(minute) < 60
    assert re.fullmatch(r"[0-5]-23/6", hours)
    # crontab(5): a percent sign is a line break, unless a backslash stands before it.
    assert not re.search(r"(?<!\\)%", job)
    done = subprocess.run(
        ["/bin/sh", "-c", job.replace("\\%", "%")], cwd="/", env=BARE, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("code", "expected"), [(0, 0), (1, 1), (2, 2), (75, 0)], ids=["well", "failed", "wrong options", "must wait"]
)
def test_the_cronjob_fails_only_when_something_is_wrong(tmp_path, code, expected):
    text = printed(
        tmp_path,
        *[str(Path(sys.executable).with_name("acme-middleware")), "print-config", "kubernetes"],
        *["--image", "registry.example/shop:1.2", "--secret", "shop-acme", "--store", f"file:{ODD}", "--agree-tos"],
    )
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert re.fullmatch(r"\d{1,2} [0-5]-23/6 \* \* \*", job["spec"]["schedule"])
    run = job["spec"]["jobTemplate"]["spec"]
    assert run["backoffLimit"] == 0
    pod = run["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    [container] = pod["containers"]
    assert container["image"] == "registry.example/shop:1.2"
    assert container["envFrom"] == [{"secretRef": {"name": "shop-acme"}}]

    # The container's own acme-middleware, which notes how it was called.
    script = tmp_path / "bin" / "acme-middleware"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {shlex.quote(str(tmp_path / "called"))}\nexit {code}\n')
    script.chmod(0o755)
    env = {"PATH": f"{script.parent}:/usr/bin:/bin"}
    done = subprocess.run([*container["command"], *container["args"]], env=env, timeout=60, check=False)
    assert done.returncode == expected
    assert (tmp_path / "called").read_text().splitlines() == ["renew", "--store", f"file:{ODD}", "--agree-tos"]


@pytest.mark.parametrize(
    ("days", "calendar", "cron"),
    [
        pytest.param((), r"\*-\*-\* 0[0-5]/6:[0-5]\d:00", r"\d+ [0-5]-23/6 \* \* \*", id="no certificate yet"),
        pytest.param((90, 45), r"\*-\*-\* 0[0-5]/6:[0-5]\d:00", r"\d+ [0-5]-23/6 \* \* \*", id="90 and 45 days"),
        pytest.param((90, 6), r"\*-\*-\* 00/1:[0-5]\d:00", r"\d+ \* \* \* \*", id="90 and 6 days"),
        pytest.param((2,), r"\*-\*-\* \*:[01]\d/20:00", r"\d+-59/20 \* \* \* \*", id="2 days"),
    ],
)
def test_how_often_follows_from_the_shortest_lifetime(tmp_path, days, calendar, cron):
    store = DirectoryStore(tmp_path / "state")
    for number, lifetime in enumerate(days):
        now = datetime.now(UTC)
        record = RenewalRecord(
            name=f"name-{number}.example",
            names=(f"name-{number}.example",),
            ca="test",
            trusted=True,
            profile="",
            not_before=now,
            not_after=now + timedelta(days=lifetime),
            serial="1",
            fingerprint="00",
            issued_at=now,
            renew_after=now,
        )
        record.write(store, renewal_key(record.name))
    store.put(renewal_key("damaged.example"), b"{")
    command = [str(Path(sys.executable).with_name("acme-middleware")), "print-config"]
    units = json.loads(printed(tmp_path, *command, "systemd", "--store", "file:state", "--json"))["files"]
    [found] = sections(units["acme-renew.timer"])["Timer"]["OnCalendar"]
    assert re.fullmatch(calendar, found)
    if shutil.which("systemd-analyze"):
        subprocess.run(["systemd-analyze", "calendar", found], stdout=subprocess.DEVNULL, timeout=60, check=True)
    line = printed(tmp_path, *command, "cron", "--store", "file:state").splitlines()[-1]
    assert re.match(cron + " cd ", line)
    assert printed(tmp_path, *command, "cron", "--store", "file:state").splitlines()[-1] == line, "the minute stays"


def test_no_secret_is_printed(tmp_path):
    command = [str(Path(sys.executable).with_name("acme-middleware")), "print-config"]
    env = {"ACME_EAB_HMAC_KEY": "c2VjcmV0", "ACME_EAB_KID": "kid-1", "ACME_STORE": "file:state"}
    for kind in ("systemd", "cron", "kubernetes"):
        text = printed(tmp_path, *command, kind, env=env)
        assert "c2VjcmV0" not in text
        assert ("kid-1" in text) == (kind != "kubernetes"), "there it comes from the Secret"


WITH_PASSWORD = "postgresql+psycopg://acme:hunter2@127.0.0.1:1/acme"


@pytest.mark.parametrize("given", [{"ACME_STORE": WITH_PASSWORD}, ["--store", WITH_PASSWORD]], ids=["environment", "flag"])
@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize(
    ("kind", "printed", "advice"),
    [
        ("systemd", "EnvironmentFile=/etc/acme-middleware.env", "write ACME_STORE=... into /etc/acme-middleware.env,"),
        ("cron", " renew --config /etc/acme-middleware.toml ", 'write `store = "..."` into /etc/acme-middleware.toml,'),
        ("kubernetes", "secretRef", "have it in the Secret acme-middleware"),
    ],
)
def test_a_stores_password_is_not_printed_and_where_it_belongs_is_said(kind, printed, advice, as_json, given):
    env, flag = (given, []) if isinstance(given, dict) else ({}, given)
    done = runner().invoke(acme, ["print-config", kind, *as_json, *flag], env={"ACME_CONFIG": None, **env})
    assert done.exit_code == 0, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert printed in done.stdout
    [said] = [line for line in done.stderr.splitlines() if "left out" in line]
    assert "ACME_STORE" in said
    assert advice in said


@pytest.mark.parametrize("kind", ["systemd", "cron"])
def test_a_stores_password_that_the_command_finds_in_its_file_is_not_asked_for(kind, tmp_path):
    file = tmp_path / "acme.toml"
    file.write_text(f'store = "{WITH_PASSWORD}"\n')
    env = {"ACME_STORE": WITH_PASSWORD}
    done = runner().invoke(acme, ["print-config", kind, "--config", str(file)], env={"ACME_CONFIG": None, **env})
    assert done.exit_code == 0, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "left out" not in done.stderr
    assert f" renew --config {file}" in done.stdout


def test_in_django_a_stores_password_belongs_into_the_settings(tmp_path):
    command = [sys.executable, str(EXAMPLES / "django_site" / "manage.py"), "acme", "print-config", "cron"]
    env = {**os.environ, "MYSITE_DATA": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [*command, "--store", WITH_PASSWORD], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "ACME_STORE left out" in done.stderr
    assert "have it in the settings of the app" in done.stderr


def test_djangos_own_flags_may_stand_with_a_verb_in_a_group(tmp_path):
    command = [sys.executable, str(EXAMPLES / "django_site" / "manage.py"), "acme", "print-config", "cron", "--traceback"]
    assert " acme renew " in printed(tmp_path, *command, env={"MYSITE_DATA": str(tmp_path)})


def test_machines_differ_in_their_minute():
    minutes = {timers.Schedule.every(timedelta(hours=6), f"machine {number}").offset for number in range(200)}
    assert len(minutes) > 100
    assert minutes <= set(range(360))


def test_homes_and_temporary_folders_stay_visible_where_the_project_is_there():
    def service(directory: str) -> str:
        invocation = Invocation(("/usr/bin/python3", "-m", "acme_middleware"), Path(directory), ("acme-middleware",))
        job = timers.Job(invocation, ["renew"], timers.Schedule(360, 0), "www-data", [Path("/etc/ssl/sites")])
        return timers.systemd_units(job, "x")["x.service"]

    assert "ProtectHome=true" in service("/srv/site")
    assert "PrivateTmp=true" in service("/srv/site")
    assert "ProtectHome" not in service("/home/ann/site")
    assert "PrivateTmp" not in service("/tmp/site")
    assert 'ReadWritePaths="-/etc/ssl/sites"' in service("/srv/site")
