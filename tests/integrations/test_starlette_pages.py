"""The pages on Starlette and FastAPI, followed to the letter: a real server, a real CA."""

import json
import re
import subprocess

import pytest
from page_steps import Folder, blocks, commands, dialogues, steps
from pebble_server import Pebble
from serving import get

PREFIX = "/.well-known/acme-challenge/"
PAGES = ["docs/frameworks/starlette.md", "docs/frameworks/fastapi.md"]


@pytest.fixture(scope="module", params=PAGES)
def followed(request, tmp_path_factory):
    """The page's app served, in a folder, where a CA looks for it."""
    page, path = request.param, tmp_path_factory.mktemp("page")
    with Pebble() as ca, Folder(path) as folder:
        folder.port = ca.http_port
        # Only what this CA differs in from the public one: where it is, its root, where names lead to; and where state is.
        folder.env |= {
            "ACME_CA": ca.directory_url,
            "ACME_CA_BUNDLE": str(ca.ca_bundle),
            "ACME_STORE": f"file://{path}/state",
            "ACME_SELF_CHECK": "require",
            "ACME_SELF_CHECK_VIA": f"127.0.0.1:{ca.http_port}",
        }
        (path / "main.py").write_text(folder.here(blocks(page, "python")[0]))
        log = folder.start(commands(page)[1], folder.port)
        yield page, folder, log


@pytest.mark.parametrize("page", PAGES)
def test_it_has_five_steps_and_one_import_of_ours(page):
    assert steps(page) == [1, 2, 3, 4, 5]
    assert re.findall(r"^(?:from|import) (\w*acme\w*)", blocks(page, "python")[0], re.MULTILINE) == [
        "starlette_acme_middleware"
    ]
    assert commands(page)[0].startswith('pip install "acme-middleware[starlette]"')


def test_its_commands_print_what_it_says(followed):
    page, folder, _ = followed
    issue, *check = dialogues(page)[2:]
    assert "issued" in folder.run(issue[0])
    cert = folder.path / "state/live/example.com/current/cert.pem"
    names = subprocess.run(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", cert], capture_output=True, text=True, check=True
    )
    assert "DNS:example.com" in names.stdout
    assert any(command.startswith("curl ") and output for command, output in check)
    for command, output in check:
        assert folder.run(command).rstrip("\n") == output.rstrip("\n")


def test_its_app_redirects_and_refuses_all_else(followed):
    _, folder, _ = followed
    page = get(folder.port, "/")
    assert (page.status, page.header("Location")) == (307, "https://example.com/")
    assert get(folder.port, PREFIX + "by-hand").header("Location") == f"https://example.com{PREFIX}by-hand"  # it was removed
    https = {"X-Forwarded-Proto": "https"}
    assert get(folder.port, "/", host="other.example", headers=https).status == 400
    assert b"hello" in get(folder.port, "/", headers=https).body


def test_the_log_says_nothing_of_the_middleware(followed):
    log = followed[2].read_text()
    assert log.count("Application startup complete") == 2
    assert "AcmeMiddleware" not in log


def test_the_line_that_silences_the_warning_does(tmp_path):
    silence = blocks("docs/frameworks/starlette.md", "python")[1]
    for line, lines in (("", 1), (silence, 0)):
        script = (
            "import logging, json, anyio\n"
            "from starlette.applications import Starlette\n"
            "from starlette.middleware import Middleware\n"
            "from starlette.middleware.gzip import GZipMiddleware\n"
            "from starlette_acme_middleware import AcmeMiddleware\n"
            f"{line}\n"
            "app = Starlette(middleware=[Middleware(GZipMiddleware), Middleware(AcmeMiddleware, store='file:state')])\n"
            "async def receive(): return {'type': 'lifespan.startup'} if not sent else {'type': 'lifespan.shutdown'}\n"
            "async def send(message): sent.append(message['type'])\n"
            "sent = []\n"
            "anyio.run(app, {'type': 'lifespan'}, receive, send)\n"
            "print(json.dumps(sent))\n"
        )
        (tmp_path / "silent.py").write_text(script)
        with Folder(tmp_path) as folder:
            done = folder.run("python silent.py 2>log")
        assert json.loads(done) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert (tmp_path / "log").read_text().count("GZipMiddleware") == 2 * lines
