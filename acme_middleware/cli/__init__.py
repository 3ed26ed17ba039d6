"""
The commands: one click group, the same in ``acme-middleware``, ``manage.py acme`` and ``flask acme``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import click

from acme_middleware import __version__
from acme_middleware.cli.surroundings import BY_ITSELF, Surroundings
from acme_middleware.cli.verbs import Verbs

__all__ = ["acme", "main"]

VERBS = (
    "issue",
    "renew",
    "deploy",
    "status",
    "check",
    "verify",
    "placeholder",
    "print-config",
    "ca",
    "account",
    "import",
    "revoke",
    "export",
    "delete",
    "keys",
    "store",
    "simp_le",
)


@click.group(commands=Verbs(VERBS), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="acme-middleware %(version)s")
def acme() -> None:
    """
    TLS certificates for this web app, by ACME: the app answers the CA's challenges itself, through the middleware.

    Options come from flags; then, in Django and Flask, from the settings; elsewhere from ACME_* in the environment, then from
    /etc/acme-middleware.toml.
    """


def main(
    args: Sequence[str] | None = None,
    *,
    verb: str | None = None,
    prog_name: str = "acme-middleware",
    surroundings: Surroundings = BY_ITSELF,
) -> int:
    """
    Run a command line.

    Args:
        args: The arguments, by default those of the process.
        verb: The verb that ``args`` are for, where the command line does not name it.
        prog_name: What ``--help`` calls the program.
        surroundings: Where the commands run.

    Returns:
        The exit code. Errors are printed, never raised.
    """
    # What happens is shown anyway; an application that configures logging gets it there as well.
    logging.getLogger("acme_middleware").addHandler(logging.NullHandler())
    command = acme if verb is None else acme.commands[verb]
    settings = {"help_option_names": ["-h", "--help"]} if verb else {}
    command.context_settings = {**command.context_settings, **settings}
    try:
        command.main(args=None if args is None else list(args), prog_name=prog_name, obj=surroundings)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0
