"""``manage.py acme renew`` and ``flask acme renew``: declared in settings, several names at a time, over the site's store."""

import json
import sys
from collections import Counter

import flask_sites
import pytest
from background import Background, listens
from django_sites import Site
from pebble_server import Pebble

NAMES = [f"name-{number}.example" for number in range(6)]
DECLARED = {"shop": {"names": ["shop.example", "www.shop.example"], "key_type": "ec384"}, **{name: {} for name in NAMES}}
SERVER = [sys.executable, "-m", "gunicorn", "--workers", "2", "--no-control-socket", "--bind"]


@pytest.fixture(scope="module")
def ca():
    with Pebble() as pebble:
        yield pebble


def renewed(run, *words):
    """The actions of ``renew``, and its summary."""
    ended = run("renew", "--json", *words)
    assert ended.stderr == ""
    *lines, last = map(json.loads, ended.stdout.splitlines())
    assert ended.returncode == last["summary"]["exit_code"]
    return {line["name"]: line["action"] for line in lines}, last["summary"]


def told(run):
    ended = run("status", "--json")
    return ended.returncode, json.loads(ended.stdout)


def test_django_renews_what_its_settings_declare(ca, tmp_path):
    (tmp_path / "site_of_many.py").write_text(f"from mysite.settings import *\nACME_CERTIFICATES = {DECLARED!r}\n")
    site = Site(
        tmp_path,
        settings="site_of_many",
        MYSITE_ACME_CA=ca.directory_url,
        MYSITE_ACME_CA_BUNDLE=str(ca.ca_bundle),
        MYSITE_ACME_AGREE_TOS="yes",
        MYSITE_ACME_SELF_CHECK="require",
        MYSITE_ACME_SELF_CHECK_VIA=f"127.0.0.1:{ca.http_port}",
    )
    site.env["PYTHONPATH"] += f":{tmp_path}"
    site.manage("migrate", "-v0")

    def run(*words):
        return site.manage("acme", *words, check=False)

    with Background(
        [*SERVER, f"127.0.0.1:{ca.http_port}", "mysite.wsgi"], log=tmp_path / "server.log", env=site.env, cwd=tmp_path
    ) as server:
        server.wait_until(lambda: listens(ca.http_port))
        check_renewals(run, tmp_path / "certificates")


def test_flask_renews_what_its_configuration_declares(ca, tmp_path):
    site = flask_sites.Site(
        tmp_path,
        "walled",
        ACME_CA=ca.directory_url,
        ACME_CA_BUNDLE=str(ca.ca_bundle),
        ACME_AGREE_TOS="true",
        ACME_SELF_CHECK="require",
        ACME_SELF_CHECK_VIA=f"127.0.0.1:{ca.http_port}",
        ACME_CERTIFICATES=json.dumps(DECLARED),
    )
    env = {**site.env, "PYTHONPATH": flask_sites.PATHS}
    with Background(
        [*SERVER, f"127.0.0.1:{ca.http_port}", site.app], log=tmp_path / "server.log", env=env, cwd=tmp_path
    ) as server:
        server.wait_until(lambda: listens(ca.http_port))
        check_renewals(site.acme, tmp_path / "acme/live")


def check_renewals(run, published):
    actions, summary = renewed(run)
    assert actions == dict.fromkeys(["shop", *NAMES], "issued"), summary
    assert all((published / name / "current/privkey.pem").exists() for name in actions)
    actions, _ = renewed(run)
    assert set(actions.values()) == {"not due"}
    actions, _ = renewed(run, "shop", NAMES[0], "--force")
    assert Counter(actions.values()) == {"renewed": 2}
    code, document = told(run)
    assert code == 0
    shown = {one["name"]: one for one in document["certificates"]}
    assert shown["shop"]["names"] == ["shop.example", "www.shop.example"]
    assert {one["state"] for one in shown.values()} == {"ok"}
    assert all(one["declared"] for one in shown.values())
    assert [swept["counts"] for swept in document["sweeps"]] == [{"not due": 7}]
    lines = run("renew").stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("  7 certificates: 7 not due; the next is due about ")
