"""The verb ``placeholder``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from acme_middleware.cli import flags
from acme_middleware.cli.report import print_json, reported
from acme_middleware.errors import ConfigurationError
from acme_middleware.issuance import lineages
from acme_middleware.issuance.published import publish_dir


@click.command(short_help="Publish a self-signed pair, so that a server can start before the first certificate is there.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--name", help="What the certificate will be known by; by default its first name.")
@flags.of_table(only={"store", "publish_dir", "owner", "group", "deploy", "key_type"})
@reported
def placeholder(names: tuple[str, ...], name: str | None, config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Publish a self-signed certificate and its key where the first `issue` with the same names will publish the real one. nginx,
    HAProxy and Apache do not start without, and the CA asks through them. No browser trusts it.

    A certificate that is there is never replaced: run it at every start of a container, before the server. The store is not
    written to, so the certificate is due, and the first `issue` or `renew` gets it. Where DEPLOY has files: or haproxy: with
    a folder, the pair is written there as well, unless something is there.

    \b
    --json prints one object: action (made, kept), real (whether a real one was
    kept), name, names, published, deployed.

    \b
    Exit codes: 0 there is a pair; 1 the files could not be written; 2 options,
    rights, or a name that no certificate can be for.
    """
    options = flags.load(given, config)
    root = publish_dir(options, lineages.open_state(options, writable=None))
    if root is None:
        raise ConfigurationError(
            "no folder is set for the files", hint="set ACME_PUBLISH_DIR, or pass --publish-dir", option="publish_dir"
        )
    from acme_middleware.issuance.placeholder import hand_out, place  # brings cryptography, which a wrong word need not load

    placed = place(root, names, name=name, key_type=options.key_type, owner=options.owner, group=options.group)
    followed = hand_out(placed, options.deploy)
    if as_json:
        print_json(
            {
                "action": "made" if placed.made else "kept",
                "real": placed.real,
                "name": placed.name,
                "names": list(placed.names),
                "published": str(placed.current),
                "deployed": followed,
            }
        )
        return 0
    if placed.made:
        click.echo(f"  made        a self-signed pair for {', '.join(placed.names)} in {placed.current}/")
    else:
        which = "a certificate" if placed.real else "a self-signed pair"
        click.echo(f"  kept        {which} is there already: {placed.current}/")
    for spec in followed:
        click.echo(f"  written     {spec}")
    if placed.made:
        click.echo(f"  next        start your server, then `{flags.surroundings().issue_command} {' '.join(names)}`")
    return 0
