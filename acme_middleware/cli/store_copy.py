"""The command ``store copy``."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from acme_middleware._text import without_secrets
from acme_middleware.cli import flags
from acme_middleware.cli.counting import counted, said_of
from acme_middleware.cli.lines import labelled
from acme_middleware.cli.report import print_json, reported
from acme_middleware.errors import EXIT_FAILED, ConfigurationError
from acme_middleware.issuance.copying import Copied

WORDS = {"copied": " copied", "replaced": " in the place of others", "same": " there already"}


@click.command(short_help="Copy all accounts and certificates into another store.")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--dry-run", is_flag=True, help="Show what would be copied, and write nothing.")
@click.option("--force", is_flag=True, help="Replace what the target has, even if that is not older.")
@flags.of_table(only=set())
@reported
def copy(source: str, target: str, dry_run: bool, force: bool, config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Copy every account, certificate, order and all that is known about their renewal from the store FROM to the store TO,
    and read it back. FROM is only read.

    Both are URLs such as --store takes, or env:NAME for the URL in a variable NAME: on a command line every user of the
    machine can read a password. What is encrypted in FROM is decrypted, and encrypted in TO, with ENCRYPTION_KEYS.
    Leases are not copied, and tokens neither: they live for an hour at most.

    It may be run again at any time: what is the same stays, what has become newer in FROM is replaced in TO, and what TO has
    changed by itself is kept.

    \b
    To move: copy; let ACME_STORE name TO on every host; stop the timers that
    still renew in FROM; copy once more.

    \b
    --json prints one object: from, to (without passwords), action, copied,
    replaced, same (how many), and kept, refused: records with a reason.

    \b
    Exit codes: 0 all of it is in TO; 1 TO has something else of the same name,
    or a record of FROM cannot be read; 2 options; 75 try again later.
    """
    options = flags.load(given, config)
    from acme_middleware.issuance import copying, lineages

    source, target = _url(source), _url(target)
    for url in (source, target):
        if url.lower().startswith("memory:"):
            raise ConfigurationError(
                "memory: is this process's own, and ends with it",
                hint="name stores that are kept, for example file:///var/lib/acme-middleware",
                option="store",
            )
    one = lineages.open_state(replace(options, store=source))
    # A first copy makes the store, and a rehearsal does not.
    other = lineages.open_state(replace(options, store=target), writable=None if dry_run else True)
    copying.refuse_same(one, other, dry_run=dry_run)
    steps = list(counted(copying.copy(one, other, dry_run=dry_run, force=force), "records"))
    count = Counter(step.action for step in steps)
    left = {action: [step for step in steps if step.action == action] for action in ("kept", "refused")}
    if as_json:
        print_json(
            {
                "action": "dry run" if dry_run else "copied",
                "from": without_secrets(source),
                "to": without_secrets(target),
                **{action: count[action] for action in WORDS},
                **{
                    action: [{"record": step.record, "reason": step.reason} for step in there] for action, there in left.items()
                },
            }
        )
    else:
        _say(count, left, dry_run=dry_run)
    return EXIT_FAILED if any(left.values()) else 0


def _url(given: str) -> str:
    """The URL that is given, or is in the variable that is given."""
    scheme, _, name = given.partition(":")
    if scheme != "env":
        return given
    if not os.environ.get(name):
        raise ConfigurationError(f"{given} names a variable that is not set", hint=f"set {name} to the URL of a store")
    return os.environ[name]


def _say(count: Counter[str], left: dict[str, list[Copied]], *, dry_run: bool) -> None:
    for action, steps in left.items():
        for step in steps:
            labelled(action, said_of(step.record, step.reason))
    for action, words in WORDS.items():
        if count[action]:
            label = "would be" if dry_run and action != "same" else action
            click.echo(f"  {label:<12}{count[action]} record{'' if count[action] == 1 else 's'}{words}")
    if not count and not any(left.values()):
        click.echo("  nothing     FROM holds no record; is its URL the one that was issued into?")
