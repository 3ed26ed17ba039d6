"""The command ``store init``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from acme_middleware._text import printable
from acme_middleware.cli import flags
from acme_middleware.cli.report import print_json, reported
from acme_middleware.errors import ConfigurationError
from acme_middleware.stores import open_challenges, open_store


@click.command(short_help="Make the tables of a store in a SQL database.")
@click.option("--sql", "only_print", is_flag=True, help="Print the statements that make them, and connect to nothing.")
@flags.of_table(only={"store", "challenge_store"})
@reported
def init(only_print: bool, config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Make the tables of the stores that are in SQL databases, --store and --challenge-store. What is there stays as it is, so
    this may be run again at any time, and on every host. Other stores need no such thing.

    With --sql, for who may make no tables: give the output to the database's administrator.

    \b
    --json prints one object: stores, each with store (where it is) and made
    (the tables that were made); with --sql: statements.

    \b
    Exit codes: 0 the tables are there; 2 options, no rights, wrong password;
    75 the database does not answer.
    """
    options = flags.load(given, config)
    opened: list[Any] = []
    # Django's tables are not ours to make, and the store need not be usable to say so.
    if options.store is not None and not str(options.store).startswith("django:"):
        opened.append(open_store(options.store))
    if options.challenge_store not in (None, options.store):
        opened.append(open_challenges(options.challenge_store))
    with_tables = [store for store in opened if hasattr(store, "make_tables")]
    if str(options.store).startswith("django:") and not with_tables:
        raise ConfigurationError("the tables of django: are made by Django", hint="run `manage.py migrate`", option="store")
    if only_print:
        _print_statements(with_tables, as_json)
        return 0
    made = [(_named(store), store.make_tables()) for store in with_tables]
    if as_json:
        print_json({"stores": [{"store": name, "made": tables} for name, tables in made]})
        return 0
    for name, tables in made:
        click.echo(f"  {'made' if tables else 'there':<12}{', '.join(tables) or 'all tables'}, in {printable(name)}")
    if not made:
        click.echo("  nothing     the store keeps no tables")
    return 0


def _print_statements(stores: list[Any], as_json: bool) -> None:
    if not stores:
        raise ConfigurationError(
            "the store keeps no tables, so there is no SQL that makes them",
            hint="--store takes for example postgresql+psycopg://USER:PASSWORD@HOST/DATABASE",
            option="store",
        )
    statements = list(dict.fromkeys(statement for store in stores for statement in store.table_statements()))
    if as_json:
        print_json({"statements": statements})
    else:
        click.echo(";\n\n".join(statements) + ";")


def _named(store: Any) -> str:
    return str(getattr(getattr(store, "database", None), "place", type(store).__name__))
