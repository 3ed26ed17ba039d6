"""The command line by itself: help, options, errors, status. What needs a CA is in tests/protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from stored_certificates import store_certificate

from acme_middleware import options
from acme_middleware.cli import main
from acme_middleware.cli.surroundings import BY_ITSELF
from acme_middleware.issuance.records import RenewalRecord, renewal_key
from acme_middleware.issuance.renewal import renew_after
from acme_middleware.stores.directory import DirectoryStore

NOW = datetime.now(UTC)


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ACME_")}
        return subprocess.run(
            [sys.executable, "-c", "import sys; from acme_middleware.cli import main; sys.exit(main())", *args],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env={**clean, "COLUMNS": "80", **environment},
            check=False,
        )

    return run


def save(store: Path, name: str, *, age: float, lifetime: float = 90) -> None:
    start = NOW - timedelta(days=age)
    end = start + timedelta(days=lifetime)
    RenewalRecord(
        name=name,
        names=(name,),
        ca="letsencrypt",
        trusted=True,
        profile="",
        not_before=start,
        not_after=end,
        serial="1",
        fingerprint="f",
        issued_at=start,
        renew_after=renew_after(start, end),
    ).write(DirectoryStore(store), renewal_key(name))


def test_help_teaches_every_flag_that_the_table_has(run: Run) -> None:
    shown = run("issue", "--help").stdout
    for option in options.table():
        flag = "--" + option.name.replace("_", "-")
        expected = not option.metadata.get("secret") and option.name not in ("on_unknown", "certificates")
        assert (flag in shown.split()) is expected, flag
    assert "Exit codes" in shown


def test_secret_has_no_flag(run: Run) -> None:
    ended = run("issue", "example.com", "--eab-hmac-key", "x")
    assert ended.returncode == 2
    assert "No such option" in ended.stderr


@pytest.mark.parametrize(
    ("args", "environment", "says"),
    [
        pytest.param(("--ca", "letsencript"), {}, "did you mean letsencrypt", id="misspelt CA"),
        pytest.param(("--store", "memory:"), {}, "only this process could read", id="store in memory"),
        pytest.param((), {"ACME_CHALLENGE_STORE": "memory:"}, "ACME_CHALLENGE_STORE is memory:", id="challenges in memory"),
        pytest.param(("--store", "etcd://x:secret@db/"), {}, "no store for etcd:", id="store of no kind"),
        pytest.param(("--key-type", "dsa"), {}, "--key-type is 'dsa'", id="key of no kind"),
        pytest.param((), {"ACME_SELF_CHECK": "maybe"}, "ACME_SELF_CHECK is 'maybe'", id="wrong variable"),
        pytest.param(("--config", "none.toml"), {}, "cannot read none.toml", id="file that is not there"),
        pytest.param(("--staging", "--ca", "zerossl"), {}, "no staging environment", id="CA without a staging twin"),
        pytest.param(("--name", "a/b"), {}, "cannot be the name", id="name that is no folder's"),
    ],
)
def test_wrong_option_is_one_clear_message_and_exit_2(
    run: Run, args: tuple[str, ...], environment: dict[str, str], says: str
) -> None:
    ended = run("issue", "example.com", *args, **{"ACME_STORE": "file:store", **environment})
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stderr
    assert ended.stdout == ""


def test_error_as_json_is_one_object_on_standard_output(run: Run) -> None:
    ended = run("issue", "*.example.com", "--json", "--store", "file:store")
    error = json.loads(ended.stdout)["error"]
    assert ended.returncode == error["exit_code"] == 2
    assert (error["type"], error["name"]) == ("NameRefused", "*.example.com")
    assert "wildcard" in error["message"]
    assert error["hint"]
    assert ended.stderr == ""


def test_traceback_is_for_who_asks(run: Run) -> None:
    assert "Traceback" in run("issue", "*.example.com", "--traceback", "--store", "file:store").stderr


def test_flag_beats_environment_beats_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('store = "file:store"\nca = "from-the-file"\n')
    environment = {"ACME_CONFIG": "x.toml"}
    assert "'from-the-file'" in run("issue", "a.example", **environment).stderr
    environment["ACME_CA"] = "from-the-environment"
    assert "'from-the-environment'" in run("issue", "a.example", **environment).stderr
    assert "'from-the-flag'" in run("issue", "a.example", "--ca", "from-the-flag", **environment).stderr


def test_status_without_certificates_says_how_to_get_one(run: Run, tmp_path: Path) -> None:
    DirectoryStore(tmp_path / "store").check(writable=True)
    ended = run("status", "--store", "file:store")
    assert ended.returncode == 0
    assert "acme-middleware issue example.com" in ended.stdout


def test_status_shows_each_certificate_and_exits_3_when_one_needs_attention(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "store"
    save(store, "good.example", age=1)
    save(store, "due.example", age=61)
    ended = run("status", "--store", "file:store")
    assert ended.returncode == 0
    *rows, remark = ended.stdout.splitlines()
    assert {line.split()[0]: line.split()[1] for line in rows} == {"NAME": "STATE", "good.example": "ok", "due.example": "due"}
    assert "nobody has run `renew` yet" in remark
    assert all(len(line) <= 80 for line in ended.stdout.splitlines())
    save(store, "late.example", age=80)
    save(store, "gone.example", age=91)
    ended = run("status", "--store", "file:store", "--json")
    assert ended.returncode == 3
    states = {entry["name"]: entry["state"] for entry in json.loads(ended.stdout)["certificates"]}
    assert states == {"good.example": "ok", "due.example": "due", "late.example": "overdue", "gone.example": "expired"}


def test_status_needs_no_acme_client(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "store", "good.example", age=1)
    code = (
        "import sys; from acme_middleware.cli import main; main(['status', '--store', 'file:store']);"
        "print([name for name in ('acme', 'josepy', 'requests', 'cryptography', 'rich') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_renewal_record_without_its_certificate_is_said_and_not_issued_anew_in_silence(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "store", "good.example", age=1)
    ended = run("issue", "good.example", "--store", "file:store", "--ca", "https://127.0.0.1:9/dir")
    assert ended.returncode == 2
    assert "only a record of its renewal" in ended.stderr


@pytest.mark.parametrize(
    ("value", "says"),
    [
        pytest.param(b"{}", "renewal/a.example is damaged", id="damaged"),
        pytest.param(b'{"schema": 99}', "renewal/a.example has schema 99", id="of a schema that is not known"),
    ],
)
def test_record_that_cannot_be_read_is_named_and_the_others_are_shown(
    run: Run, tmp_path: Path, value: bytes, says: str
) -> None:
    DirectoryStore(tmp_path / "store").put("renewal/a.example", value)
    save(tmp_path / "store", "good.example", age=1)
    ended = run("status", "--store", "file:store")
    assert ended.returncode == 3
    assert says in ended.stdout
    assert "good.example  ok" in ended.stdout
    assert DirectoryStore(tmp_path / "store").get("renewal/a.example").value == value  # type: ignore[union-attr]


FAILING = {"ACME_DEPLOY": 'command:["false"]'}
IN_DJANGO = replace(BY_ITSELF, command="manage.py acme", issue_command="manage.py issuecert")


@pytest.mark.parametrize(
    ("words", "environment", "says"),
    [
        pytest.param(["deploy"], FAILING, "`manage.py acme deploy a.example` repeats", id="deploy"),
        pytest.param(["status"], {"ACME_ENCRYPTION_KEYS": "short"}, "as `manage.py acme keys new` prints them", id="keys"),
        pytest.param(["status"], {"ACME_STORE": "sqlite:///none"}, "`manage.py acme store init", id="store init"),
        pytest.param(["check"], {"ACME_STORE": "sqlite:///none"}, "`manage.py acme store init", id="store init, by check"),
        pytest.param(["renew"], FAILING, "`manage.py acme deploy a.example` repeats", id="deploy, by renew"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True], ids=["for people", "as JSON"])
def test_what_an_error_says_to_run_is_called_as_it_is_called_here(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    environment: dict[str, str],
    says: str,
    as_json: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    store_certificate(tmp_path / "store", "a.example")
    usual = {"ACME_STORE": "file:store", "ACME_PUBLISH_DIR": "live", "ACME_CA": "https://127.0.0.1:1/directory"}
    for name, value in {**usual, **environment}.items():
        monkeypatch.setenv(name, value)
    assert main([*words, *(["--json"] if as_json else [])], surroundings=IN_DJANGO) != 0
    told = capsys.readouterr()
    assert says in " ".join((told.out + told.err).split())
    assert "`acme-middleware" not in told.out + told.err


def test_version_is_the_packages(run: Run) -> None:
    from acme_middleware import __version__

    assert run("--version").stdout == f"acme-middleware {__version__}\n"


def test_option_table_and_records_agree_on_what_a_renewal_keeps() -> None:
    from acme_middleware.issuance.ordering import KEPT_OPTIONS

    assert set(KEPT_OPTIONS) <= {option.name for option in options.table()}
