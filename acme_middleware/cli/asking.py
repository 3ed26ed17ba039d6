"""Questions to the person at the terminal, before what cannot be undone."""

from __future__ import annotations

import sys

import click

from acme_middleware.errors import ConfigurationError


def agreed(question: str, *, yes: bool, as_json: bool) -> bool:
    """
    Whether a person agrees.

    Args:
        question: Without a question mark.
        yes: ``--yes`` was given: nobody is asked.

    Raises:
        ConfigurationError: nobody is there to be asked.
    """
    if yes:
        return True
    if as_json or not sys.stdin.isatty():
        raise ConfigurationError(
            "this cannot be undone, and there is no terminal to ask at", hint="if it is meant, pass --yes", option="yes"
        )
    return click.confirm(question, err=True)
