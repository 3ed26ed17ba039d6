"""The verb ``revoke``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from acme_middleware.cli import flags
from acme_middleware.cli.delete import document, show
from acme_middleware.cli.lines import labelled
from acme_middleware.cli.report import print_json, reported
from acme_middleware.errors import ConfigurationError

REASONS = ("keyCompromise", "superseded", "cessationOfOperation", "affiliationChanged", "unspecified")


@click.command(short_help="Have the CA revoke a certificate.")
@click.argument("name", required=False)
@click.option("--cert", type=click.Path(path_type=Path), metavar="FILE", help="A certificate in PEM, in place of NAME.")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="The certificate's own key, to sign with.")
@click.option(
    "--reason",
    type=click.Choice(REASONS, case_sensitive=False),
    default="unspecified",
    metavar="REASON",
    help=f"Why: {', '.join(REASONS)}.  [unspecified]",
)
@click.option("--delete", is_flag=True, help="Forget the certificate afterwards, as `delete` does.")
@flags.of_table(only={"store", "ca", "ca_bundle", "eab_kid", "wait"})
@reported
def revoke(
    name: str | None,
    cert: Path | None,
    key: Path | None,
    reason: str,
    delete: bool,
    config: Path | None,
    as_json: bool,
    **given: Any,
) -> int:
    """
    Have the CA revoke a certificate: NAME of the store, or any that is in a file.

    The account that ordered it signs. A certificate of another account needs its own --key. With keyCompromise the
    certificate's own key signs, which proves to the CA that it is known, and that key is never used again.

    A revoked certificate is due: the next `renew` or `issue` replaces it. Browsers may take days to hear of a revocation.

    \b
    Exit codes: 0 revoked, now or before; 1 the CA refused; 2 options, files, no
    such certificate; 75 try again later.
    """
    if (name is None) == (cert is None):
        raise ConfigurationError("name one certificate to revoke", hint="NAME of the store, or --cert FILE")
    options = flags.load(given, config)
    from acme_middleware.issuance import deleting, revoking  # bring the ACME client

    key_pem = None if key is None else revoking.read_file(key)
    if name is not None:
        done = revoking.revoke_stored(options, name, reason=reason, key_pem=key_pem)
    else:
        assert cert is not None
        done = revoking.revoke_file(options, revoking.read_file(cert), reason=reason, key_pem=key_pem)
    gone = [deleting.delete(options, lineage) for lineage in done.due] if delete else []
    if as_json:
        facts: dict[str, Any] = {"action": "already revoked" if done.already else "revoked", **done._asdict()}
        print_json(facts | ({"deleted": [document(entry) for entry in gone]} if delete else {}))
        return 0
    said = "had been revoked before" if done.already else f"({done.reason}), signed by the {SIGNERS[done.by]}"
    click.echo(f"  revoked     {', '.join(done.names)}: serial {done.serial} of {done.ca}")
    click.echo(f"              {said}")
    for entry in gone:
        show(entry, revoked=True)
    if done.unread:
        labelled("unread", f"{', '.join(done.unread)}: run this again when it can be read, since its key may be the same")
    if done.due and not delete:
        command = flags.surroundings().command
        click.echo(f"  next        {', '.join(done.due)} is due: `{command} renew` replaces it,")
        click.echo("              and your server must reload")
    elif not done.due and delete:
        click.echo("  left        the store has no such certificate to forget")
    return 0


SIGNERS = {"account": "account", "key": "certificate's own key"}
