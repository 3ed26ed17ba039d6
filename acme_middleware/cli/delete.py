"""The verb ``delete``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from acme_middleware import clock
from acme_middleware.cli import flags
from acme_middleware.cli.asking import agreed
from acme_middleware.cli.lines import labelled
from acme_middleware.cli.report import print_json, reported
from acme_middleware.errors import EXIT_FAILED
from acme_middleware.issuance import lineages
from acme_middleware.issuance.deleting import Deleted
from acme_middleware.issuance.deleting import delete as remove


@click.command(short_help="Forget a certificate and its key.")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--files", is_flag=True, help="Remove its published files as well.")
@flags.of_table(only={"store", "publish_dir", "wait"})
@reported
def delete(name: str, yes: bool, files: bool, config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Forget a certificate: its key, its certificate, its renewal and what failed about it are removed from the store.

    Published files stay, unless --files is given, so that a server which names them goes on. The certificate itself stays
    valid until it expires: where somebody else may have its key, use `revoke` first. Accounts and other certificates are not
    touched.

    \b
    Exit codes: 0 removed; 1 the answer was no, or files could not be removed;
    2 no such certificate, or nobody to ask and no --yes; 75 try again later.
    """
    options = flags.load(given, config)
    lineage = lineages.known_as(lineages.open_state(options), name)
    if not agreed(f"Forget the certificate {lineage} and its key", yes=yes, as_json=as_json):
        click.echo("  nothing was removed")
        return EXIT_FAILED
    gone = remove(options, lineage, files=files)
    declared = any(entry.name == lineage for entry in options.certificates)
    if as_json:
        print_json(document(gone) | {"declared": declared})
        return 0
    show(gone)
    if declared:
        labelled("next", "take it out of CERTIFICATES as well, or `renew` gets it again")
    return 0


def document(gone: Deleted) -> dict[str, Any]:
    """What was removed, for ``--json``."""
    return {
        "action": "deleted",
        "name": gone.name,
        "records": list(gone.records),
        "files_removed": None if gone.files is None else str(gone.files),
        "files_left": None if gone.files_left is None else str(gone.files_left),
        "others_left": [str(gone.files / entry) for entry in gone.strangers] if gone.files else [],
    }


def show(gone: Deleted, *, revoked: bool = False) -> None:
    """Say what was removed and what is left."""
    words = {
        "renewal": "its renewal",
        "order": "an order under way",
        "ledger": "its failures",
        "certificate": "certificate and key",
    }
    kinds = dict.fromkeys(words[record.partition("/")[0]] for record in gone.records)
    click.echo(f"  removed     {gone.name}: {', '.join(kinds)}")
    if gone.files is not None:
        click.echo(f"  removed     the files in {gone.files}/")
        if gone.strangers:
            click.echo(f"  left        what is not ours in there: {', '.join(gone.strangers)}")
    if gone.files_left is not None:
        click.echo(f"  left        the files in {gone.files_left}/ (--files removes those too)")
    if gone.valid_until is not None and gone.valid_until > clock.now() and not revoked:
        labelled("left", f"the certificate itself is valid until {gone.valid_until:%Y-%m-%d}, for whoever has its key")
    click.echo("  left        the account at the CA; `account deactivate` ends that")
