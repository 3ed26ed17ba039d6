"""
certbot and lego in their webroot mode: tokens that they drop into a folder are served by our middleware.

Over Pebble only: what is tried here is our middleware, between two programs of others. These clients at the local CA are in
tests/local_ca.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from background import Background, listens
from both_cas import CA
from cryptography import x509
from pebble_lab import LIMIT, Site, environment, fresh, names_of, verify

Client = Callable[[Path, Path, list[str], CA], tuple[Path, Path]]
"""Issues for some names into a folder of its own by way of a web root; returns the certificate and its chain."""

APP = """\
from acme_middleware.wsgi import AcmeMiddleware


def page(environ, start_response):
    start_response("302 Found", [("Location", "https://elsewhere.example/"), ("Content-Length", "0")])
    return [b""]


application = AcmeMiddleware(page, store="webroot:{root}")
"""


@contextmanager
def gunicorn(folder: Path, port: int) -> Iterator[Path]:
    """Serve a web root by our middleware, under two workers; yields the web root."""
    root = folder / "webroot"
    root.mkdir()
    (folder / "webapp.py").write_text(APP.format(root=root))
    command = [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "--no-control-socket", "webapp"]
    with Background(command, log=folder / "gunicorn.log", env=environment(), cwd=folder) as server:
        server.wait_until(lambda: listens(port))
        yield root


def run(command: list[str | Path], ca: CA) -> None:
    env = environment({"REQUESTS_CA_BUNDLE": str(ca.ca_bundle), "LEGO_CA_CERTIFICATES": str(ca.ca_bundle)})
    # These clients have a Python of their own.
    env.pop("PYTHONPATH")
    ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=LIMIT, env=env, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def holds(folder: Path, certificate: Path, chain: Path, names: set[str], ca: CA) -> None:
    assert names_of(x509.load_pem_x509_certificate(certificate.read_bytes())) == names
    current = folder / "current"
    current.mkdir()
    (current / "cert.pem").write_bytes(certificate.read_bytes())
    (current / "chain.pem").write_bytes(chain.read_bytes())
    assert verify(current, ca.roots()[0], tmp=folder).endswith(": OK")


def certbot(folder: Path, root: Path, names: list[str], ca: CA) -> tuple[Path, Path]:
    state = [word for part in ("config", "work", "logs") for word in (f"--{part}-dir", str(folder / part))]
    account = ["--non-interactive", "--agree-tos", "--email", "ops@example.com", "--server", ca.directory_url]
    domains = [word for name in names for word in ("-d", name)]
    run(["certbot", "certonly", "--webroot", "-w", root, *domains, *account, *state], ca)
    live = folder / "config/live" / names[0]
    return live / "cert.pem", live / "chain.pem"


def lego(folder: Path, root: Path, names: list[str], ca: CA) -> tuple[Path, Path]:
    domains = [word for name in names for word in ("--domains", name)]
    account = ["--accept-tos", "--email", "ops@example.com", "--server", ca.directory_url, "--path", str(folder / "lego")]
    run(["lego", *account, *domains, "--http", "--http.webroot", root, "run"], ca)
    made = folder / "lego/certificates"
    return made / f"{names[0]}.crt", made / f"{names[0]}.issuer.crt"


@pytest.mark.parametrize("client", [certbot, lego])
def test_client_issues_with_tokens_that_we_serve(client: Client, pebble: Callable[..., CA], tmp_path: Path) -> None:
    ca, names = pebble(), [fresh("first"), fresh("second")]
    with gunicorn(tmp_path, ca.http_port) as root:
        certificate, chain = client(tmp_path, root, names, ca)
    holds(tmp_path, certificate, chain, set(names), ca)
    # Their tokens were theirs to remove.
    folder = root / ".well-known/acme-challenge"
    assert not folder.exists() or list(folder.iterdir()) == []


def test_files_of_others_stay_when_we_issue_into_their_web_root(pebble: Callable[..., CA], tmp_path: Path) -> None:
    ca = pebble()
    with gunicorn(tmp_path, ca.http_port) as root:
        folder = root / ".well-known/acme-challenge"
        folder.mkdir(parents=True)
        (folder / "a-token-of-certbot").write_text("a-token-of-certbot.thumbprint")
        site = Site(ca, tmp_path, challenge_store=f"webroot:{root}")
        name = fresh()
        ended = site.run(name)
        assert ended.code == 0, ended.text
        assert [path.name for path in folder.iterdir()] == ["a-token-of-certbot"]
        assert names_of(site.leaf(name)) == {name}
