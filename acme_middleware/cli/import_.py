"""The verb ``import``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from acme_middleware._text import printable
from acme_middleware.cli import flags
from acme_middleware.cli.lines import labelled
from acme_middleware.cli.report import plain, print_json, reported
from acme_middleware.errors import EXIT_FAILED
from acme_middleware.issuance import lineages

FORMATS = ("certbot", "lego", "acme.sh", "simp_le")


@click.command(name="import", short_help="Take over the accounts and certificates of another ACME client.")
@click.argument("client", type=click.Choice(FORMATS))
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would be taken over, and save nothing.")
@click.option("--force", is_flag=True, help="Replace accounts and certificates that the store has.")
@flags.of_table(only={"store", "ca", "eab_kid", "wait"})
@reported
def import_(client: str, path: Path, dry_run: bool, force: bool, config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Take over what certbot, lego, acme.sh or simp_le has in PATH: /etc/letsencrypt, .lego, ~/.acme.sh, the folder of one site.

    Nothing there is changed. The CA's account is taken over where the client keeps its key, so the CA sees the same customer
    renew the same certificates. Names that the store has are left as they are. lego and simp_le write down only the host of
    the CA: for one that --ca knows by no name, give the URL of its directory there.

    Afterwards `renew` publishes the files and renews in time. Stop the other client then, or both will renew.

    \b
    Exit codes: 0 all of it is in the store; 1 something could not be taken over;
    2 options, or PATH is no folder of that client; 75 try again later.
    """
    options = flags.load(given, config)
    from acme_middleware import foreign
    from acme_middleware.issuance.importing import bring_in

    found = foreign.read(client, path)
    # A first import makes the store, and a rehearsal does not.
    store = lineages.open_state(options, writable=None if dry_run else True)
    steps = bring_in(store, found, options, dry_run=dry_run, force=force)
    if as_json:
        kinds = {"accounts": "account", "certificates": "certificate"}
        print_json(
            {
                "action": "dry run" if dry_run else "imported",
                **{
                    name: [
                        {field: plain(value) for field, value in step._asdict().items()} for step in steps if step.kind == kind
                    ]
                    for name, kind in kinds.items()
                },
            }
        )
    else:
        for step in steps:
            until = f", valid until {step.not_after:%Y-%m-%d}" if step.not_after else ""
            about = f" ({step.ca}{until})" if step.ca else ""
            label = "would be" if dry_run and step.action == "imported" else step.action
            what = "" if step.kind == "certificate" else "account "
            reason = f": {step.reason}" if step.reason else ""
            click.echo(f"  {label:<12}{printable(f'{what}{step.name}{about}{reason}')}")
        if not dry_run and any(step.kind == "certificate" and step.action == "imported" for step in steps):
            command = flags.surroundings().command
            labelled("next", f"`{command} renew` publishes the files; let a timer run it, and stop the other client")
    return EXIT_FAILED if any(step.action == "refused" for step in steps) else 0
