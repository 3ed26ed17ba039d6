"""How a command ends: its exit code, and what is printed when something is wrong."""

from __future__ import annotations

import functools
import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import click

from acme_middleware._text import printable
from acme_middleware.cli import flags
from acme_middleware.cli.lines import indented
from acme_middleware.errors import EXIT_FAILED, AcmeMiddlewareError

INTERRUPTED, TERMINATED = 130, 143


class Terminated(BaseException):
    """SIGTERM: like Ctrl-C it must let the tokens be removed and the lease be given back."""


def reported(command: Callable[..., int]) -> Callable[..., None]:
    """
    Make a function that returns an exit code a command: errors become a message on standard error, or with ``--json`` an
    object on standard output; a traceback is only for who asks. It adds ``--json`` and ``--traceback``.
    """

    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    @click.option("--traceback", is_flag=True, help="Show where in the program an error came from.")
    @functools.wraps(command)
    def run(*args: Any, as_json: bool, traceback: bool, **kwargs: Any) -> None:
        try:
            with _terminable():
                code = command(*args, as_json=as_json, **kwargs)
        except AcmeMiddlewareError as error:
            _show(error, str(error), error.hint, error.exit_code, as_json, traceback)
            code = error.exit_code
        except (KeyboardInterrupt, Terminated) as error:
            code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else TERMINATED
            hint = "nothing is lost: no token is left, and the same command goes on where this one stopped"
            _show(error, "interrupted", hint, code, as_json, traceback)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001  # the last line of defence: a bug must not look like a crash of the site
            code = EXIT_FAILED
            what = f"unexpected {type(error).__name__}: {error}"
            _show(
                error,
                what,
                "this is a bug in acme-middleware: report it with the output of --traceback",
                code,
                as_json,
                traceback,
            )
        click.get_current_context().exit(code)

    return run


@contextmanager
def _terminable() -> Iterator[None]:
    def terminate(signum: int, frame: object) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread: somebody calls the command from an application, and handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(error: BaseException, message: str, hint: str, code: int, as_json: bool, with_traceback: bool) -> None:
    if with_traceback:
        traceback.print_exception(error, file=sys.stderr)
    if as_json:
        print_json({"error": error_document(error, message, hint, code)})
    else:
        _say(message, hint)


def show_error(error: AcmeMiddlewareError, hint: str | None = None) -> None:
    """Print one of several errors, for a command that has more to say than that; with another hint than its own."""
    _say(str(error), error.hint if hint is None else hint)


def _say(message: str, hint: str) -> None:
    click.echo(f"error: {printable(as_typed(message))}", err=True)
    for line in as_typed(hint).splitlines():
        click.echo(f"  {printable(line)}", err=True)


def as_typed(text: str) -> str:
    """What an error says, with its commands as they are typed here: `manage.py acme deploy`, not `acme-middleware deploy`."""
    around = flags.surroundings()
    text = text.replace("`acme-middleware issue ", f"`{around.issue_command} ")
    return text.replace("`acme-middleware ", f"`{around.command} ")


def error_document(error: BaseException, message: str, hint: str, code: int) -> dict[str, Any]:
    """An error as ``--json`` shows it, with all its facts."""
    facts = {name: plain(value) for name, value in getattr(error, "facts", {}).items()}
    said = {"message": as_typed(message), "hint": as_typed(hint)}
    return {"type": type(error).__name__, **said, "exit_code": code, **facts}


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings. A row of one cell is a remark to the one above it, and may have several lines."""
    widths = [max(map(len, column)) for column in zip(headings, *(row for row in rows if len(row) > 1), strict=True)]
    for row in (headings, *rows):
        if len(row) == 1:
            indented(row[0], by=6)
        else:
            click.echo(("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())


def print_json(document: Mapping[str, Any]) -> None:
    """Print one object on one line."""
    click.echo(json.dumps(document, default=plain))


def plain(value: object) -> object:
    """A value as JSON can hold it; times in UTC with a Z."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
