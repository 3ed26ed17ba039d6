"""
The set-up of 2015 that this project answers: a Tornado app without a document root, and a client that writes tokens below
the app's own folder. The router serves them from there, and whichever client it is gets its certificate.
"""

import os
import shutil

import pytest
from pebble_server import Pebble
from serving import PROJECT, get
from tornado_pages import Reader, names_of

NAMES = ["example.com", "www.example.com", "api.example.com", "unknown-to-the-app.example"]
DOMAINS = " ".join(f"-d {name}" for name in NAMES)

CLIENTS = {
    "certbot": (
        f"certbot certonly --webroot -w server {DOMAINS} --non-interactive --agree-tos --email ops@example.com "
        "--server $CA --config-dir config --work-dir work --logs-dir logs",
        "config/live/example.com/fullchain.pem",
    ),
    "lego": (
        f"lego --accept-tos --email ops@example.com --server $CA --path lego {DOMAINS} --http --http.webroot server run",
        "lego/certificates/example.com.crt",
    ),
    "our own command": (
        f"acme-middleware issue {' '.join(NAMES)} --store file:state --challenge-store webroot:server --agree-tos "
        "--ca $CA --ca-bundle $CA_BUNDLE --self-check-via $SITE --self-check require",
        "state/live/example.com/current/fullchain.pem",
    ),
}


@pytest.fixture
def reader(tmp_path):
    """Pebble, and the example's app in two processes where Pebble looks for every name; its folder is ``server``."""
    server = tmp_path / "server"
    shutil.copytree(PROJECT / "example_projects" / "tornado_app", server, ignore=shutil.ignore_patterns("state"))
    with Pebble() as ca:
        trust = {"REQUESTS_CA_BUNDLE": str(ca.ca_bundle), "LEGO_CA_CERTIFICATES": str(ca.ca_bundle)}
        site = {"CA": ca.directory_url, "CA_BUNDLE": str(ca.ca_bundle), "SITE": f"127.0.0.1:{ca.http_port}"}
        with Reader(tmp_path, {}, **trust, **site) as reader:
            app = f"python server/app.py --port={ca.http_port} --processes=2 --store=webroot://{server}"
            reader.log = reader.start(app, ca.http_port)
            reader.port = ca.http_port
            yield reader


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_writes_below_the_apps_folder_gets_its_certificate(client, reader):
    command, certificate = CLIENTS[client]
    if client != "our own command":
        reader.env.pop("PYTHONPATH")  # these clients have a Python of their own
    reader.run(command)
    assert names_of(reader.folder / certificate) == set(NAMES)
    log = reader.log.read_text()
    assert log.count("answered challenge") >= len(NAMES)
    assert "Traceback" not in log
    tokens = reader.folder / "server" / ".well-known" / "acme-challenge"
    assert not tokens.exists() or os.listdir(tokens) == []  # theirs to remove, and removed
    assert get(reader.port, "/.well-known/acme-challenge/unknown", host="www.example.com").status == 301


def test_nothing_else_of_the_apps_folder_is_given_out(reader):
    for target in ("app.py", "../../app.py", "..%2f..%2fapp.py", "%2e%2e/%2e%2e/app.py"):
        reply = get(reader.port, f"/.well-known/acme-challenge/{target}", host="www.example.com")
        assert (reply.status, reply.body) == (301, b"")
