"""The verb ``verify``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acme_middleware import option_kinds
from acme_middleware._text import printable
from acme_middleware.cli import flags
from acme_middleware.cli.progress import tick
from acme_middleware.cli.report import plain, print_json, reported
from acme_middleware.errors import EXIT_FAILED, ConfigurationError
from acme_middleware.issuance import lineages, plan
from acme_middleware.issuance.published import publish_dir

if TYPE_CHECKING:  # it brings what a wrong word need not load
    from acme_middleware.issuance.verifying import Verification

TIMEOUT = 5.0
FACTS = ("names", "serial", "fingerprint", "not_after")


@click.command(short_help="Connect to the servers: do they present the newest certificates?")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="HOST:PORT",
    help="Connect here, instead of to port 443 of every address of each name. May be given again.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0, 86400),
    default=0.0,
    metavar="SECONDS",
    help="Go on for so long while another certificate is served, or none: a server may need a moment.  [0]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    default=TIMEOUT,
    metavar="SECONDS",
    help=f"For each connection, and again for each handshake.  [{TIMEOUT:g}]",
)
@flags.of_table(only={"store", "publish_dir"})
@reported
def verify(
    names: tuple[str, ...],
    addresses: tuple[str, ...],
    wait: float,
    timeout: float,
    config: Path | None,
    as_json: bool,
    **given: Any,
) -> int:
    """
    Connect to every address of every name and compare the certificate that is presented with the newest one in the store.
    Without names, of all certificates.

    Each name is asked for by SNI; of a wildcard one that it is for is made up. The chain that comes with it must be one that
    clients can follow. No CA is asked. What was found is kept beside the published files of this host, where `status` reads
    it.

    An address that this host has no network for (most often IPv6) is left out, if another address of the name could be asked.

    \b
    --json prints one object: "exit_code", and "certificates", each with
      name, names, serial, fingerprint, not_after, served, problem, and
      findings: name, address, fingerprint, problem, unsure.

    \b
    Exit codes: 0 all are served; 1 one is not; 2 options, or a name that is
    none; 75 the store does not answer.
    """
    from acme_middleware.issuance import verifying

    places = _places(addresses)
    options = flags.load(given, config)
    store = lineages.open_state(options)
    chosen = plan.chosen(plan.items(options, store), names)
    if not chosen and not as_json:
        click.echo(f"  no certificate yet: `{flags.surroundings().issue_command} example.com` gets one")
    found, root, told = [], publish_dir(options, store), flags.surroundings().listener
    with closing(verifying.verify_all(chosen, root, places, wait=wait, timeout=timeout, emit=told)) as findings:
        for one in findings:
            found.append(one)
            if not as_json:
                _show(one)
    exit_code = 0 if all(one.served for one in found) else EXIT_FAILED
    if as_json:
        print_json({"exit_code": exit_code, "certificates": [_document(one) for one in found]})
    return exit_code


def _places(addresses: Sequence[str]) -> list[tuple[str, int]] | None:
    places = []
    for text in addresses:
        try:
            host, _, port = option_kinds.host_port(text).rpartition(":")
        except ValueError as error:
            raise ConfigurationError(f"--address {error}, not {text!r}", option="address") from None
        places.append((host.removeprefix("[").removesuffix("]"), int(port)))
    return places or None


def _document(one: Verification) -> dict[str, Any]:
    return {
        "name": one.name,
        **{fact: plain(getattr(one.record, fact, None)) for fact in FACTS},
        "served": one.served,
        "problem": one.problem,
        "findings": plain(one.findings),
    }


def _show(one: Verification) -> None:
    good = tick()
    bad, unsure = ("✗", "?") if good == "✓" else ("x ", "? ")
    if one.problem:
        click.echo(f"  {bad} {one.name}: {printable(one.problem)}")
    for finding in one.findings:
        mark = good if finding.ok else unsure if finding.unsure else bad
        click.echo(f"  {mark} {printable(finding)}")
