"""``flask acme``: the same commands, words and exit codes as ``acme-middleware``, with the options of an app's config."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask, current_app
from flask_acme_middleware import Acme
from flask_sites import Site

import acme_middleware
from acme_middleware.cli import acme
from acme_middleware.stores import open_store


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def by_itself(*arguments):
    """What ``acme-middleware`` would print if it were called ``flask acme``."""
    return CliRunner().invoke(acme, arguments, prog_name="flask acme", terminal_width=78).output


def test_the_verbs_are_the_very_commands(tmp_path):
    app = Flask("a_site", instance_path=str(tmp_path))
    Acme(app)
    group = app.cli.commands["acme"]
    assert group.list_commands(None) == acme.list_commands(None)
    assert all(group.get_command(None, verb) is acme.commands[verb] for verb in acme.commands)


def test_flask_itself_lists_it(site):
    listed = site.flask("--help")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert re.search(r"^  acme +TLS certificates for this app\.$", listed.stdout, re.MULTILINE)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_its_help_lists_every_verb(site, flag):
    helped = site.acme(flag, COLUMNS="80")
    assert helped.returncode == 0
    assert helped.stdout.startswith("Usage: flask acme [OPTIONS] COMMAND [ARGS]...\n")
    assert helped.stdout.partition("Commands:")[2] == by_itself("--help").partition("Commands:")[2] != ""


@pytest.mark.parametrize(
    ("verb", "flag"), [pytest.param("issue", "--help"), pytest.param("status", "-h"), pytest.param("ca", "-h")]
)
def test_the_help_of_a_verb_is_its_own(site, verb, flag):
    helped = site.acme(verb, flag, COLUMNS="80")
    assert (helped.returncode, helped.stdout) == (0, by_itself(verb, flag))
    assert helped.stdout.startswith(f"Usage: flask acme {verb} [OPTIONS]")


def test_the_version_is_ours(site):
    assert site.acme("--version").stdout == f"acme-middleware {acme_middleware.__version__}\n"


def test_a_verb_that_does_not_exist_is_a_usage_error_that_names_the_nearest(site):
    refused = site.acme("isue")
    assert refused.returncode == 2
    assert "No such command 'isue'" in refused.stderr


def test_status_says_what_to_do_where_there_is_nothing_yet(site):
    open_store(site.folder / "acme").put("renewal/x", b"")
    open_store(site.folder / "acme").delete("renewal/x")
    shown = site.acme("status")
    assert (shown.returncode, shown.stdout) == (0, "  no certificate yet: `flask acme issue example.com` gets one\n")
    assert json.loads(site.acme("status", "--json").stdout) == {"certificates": [], "sweeps": [], "warnings": []}


def test_it_works_by_the_apps_test_runner_inside_the_apps_context(tmp_path):
    seen = []

    class Store:
        def check(self, *, writable):
            seen.append(current_app.name)

        def scan(self, prefix):
            return iter(())

        get = put = delete = None

    app = Flask("a_site", instance_path=str(tmp_path))
    app.config.update(ACME_STORE=Store(), ACME_CHALLENGE_STORE=tmp_path)
    Acme(app)
    result = app.test_cli_runner().invoke(args=["acme", "status", "--json"])
    assert (result.exit_code, json.loads(result.output)["certificates"]) == (0, [])
    with Flask("another").app_context():
        app.test_cli_runner().invoke(args=["acme", "status"])
    assert seen == ["a_site", "a_site"]
    assert not current_app


def refusals(site, *arguments, **more):
    """The same refusal for people and for programs."""
    plain = site.acme(*arguments, **more)
    told = site.acme(*arguments, "--json", **more)
    document = json.loads(told.stdout)["error"]
    assert plain.returncode == told.returncode == document["exit_code"]
    assert plain.stderr.startswith(f"error: {document['message']}\n")
    assert "Traceback" not in plain.stderr + told.stderr
    return document


def test_a_wrong_option_in_a_file_is_2(site):
    file = site.folder / "config.toml"
    file.write_text('ca = "nowhere"\n')
    document = refusals(site, "issue", "example.com", "--config", file)
    assert (document["exit_code"], document["option"]) == (2, "ca")
    assert "there is no CA called 'nowhere'" in document["message"]


def test_a_ca_that_cannot_be_reached_is_75(site):
    told = site.acme("issue", "example.com", "--ca", "https://127.0.0.1:9/directory", "--agree-tos", "--json")
    assert (told.returncode, json.loads(told.stdout)["error"]["type"]) == (75, "CAUnreachable")


def test_a_wildcard_is_2_with_the_reason(site):
    assert refusals(site, "issue", "*.example.com", "--agree-tos")["exit_code"] == 2


def test_a_store_in_memory_is_refused_since_no_worker_could_answer_from_it(tmp_path):
    document = refusals(Site(tmp_path, ACME_STORE="memory:"), "issue", "example.com", "--agree-tos")
    assert document["exit_code"] == 2
    assert "only this process could read" in document["message"]


@pytest.mark.parametrize(
    ("config", "arguments", "first", "then"),
    [
        pytest.param(
            {"ACME_STROE": "file:x"},
            ["acme", "status"],
            "error: there is no option ACME_STROE; did you mean ACME_STORE?",
            "the options are: store, ",
            id="a misspelt key",
        ),
        pytest.param(
            {"ACME_KEY_TYPE": "rsa"},
            ["acme", "issue", "example.com"],
            "error: ACME_KEY_TYPE is 'rsa' but takes one of ec256",
            "The kind of key",
            id="a value",
        ),
        pytest.param(
            {"ACME_STORE": "pg:x"},
            ["routes"],
            "error: ACME_STORE: there is no store for pg:",
            "the known schemes are ",
            id="a store, in a command of Flask's own",
        ),
    ],
)
def test_a_wrong_option_of_the_config_is_2_without_a_traceback(tmp_path, config, arguments, first, then):
    refused = Site(tmp_path, **config).flask(*arguments)
    lines = refused.stderr.splitlines()
    assert (refused.returncode, len(lines)) == (2, 2)
    assert lines[0].startswith(first)
    assert lines[1].strip().startswith(then)


def test_flags_beat_a_file_and_a_file_beats_the_config(tmp_path):
    for name in ("of-the-flag", "of-the-file", "of-the-config"):
        open_store(tmp_path / name).put("lock/x", name.encode())
    site = Site(tmp_path, ACME_STORE=f"file:{tmp_path}/of-the-config")
    file = tmp_path / "config.toml"
    file.write_text(f'store = "file:{tmp_path}/nowhere-of-the-file"\n')
    assert site.acme("status").returncode == 0
    assert "nowhere-of-the-file" in site.acme("status", "--config", file).stderr
    assert site.acme("status", "--config", file, "--store", f"file:{tmp_path}/of-the-flag").returncode == 0


def test_the_environment_is_not_read(site):
    refused = site.acme("status", ACME_STORE="nonsense:", ACME_CONFIG="/nowhere.toml")
    assert refused.stderr.startswith(f"error: there is no directory {site.folder}/acme\n")


def test_a_secret_in_a_file_is_read_by_the_command_only(tmp_path):
    site = Site(tmp_path, ACME_EAB_KID="kid", ACME_EAB_HMAC_KEY_FILE=str(tmp_path / "missing"))
    assert site.flask("routes").returncode == 0
    refused = site.acme("issue", "example.com", "--agree-tos")
    assert refused.returncode == 2
    assert "cannot read the file that ACME_EAB_HMAC_KEY_FILE names" in refused.stderr


def test_a_key_that_was_set_too_late_for_the_workers_is_refused(tmp_path):
    app = Flask("a_site", instance_path=str(tmp_path))
    Acme(app)
    app.config["ACME_STORE"] = f"file:{tmp_path}/elsewhere"
    result = app.test_cli_runner().invoke(args=["acme", "issue", "example.com", "--json"])
    error = json.loads(result.output)["error"]
    assert (result.exit_code, error["option"]) == (2, "store")
    assert error["message"] == "ACME_STORE was set or changed after the app's Acme had read the config"
    assert "before init_app" in error["hint"]
    del app.config["ACME_STORE"]
    app.config["UNRELATED"] = 1
    assert "was set or changed" not in app.test_cli_runner().invoke(args=["acme", "status"]).output


def test_two_apps_of_one_acme_have_commands_of_their_own(tmp_path):
    shared = Acme()
    for name in ("one", "two"):
        app = Flask(name, instance_path=str(tmp_path / name))
        shared.init_app(app)
        assert f"no directory {tmp_path}/{name}/acme" in app.test_cli_runner().invoke(args=["acme", "status"]).output


def test_the_ca_for_development_names_the_commands_as_they_are_called_here(site):
    busy = site.acme("ca", "--port", "70000")
    assert busy.returncode == 2
    assert "Usage: flask acme ca" in busy.stderr


def test_a_command_loads_the_commands_only_when_it_is_asked_for_one(tmp_path):
    script = (
        "import sys; from flask import Flask; from flask_acme_middleware import Acme\n"
        f"app = Flask('x', instance_path={str(tmp_path)!r}); Acme(app)\n"
        "result = app.test_cli_runner().invoke(args=['routes'])\n"
        "assert 'acme_middleware.cli' not in sys.modules\n"
        "assert app.test_cli_runner().invoke(args=['acme', '--help']).exit_code == 0\n"
        "assert 'acme_middleware.cli' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=Path(tmp_path))
