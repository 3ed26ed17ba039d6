"""The verb ``status``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from acme_middleware import clock
from acme_middleware.cli import flags
from acme_middleware.cli.report import plain, print_json, reported
from acme_middleware.errors import ConfigurationError
from acme_middleware.issuance.records import RenewalRecord, renewal_key
from acme_middleware.issuance.renewal import state
from acme_middleware.stores import open_store

EXIT_ATTENTION = 3
HEADINGS = ("NAME", "STATE", "VALID UNTIL", "RENEWS ABOUT", "CA")


@click.command(short_help="Show every certificate: its state, until when it is valid, when it renews.")
@flags.of_table(only={"store"})
@reported
def status(config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Show every certificate in the store. Reads only what is public about them, and asks no CA.

    Exit codes: 0 all is well; 3 a certificate has expired or is overdue; 2 and 75 as for issue.
    """
    options = flags.load(given, config)
    if options.store is None:
        raise ConfigurationError("no store is set", hint="pass --store or set ACME_STORE", option="store")
    store, now = open_store(options.store), clock.now()
    store.check(writable=False)
    records = [RenewalRecord.decode(key, record.value, record.version) for key, record in store.scan(renewal_key(""))]
    states = {record.name: state(record, now) for record in records}
    if as_json:
        print_json({"certificates": [_document(record, states[record.name]) for record in records]})
    elif records:
        _print([_row(record, states[record.name], now) for record in records])
    else:
        click.echo(f"  no certificate yet: `{flags.surroundings().issue_command} example.com` gets one")
    return EXIT_ATTENTION if {"expired", "overdue"} & set(states.values()) else 0


def _document(record: RenewalRecord, how: str) -> dict[str, Any]:
    facts = ("name", "names", "ca", "profile", "serial", "fingerprint", "not_before", "not_after", "issued_at", "renew_after")
    return {"state": how, **{fact: plain(getattr(record, fact)) for fact in facts}}


def _row(record: RenewalRecord, how: str, now: datetime) -> tuple[str, ...]:
    renews = "now" if record.renew_after <= now else f"{record.renew_after:%Y-%m-%d}"
    return (
        record.name,
        how,
        f"{record.not_after:%Y-%m-%d} ({(record.not_after - now).days} d)",
        f"{renews} (ARI)" if record.ari else renews,
        record.ca,
    )


def _print(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    for row in (HEADINGS, *rows):
        click.echo(("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())
