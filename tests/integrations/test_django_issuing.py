"""``manage.py issuecert`` against a real CA, with the example site answering: settings, commands, signals and the admin."""

import json
import sys

import pytest
from background import Background, listens
from django_sites import Site
from pebble_server import Pebble

SERVERS = {
    "gunicorn": ["-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "2", "--no-control-socket", "mysite.wsgi"],
    "uvicorn": ["-m", "uvicorn", "--port", "{port}", "--workers", "2", "mysite.asgi:application"],
}


@pytest.fixture(scope="module")
def ca():
    with Pebble() as pebble:
        yield pebble


@pytest.fixture
def site(ca, tmp_path):
    """The example site, set up for the CA by the variables that its settings read."""
    made = Site(
        tmp_path,
        settings="mysite.settings",
        MYSITE_ACME_CA=ca.directory_url,
        MYSITE_ACME_CA_BUNDLE=str(ca.ca_bundle),
        MYSITE_ACME_AGREE_TOS="yes",
        MYSITE_ACME_EMAIL="ops@example.com",
        MYSITE_ACME_SELF_CHECK="require",
        MYSITE_ACME_SELF_CHECK_VIA=f"127.0.0.1:{ca.http_port}",
    )
    made.manage("migrate", "-v0")
    return made


@pytest.fixture(params=SERVERS)
def served(request, ca, site, tmp_path):
    command = [sys.executable, *(part.format(port=ca.http_port) for part in SERVERS[request.param])]
    with Background(command, log=tmp_path / "server.log", env=site.env, cwd=tmp_path) as server:
        server.wait_until(lambda: listens(ca.http_port))
        yield site


def test_a_site_gets_its_certificate_and_shows_it(served, tmp_path):
    first = served.manage("issuecert", "shop.example", "www.shop.example")
    assert "www.shop.example" in first.stdout
    assert first.stderr == ""
    current = tmp_path / "certificates" / "shop.example" / "current"
    assert (current / "fullchain.pem").read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert (current / "privkey.pem").stat().st_mode & 0o777 == 0o600

    again = served.manage("issuecert", "shop.example", "www.shop.example", "--json")
    assert json.loads(again.stdout)["action"] == "not due"

    (shown,) = json.loads(served.manage("acme", "status", "--json").stdout)["certificates"]
    assert (shown["name"], shown["names"], shown["state"]) == ("shop.example", ["shop.example", "www.shop.example"], "ok")

    served.in_python(
        "from django.contrib.auth.models import User; from django.test import Client; "
        "client = Client(SERVER_NAME='localhost'); client.force_login(User.objects.create_superuser('root')); "
        "page = client.get('/admin/acme_middleware/certificate/', secure=True).content.decode(); "
        "assert 'shop.example' in page and 'PRIVATE KEY' not in page, page"
    )


def test_no_token_is_left_behind(served):
    served.manage("issuecert", "tidy.example")
    # A fetch may still be about to be logged; it then finds its token gone.
    served.in_python(
        "import time; from django_acme_middleware.models import Fetch, Token\n"
        "assert not Token.objects.exists()\n"
        "end = time.monotonic() + 5\n"
        "while Fetch.objects.exists(): assert time.monotonic() < end; time.sleep(0.1)"
    )


def test_call_command_issues_and_tells_the_receivers(served, tmp_path):
    (tmp_path / "from_python.py").write_text(
        "import io, django; django.setup()\n"
        "from django.core.management import call_command\n"
        "from acme_middleware.events import Event, Issued\n"
        "from django_acme_middleware.signals import acme_event\n"
        "heard = []\n"
        "def listen(sender, event, **_): heard.append((sender, event))\n"
        "def broken(sender, event, **_): raise RuntimeError('a receiver of the site')\n"
        "acme_event.connect(broken); acme_event.connect(listen)\n"
        "out = io.StringIO()\n"
        "call_command('issuecert', 'called.example', stdout=out, json=True, name='by-name')\n"
        "issued = [event for sender, event in heard if sender is Issued]\n"
        "assert [(event.name, event.names) for event in issued] == [('by-name', ('called.example',))], heard\n"
        "assert all(isinstance(event, Event) and sender is type(event) for sender, event in heard)\n"
        'assert \'"action": "issued"\' in out.getvalue(), out.getvalue()\n'
    )
    served.in_python(f"exec(open({str(tmp_path / 'from_python.py')!r}).read(), {{'__name__': 'from_python'}})")


def test_when_the_site_does_not_answer_the_exit_code_says_that_it_failed(site):
    failed = site.manage("issuecert", "nobody.example", check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
    assert "Traceback" not in failed.stderr
