"""The verb ``store``: what is done to a store as a whole. Each command of this group has a module beside this one."""

from __future__ import annotations

import click

from acme_middleware.cli.verbs import Verbs

COMMANDS = ("copy",)


@click.group(
    commands=Verbs(COMMANDS, of="store"), short_help="The store of accounts and certificates: move what it holds elsewhere."
)
def store() -> None:
    """
    The store of accounts, certificates and leases as a whole.
    """
