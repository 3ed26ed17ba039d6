"""What the commands say about deployers that were given as flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from acme_middleware._text import printable


def say_for_this_run(given: Mapping[str, Any]) -> None:
    """Say of deployers in flags that no later run knows them."""
    for spec in given.get("deploy") or ():
        click.echo(f"  note        {printable(spec)} was for this run alone: set ACME_DEPLOY to have renewals deployed")
