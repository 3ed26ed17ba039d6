"""The command ``haproxy`` of ``print-config``: an app behind HAProxy, over TLS, with certificates that follow their renewal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from acme_middleware.cli import flags, sites
from acme_middleware.cli.print_nginx import CIPHERS
from acme_middleware.cli.report import reported
from acme_middleware.cli.sites import Site
from acme_middleware.deploy.publish import directory_name
from acme_middleware.errors import ConfigurationError

FILE = Path("/etc/haproxy/haproxy.cfg")
CERTIFICATES = Path("/etc/haproxy/certs")
SOCKET = Path("/run/haproxy/admin.sock")

MOST_WORDS, MOST_CHARACTERS = 60, 2000
"""HAProxy takes 64 words and 2047 characters in a line."""


@click.command("haproxy", short_help="A whole configuration, for port 80 and 443.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"A certificate directory of HAProxy's, for names that come later, or many: {CERTIFICATES}.",
)
@click.option(
    "--socket",
    type=click.Path(path_type=Path, dir_okay=False),
    default=SOCKET,
    show_default=True,
    help="Where HAProxy shall take commands.",
)
@sites.of_sites
@reported
def haproxy(
    folder: Path | None, socket: Path, names: tuple[str, ...], app: str, config: Path | None, as_json: bool, **given: Any
) -> int:
    """
    Print what HAProxy needs to pass the CA's requests to your app, to send everything else to HTTPS, and to serve that.

    NAMES are certificates that are known here, or the names of one that is still to come. Without any it is for all of them.

    HAProxy reads the published files of each certificate; with --folder it reads all that is in that folder, and takes new
    names without a change of its configuration. The line DEPLOY in the first lines is for your own options: it lets HAProxy
    have each renewed certificate while it runs.
    """
    found = sites.find(flags.load(given, config), names)
    if folder is None and not _fits(_bind(found, None)):
        folder = CERTIFICATES
    text = configuration(found, app, folder=folder and folder.absolute(), socket=socket.absolute())
    before = []
    if folder is not None:
        filling = list(_first_files(found[:3], folder.absolute()))
        before.append(("HAProxy does not start with an empty folder, so put files there:", filling))
    then = f"run `haproxy -c -f {FILE}` and `systemctl reload haproxy`{sites.SET_DEPLOY}"
    sites.show(text, found, where=str(FILE), then=then, as_json=as_json, before=before)
    return 0


def configuration(found: Sequence[Site], app: str, *, folder: Path | None = None, socket: Path = SOCKET) -> str:
    """
    The text.

    Args:
        app: Where the app listens: ``127.0.0.1:8000``, ``unix:/run/app.sock``.
        folder: HAProxy's certificate directory; without one it reads the published files.
        socket: Where HAProxy takes commands.

    Raises:
        ConfigurationError: ``app`` is no such place, or HAProxy cannot be told of a path.
    """
    place = sites.upstream(app)
    server = f"unix@{place['path']}" if place["path"] else place[0]
    bind = _bind(found, folder)
    return "\n".join("\n".join(block) + "\n" for block in [_head(folder, socket), _frontends(bind), _backend(server)])


def _head(folder: Path | None, socket: Path) -> Iterator[str]:
    _word(socket)
    deployer = f"haproxy:{quote(str(folder)) if folder else ''}?socket={quote(str(socket))}"
    yield from [
        f"# {FILE}",
        *sites.other_half("haproxy", "HAProxy", deployer),
        "",
        "global",
        "    log /dev/log local0",
        "    user haproxy",
        "    group haproxy",
        "    # Who may write to it may change all that HAProxy does: nobody but root.",
        f"    stats socket {_word(socket)} mode 600 level admin expose-fd listeners",
        "    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
        f"    ssl-default-bind-ciphers {CIPHERS}",
        "",
        "defaults",
        "    mode http",
        "    log global",
        "    option httplog",
        "    option dontlognull",
        "    timeout connect 5s",
        "    timeout client 30s",
        "    timeout server 60s",
        "    timeout http-request 10s",
    ]


def _frontends(bind: str) -> Iterator[str]:
    yield from [
        "frontend http",
        "    bind :::80 v4v6",
        "    # The CA's requests go to the app, all others to HTTPS.",
        "    acl of_the_ca path_beg /.well-known/acme-challenge/",
        "    http-request redirect scheme https code 301 unless of_the_ca",
        "    http-request set-header X-Forwarded-Proto http",
        "    default_backend app",
        "",
        "frontend https",
        "    # Each file has the certificate, then its chain, then the key.",
        bind,
        "    http-request set-header X-Forwarded-Proto https",
        "    default_backend app",
    ]


def _backend(server: str) -> Iterator[str]:
    yield from [
        "backend app",
        "    option forwardfor",
        "    http-request set-header X-Real-IP %[src]",
        f"    server app {server}",
    ]


def _bind(found: Sequence[Site], folder: Path | None) -> str:
    # The first file is for clients that do not say where they want to go.
    files = [f"{_word(folder)}/"] if folder else [_word(site.directory / "bundle.pem") for site in found]
    return "    bind :::443 v4v6 ssl " + " ".join(f"crt {file}" for file in files) + " alpn h2,http/1.1"


def _fits(line: str) -> bool:
    return len(line) <= MOST_CHARACTERS and len(line.split()) <= MOST_WORDS


def _first_files(found: Sequence[Site], folder: Path) -> Iterator[str]:
    yield shlex.join(["install", "-d", "-m", "700", str(folder)])
    for site in found:
        target = folder / f"{directory_name(site.name)}.pem"
        yield shlex.join(["install", "-m", "600", str(site.directory / "bundle.pem"), str(target)])


def _word(path: Path) -> str:
    text = str(path)
    if not text.isprintable():
        raise ConfigurationError(
            f"HAProxy cannot be told of {text!r}",
            hint="choose a path without line breaks and other characters that cannot be seen",
            option="publish_dir",
        )
    # HAProxy's quotes are the shell's.
    return shlex.quote(text)
