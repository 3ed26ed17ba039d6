"""The sites that `print-config` writes a server's configuration for: the names of each certificate, and where its files are."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeVar

import click

from acme_middleware.cli import flags
from acme_middleware.cli.lines import indented
from acme_middleware.cli.report import print_json
from acme_middleware.deploy.publish import directory_name
from acme_middleware.errors import ConfigurationError
from acme_middleware.issuance import lineages, plan
from acme_middleware.issuance.names import identifiers, lineage
from acme_middleware.issuance.published import publish_dir
from acme_middleware.options import Options

Command = TypeVar("Command", bound=Callable[..., Any])

APP = "127.0.0.1:8000"
OF_A_SERVER = {"store", "publish_dir"}
FILE = "acme-middleware.conf"
SET_DEPLOY = ", and set DEPLOY as its first lines say"

UPSTREAM = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})|unix:(?P<path>/[A-Za-z0-9/._-]+)")
NAME = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Site:
    """
    One certificate, and what it is for.

    Attributes:
        name: What the certificate is known by.
        names: The names in it.
        directory: The absolute directory of its newest files, by the link ``current``.
    """

    name: str
    names: tuple[str, ...]
    directory: Path

    @property
    def by_address(self) -> bool:
        """Whether clients come by an IP address; they do not say by which (RFC 6066 section 3)."""
        return any(map(is_address, self.names))


def of_sites(command: Command) -> Command:
    """Add what the commands for servers have in common: names, ``--app``, and where certificates are."""
    command = flags.of_table(only=OF_A_SERVER)(command)
    command = click.option(
        "--app", default=APP, show_default=True, metavar="HOST:PORT", help="Where your app listens; or unix:/run/app.sock."
    )(command)
    return click.argument("names", nargs=-1)(command)


def find(options: Options, names: Sequence[str]) -> list[Site]:
    """
    The sites to write a configuration for.

    Args:
        names: Certificates that are known here, or else the names of one that is still to come; without any, all that are
            known: those in the store, and those that CERTIFICATES declares.

    Raises:
        ConfigurationError: nothing is known, or files are published nowhere.
        NameRefused: a name that cannot be in a certificate.
    """
    store = lineages.open_state(options, writable=None)
    root = publish_dir(options, store)
    if root is None:
        raise ConfigurationError(
            "certificates are published nowhere, and a server reads them from files",
            hint="set PUBLISH_DIR, or pass --publish-dir",
            option="publish_dir",
        )
    known = {item.name: item for item in plan.items(options, store)}
    if names and not all(name in known for name in names):
        wanted = identifiers(names)
        return [_site(root, lineage(None, wanted), [entry.value for entry in wanted])]
    found = []
    for item in plan.chosen(list(known.values()), names):
        # A store may be others' as well: what one of its records says must not become a line of a server's configuration.
        problem = item.error or next((f"{name!r} is no host name" for name in item.names if not _is_plain(name)), None)
        if problem is not None:
            click.echo(f"warning: {item.name} is left out: {problem}", err=True)
        else:
            found.append(_site(root, item.name, item.names))
    if not found:
        raise ConfigurationError(
            "no certificate is known here yet", hint="name the site: example.com www.example.com", option="names"
        )
    # A server's first site is for clients that do not say where they want to go.
    return sorted(found, key=lambda site: not site.by_address)


def _is_plain(name: str) -> bool:
    """Whether it may stand in a certificate; imported ones may be for wildcards."""
    return is_address(name) or NAME.fullmatch(name) is not None


def _site(root: Path, name: str, names: Sequence[str]) -> Site:
    return Site(name, tuple(names), root.absolute() / directory_name(name) / "current")


def is_address(name: str) -> bool:
    """Whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def in_url(name: str) -> str:
    """A name as a Host header has it: an IPv6 address in brackets."""
    return f"[{name}]" if ":" in name else name


def upstream(app: str) -> re.Match[str]:
    """``--app``, taken apart. Raises ConfigurationError where it is no place to connect to."""
    found = UPSTREAM.fullmatch(app)
    if not found or (found["port"] and not 0 < int(found["port"]) < 65536):
        raise ConfigurationError(f"--app {app!r} is no HOST:PORT", hint="or unix:/run/app.sock", option="app")
    return found


def other_half(verb: str, server: str, deployer: str) -> list[str]:
    """The lines that say by what a configuration was made, and which deployer belongs to it."""
    half = f"Its other half is in your options: after each renewal {server} gets the certificate."
    return [f"# Made by `print-config {verb}`. {half}", f"#   DEPLOY = {json.dumps([deployer])}"]


def show(
    text: str, found: Sequence[Site], *, where: str, then: str, as_json: bool, before: Sequence[tuple[str, Sequence[str]]] = ()
) -> None:
    """
    Print a configuration, and on standard error what to do with it, in the order in which it is done.

    Args:
        where: The file to save it as.
        then: What to do when it is saved.
        before: What to do before that, each with its commands.
    """
    if as_json:
        print_json({"files": {PurePath(where).name: text}})
        return
    click.echo(text, nl=False)
    steps = [*_placeholders(found), *before, (f"save it as {where}, then {then}", ())]
    for number, (step, commands) in enumerate(steps, 1):
        indented(f"{'first' if number < len(steps) and number == 1 else 'next'}: {step}", err=True)
        for line in commands:
            click.echo(f"  {line}", err=True)


def _placeholders(found: Sequence[Site]) -> Iterator[tuple[str, Sequence[str]]]:
    missing = [site.name for site in found if not (site.directory / "fullchain.pem").exists()]
    if missing:
        listed = " ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        why = "there are no files yet, and no server starts without those that it is told of; the first issue replaces them"
        yield f"run `{flags.surroundings().command} placeholder NAME` for {listed}: {why}", ()
