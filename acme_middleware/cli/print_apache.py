"""The command ``apache`` of ``print-config``: an app behind Apache's httpd, over TLS, for the names of its certificates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from acme_middleware.cli import flags, sites
from acme_middleware.cli.print_nginx import CIPHERS
from acme_middleware.cli.report import reported
from acme_middleware.cli.sites import Site
from acme_middleware.errors import ConfigurationError

FOLDER = Path("/etc/apache2/sites-available")
MODULES = "ssl proxy proxy_http rewrite headers"


@click.command("apache", short_help="Virtual hosts for port 80 and 443, by the names of the certificates.")
@sites.of_sites
@reported
def apache(names: tuple[str, ...], app: str, config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Print what Apache needs to pass the CA's requests to your app, to send everything else to HTTPS, and to serve that.

    NAMES are certificates that are known here, or the names of one that is still to come. Without any it is for all of them.
    """
    found = sites.find(flags.load(given, config), names)
    text = configuration(found, app)
    steps = f"run `a2enmod {MODULES}`, `a2ensite acme-middleware`, `apache2ctl configtest` and `systemctl reload apache2`"
    sites.show(text, found, where=str(FOLDER / sites.FILE), then=f"{steps}{sites.SET_DEPLOY}", as_json=as_json)
    return 0


def configuration(found: Sequence[Site], app: str) -> str:
    """
    The text.

    Args:
        app: Where the app listens: ``127.0.0.1:8000``, ``unix:/run/app.sock``.

    Raises:
        ConfigurationError: ``app`` is no such place, or the path of a certificate is none that Apache can be told.
    """
    names = list(dict.fromkeys(name for site in found for name in site.names))
    head = [
        f"# For Apache 2.4: {FOLDER / sites.FILE}. Modules: {MODULES}.",
        *sites.other_half("apache", "Apache", "systemd:apache2.service"),
    ]
    blocks = [head, _plain(names, app), *(_secure(site, app) for site in found)]
    return "\n".join("\n".join(block) + "\n" for block in blocks)


def _plain(names: Sequence[str], app: str) -> Iterator[str]:
    yield from [
        "<VirtualHost *:80>",
        *_names(names),
        "",
        "    # The CA's requests go to the app, all others to HTTPS.",
        "    ProxyPreserveHost On",
        f'    ProxyPass "/.well-known/acme-challenge/" "{_target(app, "/.well-known/acme-challenge/")}"',
        '    RequestHeader set X-Real-IP "expr=%{REMOTE_ADDR}"',
        "    RewriteEngine On",
        '    RewriteCond "%{REQUEST_URI}" "!^/\\.well-known/acme-challenge/"',
        '    RewriteRule "^" "https://%{SERVER_NAME}%{REQUEST_URI}" [R=301,L]',
        "</VirtualHost>",
    ]


def _secure(site: Site, app: str) -> Iterator[str]:
    yield from [
        "<VirtualHost *:443>",
        *_names(site.names),
        "",
        "    SSLEngine on",
        f"    SSLCertificateFile {_path(site.directory / 'fullchain.pem')}",
        f"    SSLCertificateKeyFile {_path(site.directory / 'privkey.pem')}",
        "    SSLProtocol -all +TLSv1.2 +TLSv1.3",
        f"    SSLCipherSuite {CIPHERS}",
        "    SSLHonorCipherOrder off",
        "    SSLSessionTickets off",
        "",
        "    ProxyPreserveHost On",
        f'    ProxyPass "/" "{_target(app, "/")}"',
        '    RequestHeader set X-Real-IP "expr=%{REMOTE_ADDR}"',
        '    RequestHeader set X-Forwarded-Proto "https"',
        "</VirtualHost>",
    ]


def _names(names: Sequence[str]) -> Iterator[str]:
    # The one that stands for all of them must be neither a pattern nor an IPv6 address. One that nobody asks for does no harm.
    first = next((name for name in names if not name.startswith("*.") and ":" not in name), "unnamed.invalid")
    yield f"    ServerName {sites.in_url(first)}"
    for name in names:
        if name != first:
            yield f"    ServerAlias {sites.in_url(name)}"


def _target(app: str, path: str) -> str:
    found = sites.upstream(app)
    return f"unix:{found['path']}|http://localhost{path}" if found["path"] else f"http://{app}{path}"


def _path(path: Path) -> str:
    text = str(path)
    # ${NAME} is a variable of the configuration, and has no escape.
    if "${" in text or not text.isprintable():
        raise ConfigurationError(
            f"Apache cannot be told of {text!r}", hint="publish to another path: --publish-dir", option="publish_dir"
        )
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
