"""The command ``nginx`` of ``print-config``: an app behind nginx, over TLS, for the names of its certificates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from acme_middleware.cli import flags, sites
from acme_middleware.cli.report import reported
from acme_middleware.cli.sites import Site
from acme_middleware.errors import ConfigurationError

FOLDER = Path("/etc/nginx/conf.d")
MANY = 100
"""Certificates from which on it is worth a thought whether nginx shall read them all at each reload."""

FEW = 50
"""Names up to which nginx finds a place for each without being told how."""

CIPHERS = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
"""All that TLS 1.2 has with forward secrecy and authenticated encryption; those of TLS 1.3 are all like that."""

PLAIN = re.compile(r"[A-Za-z0-9/._:%@*+\[\]-]+")


@click.command("nginx", short_help="Servers for port 80 and 443, by the names of the certificates.")
@click.option("--map", "mapped", is_flag=True, help="One server for all, which looks the certificate up by the client's name.")
@sites.of_sites
@reported
def nginx(mapped: bool, names: tuple[str, ...], app: str, config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Print what nginx needs to pass the CA's requests to your app, to send everything else to HTTPS, and to serve that.

    NAMES are certificates that are known here, or the names of one that is still to come. Without any it is for all of them.

    With --map nginx reads a certificate when a client comes, not when it starts: for thousands of them. Its workers must be
    allowed to read the keys then: --group www-data publishes them so.
    """
    found = sites.find(flags.load(given, config), names)
    text = configuration(found, app, mapped=mapped)
    then = f"run `nginx -t` and `nginx -s reload`{'' if mapped else sites.SET_DEPLOY}"
    sites.show(text, found, where=str(FOLDER / sites.FILE), then=then, as_json=as_json)
    if not mapped and len(found) > MANY:
        click.echo(f"{len(found)} certificates: see --map, by which nginx reads one only when a client asks for it", err=True)
    return 0


def configuration(found: Sequence[Site], app: str, *, mapped: bool = False) -> str:
    """
    The text.

    Args:
        app: Where the app listens: ``127.0.0.1:8000``, ``unix:/run/app.sock``.
        mapped: Whether one server is for all certificates.

    Raises:
        ConfigurationError: ``app`` is no such place, or the path of a certificate is none that nginx can be told.
    """
    names = list(dict.fromkeys(name for site in found for name in site.names))
    to_app = f"proxy_pass http://{sites.upstream(app)[0]};"
    blocks = [_head(names, mapped=mapped), _plain(names, to_app)]
    if mapped:
        blocks += [_map(found), _secure(names, found[0].directory.parent.parent / "$acme_certificate" / "current", to_app)]
    else:
        blocks += [_secure(site.names, site.directory, to_app) for site in found]
    return "\n".join("\n".join(block) + "\n" for block in blocks)


def _head(names: Sequence[str], *, mapped: bool) -> list[str]:
    by_itself = ["# Made by `print-config nginx`. It reads each renewed certificate by itself, and needs no deployer."]
    lines = [
        f"# For the http block of nginx: {FOLDER / sites.FILE}",
        *(by_itself if mapped else sites.other_half("nginx", "nginx", "nginx:")),
    ]
    longest = max(len(sites.in_url(name)) for name in names)
    # A bucket holds a pointer, and at least one name with its length and a pointer; by itself nginx takes 64 bytes. Of many
    # names, some fall into the same.
    bucket = next(size for size in (64, 128, 256, 512) if longest + 2 + 8 + 16 <= size)
    wanted = []
    for hash_of, most in [("server_names", 512), *([("map", 2048)] if mapped else [])]:
        if bucket > 64 or len(names) > FEW:
            wanted.append(f"{hash_of}_hash_bucket_size {512 if len(names) > FEW else bucket};")
        if len(names) > most:
            wanted.append(f"{hash_of}_hash_max_size {1 << len(names).bit_length()};")
    if wanted:
        lines += ["", "# Long or many names need it; if nginx.conf says it already, leave the larger of the two.", *wanted]
    return lines


def _plain(names: Sequence[str], to_app: str) -> Iterator[str]:
    yield from [
        "server {",
        "    listen 80;",
        "    listen [::]:80;",
        *_names("    server_name", names),
        "",
        "    # ^~ keeps it from the regular expressions of other locations, such as those that refuse all names with a dot.",
        "    location ^~ /.well-known/acme-challenge/ {",
        f"        {to_app}",
        "        proxy_set_header Host $host;",
        "        proxy_set_header X-Real-IP $remote_addr;",
        "    }",
        "",
        "    # Here, not above: a redirect of the whole server would take the CA's requests along.",
        "    location / {",
        "        return 301 https://$host$request_uri;",
        "    }",
        "}",
    ]


def _secure(names: Sequence[str], directory: Path, to_app: str) -> Iterator[str]:
    yield from [
        "server {",
        "    # HTTP/2: `http2 on;` from nginx 1.25.1 on, `listen 443 ssl http2;` before.",
        "    listen 443 ssl;",
        "    listen [::]:443 ssl;",
        *_names("    server_name", names),
        "",
        f"    ssl_certificate {_path(directory / 'fullchain.pem')};",
        f"    ssl_certificate_key {_path(directory / 'privkey.pem')};",
        "    ssl_protocols TLSv1.2 TLSv1.3;",
        f"    ssl_ciphers {CIPHERS};",
        "    ssl_session_cache shared:acme_middleware:10m;",
        "    ssl_session_timeout 1d;",
        "    ssl_session_tickets off;",
        "",
        "    location / {",
        f"        {to_app}",
        "        proxy_set_header Host $host;",
        "        proxy_set_header X-Real-IP $remote_addr;",
        "        proxy_set_header X-Forwarded-Proto https;",
        "    }",
        "}",
    ]


def _map(found: Sequence[Site]) -> Iterator[str]:
    """The allow-list: what a client asks for is looked up, and never becomes a part of a path itself."""
    yield "# Only what stands here is ever a part of a path. Workers read these files: they must be allowed to read the keys."
    yield "map $ssl_server_name $acme_certificate {"
    yield "    hostnames;"
    yield f"    default {_quoted(found[0].directory.parent.name)};"
    for site in found:
        # A client that came by an address sends no name, and gets the default.
        for name in site.names:
            if not sites.is_address(name):
                yield f"    {name} {_quoted(site.directory.parent.name)};"
    yield "}"


def _names(directive: str, names: Sequence[str], width: int = 110) -> Iterator[str]:
    """A directive that takes many words, over as many lines as they need."""
    line = directive
    for name in map(sites.in_url, names):
        if len(line) + 1 + len(name) > width:
            yield line
            line = " " * len(directive)
        line += f" {name}"
    yield line + ";"


def _path(path: Path) -> str:
    text = str(path)
    # nginx has no escape for it; the only one that may be there is our own variable.
    if "$" in text.replace("/$acme_certificate/", "/", 1) or not text.isprintable():
        raise ConfigurationError(
            f"nginx cannot be told of {text!r}",
            hint="publish to a path without dollar signs: --publish-dir",
            option="publish_dir",
        )
    return _quoted(text)


def _quoted(text: str) -> str:
    if PLAIN.fullmatch(text.replace("$acme_certificate", "")):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
