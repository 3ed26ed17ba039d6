"""``flask acme issue`` against a real CA, with a walled Flask app under two gunicorn workers answering it."""

import json
import subprocess
import sys

import pytest
from background import Background, listens
from flask_sites import PATHS, Site
from pebble_server import Pebble
from serving import get

HTTPS = {"X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module")
def ca():
    with Pebble() as pebble:
        yield pebble


@pytest.fixture
def site(ca, tmp_path):
    return Site(
        tmp_path,
        "walled",
        ACME_CA=ca.directory_url,
        ACME_CA_BUNDLE=str(ca.ca_bundle),
        ACME_AGREE_TOS="true",
        ACME_EMAIL="ops@example.com",
        ACME_SELF_CHECK="require",
        ACME_SELF_CHECK_VIA=f"127.0.0.1:{ca.http_port}",
    )


@pytest.fixture
def served(ca, site, tmp_path):
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{ca.http_port}", "-w", "2", "--no-control-socket"]
    env = {**site.env, "PYTHONPATH": PATHS}
    with Background([*command, site.app], log=tmp_path / "server.log", env=env, cwd=tmp_path) as server:
        server.wait_until(lambda: listens(ca.http_port))
        yield site


def test_an_app_behind_its_walls_gets_its_certificate_and_shows_it(served, ca, tmp_path):
    first = served.acme("issue", "shop.example", "www.shop.example")
    assert (first.returncode, first.stderr) == (0, "")
    assert "www.shop.example" in first.stdout
    current = tmp_path / "acme" / "live" / "shop.example" / "current"
    assert (current / "privkey.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "root.pem").write_text(ca.root())
    verify = ["openssl", "verify", "-CAfile", tmp_path / "root.pem", "-untrusted", current / "chain.pem", current / "cert.pem"]
    assert subprocess.run(verify, capture_output=True, text=True, check=True).stdout.endswith(": OK\n")

    again = served.acme("issue", "shop.example", "www.shop.example", "--json")
    assert json.loads(again.stdout)["action"] == "not due"

    (shown,) = json.loads(served.acme("status", "--json").stdout)["certificates"]
    assert (shown["name"], shown["names"], shown["state"]) == ("shop.example", ["shop.example", "www.shop.example"], "ok")

    # None of the CA's fetches, and none of our own, got to the app; a person's does, and is sent to log in.
    assert [line for line in served.requests() if "acme-challenge" in line] == []
    assert get(ca.http_port, "/", headers=HTTPS).header("Location") == "/login"
    assert served.requests() == ["session opened", "before_request /"]


def test_no_token_is_left_behind(served, tmp_path):
    assert served.acme("issue", "tidy.example").returncode == 0
    assert list((tmp_path / "acme/challenges/.well-known/acme-challenge").iterdir()) == []


def test_it_issues_from_the_apps_own_test_runner(served, tmp_path):
    script = (
        "import flask_apps, json\n"
        "result = flask_apps.walled().test_cli_runner().invoke(args=['acme', 'issue', 'called.example', '--json'])\n"
        "assert json.loads(result.output)['action'] == 'issued', result.output\n"
    )
    env = {**served.env, "PYTHONPATH": PATHS, "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", script], env=env, cwd=tmp_path, check=True, timeout=120)


def test_when_the_app_does_not_answer_the_exit_code_says_that_it_failed(site):
    failed = site.acme("issue", "nobody.example")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
    assert "Traceback" not in failed.stderr
