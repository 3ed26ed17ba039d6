"""``manage.py acme`` and ``manage.py issuecert``: Django's options, help, exit codes, and calls from Python."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django_acme_middleware.stores import DjangoStore
from django_sites import Site

from acme_middleware.stores.base import key


def renewal(name, *, days=90, **changes):
    """A public record of a certificate that was issued just now."""
    now = datetime.now(UTC).replace(microsecond=0)
    record = {
        "schema": 1,
        "name": name,
        "names": [name],
        "ca": "letsencrypt",
        "trusted": True,
        "profile": "classic",
        "not_before": now.isoformat(),
        "not_after": (now + timedelta(days=days)).isoformat(),
        "serial": "04:ab",
        "fingerprint": "f" * 64,
        "issued_at": now.isoformat(),
        "renew_after": (now + timedelta(days=days * 2 / 3)).isoformat(),
        "ari": None,
        "options": {},
        **changes,
    }
    return json.dumps(record).encode()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("site"), settings="mysite.settings")
    made.manage("migrate", "-v0")
    return made


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A site whose tables nobody has made."""
    return Site(tmp_path_factory.mktemp("bare"), settings="mysite.settings")


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        pytest.param(["help", "issuecert"], "Usage: manage.py issuecert [OPTIONS] NAME...", id="help issuecert"),
        pytest.param(["issuecert", "--help"], "Usage: manage.py issuecert [OPTIONS] NAME...", id="issuecert --help"),
        pytest.param(["issuecert", "-h"], "Usage: manage.py issuecert [OPTIONS] NAME...", id="issuecert -h"),
        pytest.param(["help", "acme"], "Usage: manage.py acme [OPTIONS] COMMAND", id="help acme"),
        pytest.param(["acme", "issue", "--help"], "Usage: manage.py acme issue [OPTIONS] NAME...", id="a verb's help"),
    ],
)
def test_help_is_that_of_the_command_line(site, arguments, usage):
    shown = site.manage(*arguments)
    assert shown.stdout.startswith(usage)
    assert shown.stderr == ""


def test_help_lists_both_commands_with_their_app(site):
    assert "[django_acme_middleware]\n    acme\n    issuecert\n" in site.manage("help").stdout


def test_version_is_ours(site):
    assert site.manage("acme", "--version").stdout.startswith("acme-middleware ")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["issuecert"], 2, "Missing argument", id="no name"),
        pytest.param(["issuecert", "--nope", "a.example"], 2, "--nope", id="an unknown flag"),
        pytest.param(["issuecert", "a.example", "--ca=nope"], 2, "there is no CA called 'nope'", id="an unknown CA"),
        pytest.param(["issuecert", "*.example"], 2, "*.example", id="a name that cannot be had"),
        pytest.param(["acme", "nope"], 2, "No such command 'nope'", id="an unknown verb"),
        pytest.param(["issuecert", "a.example", "--ca=https://127.0.0.1:1/dir"], 75, "127.0.0.1:1", id="a CA that is down"),
    ],
)
def test_exit_codes_pass_through_and_errors_are_said_once(site, arguments, code, words):
    ended = site.manage(*arguments, check=False)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "CommandError" not in ended.stderr


@pytest.mark.parametrize("arguments", [["issuecert", "a.example"], ["acme", "status"]], ids=["issuecert", "acme status"])
def test_without_tables_the_command_says_to_run_migrate(bare, arguments):
    ended = bare.manage(*arguments, check=False)
    assert ended.returncode == 2
    assert "run `manage.py migrate`" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_expired_certificate_is_exit_code_3(tmp_path):
    site = Site(tmp_path, settings="mysite.settings")
    site.manage("migrate", "-v0")
    value = renewal("old.example", days=-1, not_before=(datetime.now(UTC) - timedelta(days=91)).isoformat())
    site.in_python(
        f"from acme_middleware.stores import open_store; open_store('django:').put('renewal/old.example', {value!r})"
    )
    ended = site.manage("acme", "status", check=False)
    assert ended.returncode == 3
    assert "expired" in ended.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--settings=site_two", "--pythonpath={folder}", "issuecert", "a.example"], id="before"),
        pytest.param(["issuecert", "--settings", "site_two", "--pythonpath", "{folder}", "a.example"], id="between"),
        pytest.param(["issuecert", "a.example", "--settings=site_two", "--pythonpath={folder}"], id="after"),
    ],
)
def test_settings_and_pythonpath_work_in_any_place(site, tmp_path, arguments):
    (tmp_path / "site_two.py").write_text("from mysite.settings import *\nACME_CA = 'of-site-two'\n")
    command = [argument.format(folder=tmp_path) for argument in arguments]
    if command[0].startswith("--"):
        command = [command[2], *command[:2], *command[3:]]
    ended = site.manage(*command, check=False)
    assert ended.returncode == 2
    assert "there is no CA called 'of-site-two'" in ended.stderr


