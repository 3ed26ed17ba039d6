"""The verb ``check``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from acme_middleware._text import printable
from acme_middleware.cli import flags
from acme_middleware.cli.renew import OF_THE_PLACE
from acme_middleware.cli.report import as_typed, print_json, reported
from acme_middleware.errors import AcmeMiddlewareError
from acme_middleware.issuance.finding import EXIT_CODES, Finding, Level

MARKS = {Level.OK: "✓", Level.WARNING: "!", Level.UNAVAILABLE: "✗", Level.WRONG: "✗"}
PLAIN_MARKS = {Level.OK: "ok", Level.WARNING: "! ", Level.UNAVAILABLE: "x ", Level.WRONG: "x "}


@click.command(short_help="Try all that this host needs: options, stores, leases, clock, CA, files, middleware.")
@click.option(
    "--role",
    type=click.Choice(["issuing", "serving"]),
    default="issuing",
    show_default=True,
    help="What this host does: `serving` only answers the CA, and needs no right but to read tokens.",
)
@flags.of_table(only=OF_THE_PLACE)
@reported
def check(role: str, config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Try all that this host needs for its part, as it will be used, and say what to do about what is wrong. No certificate is
    ordered.

    Who issues must be able to write to both stores and to the folder of the files, and to ask the CA, whose clock is compared
    with this machine's. Who serves must be able to read tokens: run it there as the user of the web workers, with --role
    serving. The store of keys is not opened then.

    \b
    --json prints one object: "role", "exit_code", and "findings", each with
      what, level (ok, warning, unavailable, wrong), said, hint.

    \b
    Exit codes: 0 all is well, or there are warnings; 2 something is wrong, and
    the hint says how to mend it; 75 a store or the CA does not answer now.
    """
    found = []
    for finding in _findings(role, config, given):
        found.append(finding)
        if not as_json:
            _show(finding)
    codes = {EXIT_CODES[finding.level] for finding in found}
    exit_code = next((code for code in (2, 75) if code in codes), 0)
    if as_json:
        print_json({"role": role, "exit_code": exit_code, "findings": [_document(one) for one in found]})
    return exit_code


def _findings(role: str, config: Path | None, given: dict[str, Any]) -> Iterator[Finding]:
    from acme_middleware.issuance import checking

    try:
        options = flags.load(given, config, serving=role == "serving")
    except AcmeMiddlewareError as error:
        yield Finding.of("options", error)
        return
    yield Finding("options", Level.OK, "are valid")
    yield from flags.surroundings().place()
    yield from (checking.serving if role == "serving" else checking.issuing)(options)


def _document(finding: Finding) -> dict[str, str]:
    said, hint = as_typed(finding.said), as_typed(finding.hint)
    return {"what": finding.what, "level": finding.level.value, "said": said, "hint": hint}


def _show(finding: Finding) -> None:
    marks = MARKS if _can_print("".join(MARKS.values())) else PLAIN_MARKS
    click.echo(f"  {marks[finding.level]} {finding.what}: {printable(as_typed(finding.said))}")
    for line in as_typed(finding.hint).splitlines() if finding.level is not Level.OK else ():
        click.echo(f"      {printable(line)}")


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
