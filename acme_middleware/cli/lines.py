"""Lines for people, no wider than the terminal, or than 80 columns where there is none."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence

import click

from acme_middleware._text import printable

LABEL_WIDTH = 12
WORD = re.compile(r"(?:`[^`]*`|\S)+")
"""What is copied stays in one piece: a command in backquotes, a path, a URL."""


def labelled(label: str, text: str | Sequence[str]) -> None:
    """Print a label, and a text beside it as :func:`wrapped` has it."""
    for line in wrapped(text, beside=2 + LABEL_WIDTH):
        click.echo(f"  {label:<{LABEL_WIDTH}}{line}".rstrip())
        label = ""


def indented(text: str, *, by: int = 0, err: bool = False) -> None:
    """Print a text so far from the left; its further lines are two columns further in."""
    for number, line in enumerate(wrapped(text, beside=by, further=2)):
        click.echo(f"{' ' * (by + 2 if number else by)}{line}", err=err)


def wrapped(text: str | Sequence[str], *, beside: int, further: int = 0) -> list[str]:
    """
    A text as lines.

    Args:
        text: It is broken between its words; or the words themselves, of which none is broken.
        beside: So many columns are taken by what stands before each line.
        further: So many more before each but the first.
    """
    whole = printable(text if isinstance(text, str) else " ".join(text))
    room = shutil.get_terminal_size().columns - beside
    if len(whole) <= room:
        return [whole]
    lines: list[str] = []
    for word in WORD.findall(whole) if isinstance(text, str) else map(printable, text):
        length, space = len(word.rstrip()), room - (further if len(lines) > 1 else 0)
        # What is wider than any line is no better off in one of its own.
        if lines and (len(lines[-1]) + 1 + length <= space or length > space >= len(lines[-1])):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [line.rstrip() for line in lines]
