"""
kill -9 of ``manage.py issuecert``: state and tokens are in the site's database, which its workers answer from.

Over Pebble only, as test_kill.py.
"""

import os
import random
import subprocess
import sys

import pytest
from django_sites import SITE, Site
from killing import Victim, kill_again_and_again
from pebble_lab import FULL

KILLS = 200 if FULL else 40


@pytest.fixture
def site(pebble, tmp_path):
    """The example site, its database made, and a server with two workers that the CA reaches."""
    ca = pebble()
    made = Site(
        tmp_path,
        settings="mysite.settings",
        MYSITE_ACME_CA=ca.directory_url,
        MYSITE_ACME_CA_BUNDLE=str(ca.ca_bundle),
        MYSITE_ACME_AGREE_TOS="yes",
        MYSITE_ACME_SELF_CHECK_VIA=f"127.0.0.1:{ca.http_port}",
    )
    made.ca = ca
    made.manage("migrate", "-v0")
    return made


@pytest.fixture
def store(site, django_db_blocker):
    """The site's database, as this process reaches it."""
    from django.db import connections
    from django_acme_middleware.stores import DjangoStore

    settings = {**connections["default"].settings_dict, "NAME": str(site.database)}
    connections.databases["killed"] = settings
    with django_db_blocker.unblock():
        yield DjangoStore("killed")
        connections["killed"].close()
    del connections.databases["killed"]


def test_killed_at_any_moment_the_site_is_made_good_by_the_next_command(site, store, tmp_path, capsys):
    from background import Background, listens
    from django_acme_middleware.models import Token

    def start(name):
        return subprocess.Popen(
            [sys.executable, SITE / "manage.py", "issuecert", name, "--profile", "default"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **site.env},
        )

    def tokens():
        return list(Token.objects.using("killed").values_list("token", flat=True))

    server = ["-m", "gunicorn", "--no-control-socket", "--threads", "8", "--workers", "2", "--bind"]
    command = [sys.executable, *server, f"127.0.0.1:{site.ca.http_port}", "django_distant:application"]
    victim = Victim(ca=site.ca, start=start, store=store, tokens=tokens, live=tmp_path / "certificates")
    with Background(command, log=tmp_path / "server.log", env=site.env, cwd=tmp_path) as running:
        running.wait_until(lambda: listens(site.ca.http_port))
        report = kill_again_and_again(victim, kills=KILLS, seed=int(os.environ.get("SEED") or random.randrange(10**6)))
    with capsys.disabled():
        print(f"\nmanage.py issuecert: {report}")
    assert report.ordering >= KILLS / 2
