"""``check`` inside of Django and Flask: it knows the app, and says where the middleware stands."""

from __future__ import annotations

import json

import django_sites
import flask_sites
import pytest

NO_CA = ("--ca", "https://127.0.0.1:1/directory")


def found(ended):
    document = json.loads(ended.stdout)
    assert ended.returncode == document["exit_code"], ended.stderr
    return {one["what"]: one for one in document["findings"]}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = django_sites.Site(tmp_path_factory.mktemp("site"), settings="mysite.settings")
    made.manage("migrate", "-v0")
    return made


class TestDjango:
    def test_a_site_that_is_well(self, site):
        ended = site.manage("acme", "check", "--json", *NO_CA, check=False)
        levels = {what: one["level"] for what, one in found(ended).items() if not what.startswith("CA ")}
        assert ended.returncode == 75  # the CA, and nothing else
        encryption = levels.pop("encryption")
        assert set(levels.values()) == {"ok"}
        assert encryption == "warning"
        assert {"middleware", "store", "challenge store", "leases", "files"} <= set(levels)

    def test_a_site_whose_tables_nobody_made_is_told_to_migrate(self, tmp_path):
        bare = django_sites.Site(tmp_path, settings="mysite.settings")
        for role in ("serving", "issuing"):
            one = found(bare.manage("acme", "check", "--json", "--role", role, *NO_CA, check=False))["challenge store"]
            assert one["level"] == "wrong"
            assert "manage.py migrate" in one["hint"]

    def test_serving_looks_at_tokens_alone(self, site):
        shown = found(site.manage("acme", "check", "--json", "--role", "serving"))
        assert {what: one["level"] for what, one in shown.items()} == {
            "options": "ok",
            "middleware": "ok",
            "challenge store": "ok",
            "log of fetches": "ok",
        }

    def test_middleware_that_is_not_first_is_a_warning(self, site, tmp_path):
        (tmp_path / "behind.py").write_text(
            "from mysite.settings import *\nMIDDLEWARE = [MIDDLEWARE[1], MIDDLEWARE[0], *MIDDLEWARE[2:]]\n"
        )
        paths = f"{site.env['PYTHONPATH']}:{tmp_path}"
        ended = site.manage("acme", "check", "--json", "--role", "serving", DJANGO_SETTINGS_MODULE="behind", PYTHONPATH=paths)
        one = found(ended)["middleware"]
        assert (ended.returncode, one["level"]) == (0, "warning")
        assert "to line 1" in one["hint"]


class TestFlask:
    @pytest.mark.parametrize(
        ("app", "level", "said"),
        [
            pytest.param("open_to_all", "ok", "outermost", id="nothing around it"),
            pytest.param("proxied_outside", "ok", "outermost", id="ProxyFix outside, which answers nothing"),
            pytest.param("proxied_inside", "ok", "outermost", id="ProxyFix inside"),
            pytest.param("password_inside", "ok", "outermost", id="a password inside"),
            pytest.param("password_outside", "warning", "password", id="a password outside"),
        ],
    )
    def test_what_stands_outside_of_the_middleware(self, tmp_path, app, level, said):
        site = flask_sites.Site(tmp_path, app)
        one = found(site.acme("check", "--json", "--role", "serving"))["middleware"]
        assert (one["level"], said in one["said"]) == (level, True)
        assert level == "ok" or "init_app" in one["hint"]

    def test_an_app_that_is_well(self, tmp_path):
        site = flask_sites.Site(tmp_path)
        ended = site.acme("check", "--json", *NO_CA)
        levels = {one["level"] for what, one in found(ended).items() if not what.startswith("CA ")}
        assert (ended.returncode, levels) == (75, {"ok"})
