"""The verb ``keys``: the keys that private records are encrypted with. Each command of this group is about them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from acme_middleware import encryption_keys
from acme_middleware.cli import flags
from acme_middleware.cli.asking import agreed
from acme_middleware.cli.counting import counted, said_of
from acme_middleware.cli.lines import labelled
from acme_middleware.cli.report import print_json, reported
from acme_middleware.errors import EXIT_FAILED, EXIT_TRY_LATER, ConfigurationError


@click.group(short_help="The keys that private records are encrypted with: make one, change to another.")
def keys() -> None:
    """
    The keys of ENCRYPTION_KEYS, with which accounts, orders and certificates are encrypted in the store.
    """


@keys.command(short_help="Print a new key.")
@reported
def new(as_json: bool) -> int:
    """
    Print a new key, for ACME_ENCRYPTION_KEYS or the file that ACME_ENCRYPTION_KEYS_FILE names. It is saved nowhere.

    Keep a copy apart from the store's backups: without the key nobody opens what it has sealed.
    """
    key = encryption_keys.new()
    if as_json:
        print_json({"key": key})
    else:
        click.echo(key)
    return 0


@keys.command(short_help="Encrypt all private records with the first key.")
@click.option("--forget-unreadable", is_flag=True, help="Delete private records that no key opens. They are lost then.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@flags.of_table(only={"store", "wait"})
@reported
def rotate(forget_unreadable: bool, yes: bool, config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Encrypt all private records with the first of ENCRYPTION_KEYS: those that another one of them had encrypted, and those
    that are not encrypted yet.

    To change to a new key: put it first, before the old one, everywhere; run this once; take the old one out. Renewals may
    run meanwhile, and the command may be cut off and run again.

    \b
    --json prints one object: key_id (of the first key, as in the records),
    sealed, same (how many), and unreadable, forgotten, held: records with a
    reason.

    \b
    Exit codes: 0 all are encrypted with the first key; 1 some cannot be read, or
    the answer was no; 2 options, or no key is set; 75 some are in use, try again.
    """
    options = flags.load(given, config)
    from acme_middleware.issuance import lineages
    from acme_middleware.issuance.resealing import reseal
    from acme_middleware.stores.sealed import key_id

    store = lineages.open_state(options)
    if not store.keys:
        raise ConfigurationError(
            "no encryption key is set",
            hint="`keys new` prints one: set ACME_ENCRYPTION_KEYS to it, or ACME_ENCRYPTION_KEYS_FILE to a file with it",
            option="encryption_keys",
        )
    question = "Delete the accounts, orders and certificates that no key opens"
    if forget_unreadable and not agreed(question, yes=yes, as_json=as_json):
        click.echo("  nothing was done")
        return EXIT_FAILED
    store.check(writable=True)
    steps = list(counted(reseal(store, wait=options.wait, forget=forget_unreadable), "records"))
    count = Counter(step.action for step in steps)
    told = {
        action: [{"record": step.record, "reason": step.reason} for step in steps if step.action == action]
        for action in ("unreadable", "forgotten", "held")
    }
    if as_json:
        print_json({"key_id": key_id(store.keys[0]), "sealed": count["sealed"], "same": count["same"], **told})
    else:
        for step in steps:
            if step.action in told:
                labelled(step.action, said_of(step.record, step.reason))
        if steps:
            sealed, same = count["sealed"], count["same"]
            records = f"{sealed} record{'' if sealed == 1 else 's'}"
            labelled("sealed", f"{records} with the first key; {same} {'was' if same == 1 else 'were'} already")
        else:
            labelled("nothing", "the store holds no private record")
        if told["held"]:
            labelled("next", "run the same command again when they are done: it goes on with those that are left")
        elif not told["unreadable"] and len(store.keys) > 1:
            labelled("next", "other keys can be taken out of ENCRYPTION_KEYS, once every host has this one first")
    if told["unreadable"]:
        return EXIT_FAILED
    return EXIT_TRY_LATER if told["held"] else 0
