"""The verb ``issue``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from acme_middleware import authorities, clock, events
from acme_middleware.cli import flags
from acme_middleware.cli.deployers import say_for_this_run
from acme_middleware.cli.progress import Progress
from acme_middleware.cli.report import error_document, plain, print_json, reported, show_error
from acme_middleware.cli.surroundings import Surroundings
from acme_middleware.errors import EXIT_FAILED
from acme_middleware.issuance.issuer import Action, Issuer, Outcome
from acme_middleware.issuance.records import RenewalRecord
from acme_middleware.options import Options


@click.command(short_help="Get a certificate, or renew the one there is when it is due.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--name", help="What to know the certificate by; by default its first name.")
@click.option("--staging", is_flag=True, help="Ask the CA's staging twin: try things out there, it has generous limits.")
@click.option("--dry-run", is_flag=True, help="Try everything, up to an order at the staging twin; nothing is saved.")
@click.option("--force", is_flag=True, help="Issue even if it is not due, and do not wait after failures.")
@click.option("--drop-names", is_flag=True, help="Agree that names which the certificate has now are left out.")
@flags.of_table()
@reported
def issue(
    names: tuple[str, ...],
    name: str | None,
    staging: bool,
    dry_run: bool,
    force: bool,
    drop_names: bool,
    config: Path | None,
    as_json: bool,
    **given: Any,
) -> int:
    """
    Get a certificate for one or more names, answered for by the app that shares this store.

    The certificate is known by its first name. Run the same command again, by hand or by a timer: it renews the certificate
    when that is due, and otherwise does nothing. Names may be added; to leave some out, say --drop-names.

    Then the deployers of this host are called, where they have not deployed it yet. --json has the errors of those that fail in
    "undeployed"; the next run of issue, renew or deploy repeats them.

    \b
    Exit codes: 0 there is a good certificate; 1 the CA or the check before it
    said no, or a deployer failed; 2 options, rights, terms or the clock;
    75 try again later.
    """
    options = flags.load(given, config)
    if staging:
        options = replace(options, ca=authorities.staging_of(authorities.find_all(options.ca)[0]).id)
    around = flags.surroundings()
    with Progress(quiet=as_json) as progress:

        def listener(event: events.Event) -> None:
            around.listener(event)
            progress(event)

        issuer = Issuer(options, listener=listener)
        if dry_run:
            from acme_middleware.issuance.dry_run import dry_run as rehearse

            done = rehearse(issuer, names, name=name, drop_names=drop_names)
            if as_json:
                print_json({"action": "dry run", "names": names, "checked": done})
            else:
                for step in done:
                    progress.line("tried", step)
                progress.line("next", "all is well: run the same command without --dry-run")
            return 0
        outcome = issuer.issue(names, name=name, force=force, drop_names=drop_names)
    if as_json:
        print_json(_document(outcome))
    else:
        _summary(outcome, progress, options, around)
        say_for_this_run(given)
        for error in outcome.undeployed:
            show_error(error)
    return EXIT_FAILED if outcome.undeployed else 0


def _document(outcome: Outcome) -> dict[str, Any]:
    record = outcome.record
    facts = ("name", "names", "ca", "profile", "serial", "fingerprint", "not_before", "not_after", "issued_at", "renew_after")
    return {
        "action": outcome.action.value,
        "reason": outcome.reason,
        **{fact: plain(getattr(record, fact)) for fact in facts},
        "published": plain(outcome.published),
        "undeployed": [error_document(error, str(error), error.hint, error.exit_code) for error in outcome.undeployed],
    }


def _asked_in_vain(record: RenewalRecord, options: Options) -> list[str]:
    """The options that a certificate which is not due was issued with, and that are others now."""
    names = ("ca", "key_type", "profile")
    return [name for name in names if record.options.get(name) not in (None, getattr(options, name))]


def _summary(outcome: Outcome, progress: Progress, options: Options, around: Surroundings) -> None:
    record = outcome.record
    label = {Action.NOT_DUE: "not due", Action.BY_ANOTHER: "no need"}.get(outcome.action, "issued")
    made = "another process has issued it: " if outcome.action is Action.BY_ANOTHER else ""
    progress.line(label, f"{made}{_validity(record)}")
    if outcome.published is not None:
        files = sorted(path.stem for path in outcome.published.iterdir() if path.suffix == ".pem")
        progress.line("published", [f"{_shown(outcome.published)}/ ", *files])
    else:
        progress.line("published", "nowhere: set ACME_PUBLISH_DIR (--publish-dir) to have the files written")
    if outcome.action is Action.NOT_DUE:
        other = [f"{option} {record.options[option]}" for option in _asked_in_vain(record, options)]
        if other:
            progress.line("kept", f"{', '.join(other)}: what you ask for now comes with the next renewal")
        progress.line("next", "nothing to do; --force issues all the same")
    elif outcome.action in (Action.ISSUED, Action.BY_ANOTHER):
        if outcome.published:
            progress.line("next", "point your server to fullchain.pem and privkey.pem there")
        progress.line(
            "renewal",
            f"`{around.command} print-config systemd`, or cron, prints a timer for it; "
            f"`{around.command} status` shows how things stand",
        )


def _validity(record: RenewalRecord) -> str:
    days = (record.not_after - clock.now()).days
    by = " (the CA's advice)" if record.ari else ""
    return f"valid until {record.not_after:%Y-%m-%d} ({days} days), renews about {record.renew_after:%Y-%m-%d}{by}"


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
