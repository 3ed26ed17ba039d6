"""What a person sees where many records are gone through: how many so far, on a terminal only, and what became of some."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

Step = TypeVar("Step")

PAUSE = 0.2
"""Seconds between two looks of the line."""


def counted(steps: Iterable[Step], what: str) -> Iterator[Step]:
    """Go through steps, and count them on standard error if that is a terminal."""
    shown, last, count = sys.stderr.isatty(), 0.0, 0
    try:
        for step in steps:
            count += 1
            if shown and time.monotonic() - last >= PAUSE:
                last = time.monotonic()
                click.echo(f"\r  {count} {what}", nl=False, err=True)
            yield step
    finally:
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)


def said_of(record: str, reason: str) -> str:
    """A reason that names its record, once."""
    return reason if record in reason else f"{record}: {reason}"