def test_traceback_is_shown_to_who_asks(site):
    for arguments in (["issuecert", "a.example", "--ca=nope"], ["acme", "issue", "a.example", "--ca=nope"]):
        ended = site.manage(*arguments, "--traceback", check=False)
        assert (ended.returncode, "Traceback" in ended.stderr) == (2, True)


def test_flags_of_django_are_not_taken_for_abbreviations(site):
    ended = site.manage("issuecert", "a.example", "--no", check=False)
    assert (ended.returncode, "o such option" in ended.stderr) == (2, True)
    assert site.manage("acme", "status", "-v", "2", "--no-color", "--skip-checks").stdout


def test_the_environment_is_not_read(site):
    ended = site.manage("issuecert", "a.example", "--ca=nope", check=False, ACME_CA="from-environment", ACME_KEY_TYPE="wrong")
    assert "there is no CA called 'nope'" in ended.stderr
    assert "ACME_KEY_TYPE" not in ended.stderr


def test_a_flag_wins_over_the_file_and_the_file_over_the_settings(site, tmp_path):
    config = tmp_path / "acme.toml"
    config.write_text('ca = "of-the-file"\n')
    by_file = site.manage("issuecert", "a.example", "--config", config, check=False, MYSITE_ACME_CA="of-the-settings")
    assert "there is no CA called 'of-the-file'" in by_file.stderr
    by_flag = site.manage("issuecert", "a.example", "--config", config, "--ca=of-the-flag", check=False)
    assert "there is no CA called 'of-the-flag'" in by_flag.stderr


def test_system_checks_run_first(site):
    ended = site.manage("issuecert", "a.example", check=False, MYSITE_ACME_CA_BUNDLE="", MYSITE_ACME_STORE="nope:")
    assert "acme_middleware.E002" in ended.stderr
    assert ended.returncode == 1


def test_a_store_in_memory_is_refused(site):
    ended = site.manage("issuecert", "a.example", "--skip-checks", check=False, MYSITE_ACME_STORE="memory:")
    assert ended.returncode == 2
    assert "memory:" in ended.stderr


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        pytest.param(["issuecert", "a.example", "--ca", "nope"], {}, id="words"),
        pytest.param(["issuecert", "a.example"], {"ca": "nope"}, id="an option by name"),
        pytest.param(
            ["issuecert", ["a.example", "--ca=nope"]], {"dry_run": True, "force": False}, id="a list, and flags by name"
        ),
        pytest.param(["acme", "issue", "a.example", "--ca=nope"], {"verbosity": 0}, id="the group"),
    ],
)
def test_from_python_an_error_is_a_command_error_with_its_words_and_code(arguments, options):
    with pytest.raises(CommandError, match="there is no CA called 'nope'") as caught:
        call_command(*arguments, **options)
    assert caught.value.returncode == 2


def test_from_python_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="nope"):
        call_command("issuecert", "a.example", nope=True)


@pytest.mark.django_db(transaction=True)
def test_from_python_output_goes_where_it_is_asked_to_go(capfd):
    DjangoStore().put(key("renewal", "a.example"), renewal("a.example"))
    out = io.StringIO()
    call_command("acme", "status", "--json", stdout=out)
    assert [shown["name"] for shown in json.loads(out.getvalue())["certificates"]] == ["a.example"]
    assert capfd.readouterr() == ("", "")
