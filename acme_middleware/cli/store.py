"""The verb ``store``: what is done to a store as a whole. Each command of this group has a module beside this one."""

from __future__ import annotations

import click

from acme_middleware.cli.verbs import Verbs

COMMANDS = ("init", "copy")


@click.group(
    commands=Verbs(COMMANDS, of="store"),
    short_help="The store of accounts and certificates: make its tables, move what it holds.",
)
def store() -> None:
    """
    The store of accounts, certificates and leases as a whole.
    """
