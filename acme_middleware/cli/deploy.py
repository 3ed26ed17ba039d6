"""The verb ``deploy``."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from acme_middleware import events
from acme_middleware.cli import flags
from acme_middleware.cli.deployers import say_for_this_run
from acme_middleware.cli.lines import labelled
from acme_middleware.cli.report import Terminated, error_document, plain, print_json, reported, show_error
from acme_middleware.deploy.deployer import repeating
from acme_middleware.errors import AcmeMiddlewareError, ConfigurationError, DeployFailed
from acme_middleware.issuance.following import Follower
from acme_middleware.issuance.results import Result, exit_code

EVERY = 10.0
PLACE = {"store", "ca", "publish_dir", "owner", "group", "deploy"}


@click.command(short_help="Publish and deploy on this host what is in the store, once or again and again.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--watch", is_flag=True, help="Go on: what another host issues or renews is deployed here too.")
@click.option("--every", type=click.FloatRange(min=0.1), help=f"Seconds between two looks of --watch.  [{EVERY:g}]")
@click.option("--force", is_flag=True, help="Call the deployers also for what they have deployed.")
@flags.of_table(only=PLACE)
@reported
def deploy(
    names: tuple[str, ...],
    watch: bool,
    every: float | None,
    force: bool,
    config: Path | None,
    as_json: bool,
    **given: Any,
) -> int:
    """
    Publish the newest certificates as files of this host, and call the deployers of this host that have not deployed them yet,
    or have failed. Nothing is asked of a CA.

    `issue` and `renew` do this by themselves, on the host that they run on. This is for repeating what failed, and with --watch
    for the other hosts that share the store: it looks every few seconds whether one has a new certificate, and ends when it is
    told to (SIGTERM, Ctrl-C). What fails is tried again after half a minute, then ever more rarely, up to an hour.

    \b
    --json prints an object per certificate, each on a line of its own:
      name, action (deployed, published, in place, failed, damaged,
      not issued), reason, error, names, serial, not_after

    \b
    Exit codes: 0 all is in place; 1 a deployer failed, or a record is damaged;
    2 options, rights, a name that is none; 75 the store does not answer.
    """
    if watch and (names or force):
        raise ConfigurationError("--watch is for all certificates, as they change", hint="leave names and --force out")
    if every is not None and not watch:
        raise ConfigurationError("--every is for --watch", hint="say --watch too, or leave it out")
    around = flags.surroundings()

    def listener(event: events.Event) -> None:
        around.listener(event)
        if isinstance(event, events.Deployed) and not as_json:
            labelled("deployed", [f"{event.name}: {event.spec}"])

    follower = Follower(flags.load(given, config), listener=listener)
    if not as_json:
        say_for_this_run(given)
    if watch:
        return _watch(follower, every or EVERY, as_json=as_json)
    results = follower.once(names, force=force)
    _show(results, as_json=as_json)
    if not as_json:
        labelled("in all", _in_words(results))
    return exit_code(results)


def _watch(follower: Follower, every: float, *, as_json: bool) -> int:
    if not as_json:
        labelled("watching", f"every {every:g} s, to publish below {follower.root}")
    pause = threading.Event()
    unreadable = ""
    try:
        while True:
            try:
                _show([result for result in follower.look() if result.action != "in place"], as_json=as_json)
                unreadable = ""
            except AcmeMiddlewareError as error:
                if str(error) != unreadable:  # once, however long it lasts
                    show_error(error)
                unreadable = str(error)
            pause.wait(every)
    except (KeyboardInterrupt, Terminated):
        return 0


def _show(results: Sequence[Result], *, as_json: bool) -> None:
    if as_json:
        for result in results:
            print_json(_document(result))
        return
    alike: dict[str, list[Result]] = {}
    for result in results:
        if result.error is not None:
            alike.setdefault(str(result.error), []).append(result)
        elif result.action != "in place":
            labelled(result.action, f"{result.name} {result.reason}".rstrip())
    for failed in alike.values():
        for result in failed:
            labelled(result.action, result.name)
        _show_errors([result.error for result in failed if result.error is not None])


def _show_errors(errors: Sequence[AcmeMiddlewareError]) -> None:
    """Print once what went wrong with several certificates."""
    first, *others = errors
    hint = [line for line in first.hint.splitlines() if all(line in other.hint.splitlines() for other in others)]
    if others and isinstance(first, DeployFailed):
        hint.append(repeating())
    show_error(first, "\n".join(hint))


def _document(result: Result) -> dict[str, Any]:
    record, error = result.record, result.error
    return {
        "name": result.name,
        "action": result.action,
        "reason": result.reason,
        "error": error and error_document(error, str(error), error.hint, error.exit_code),
        "names": record and record.names,
        "serial": record and record.serial,
        "not_after": plain(record and record.not_after),
    }


def _in_words(results: Sequence[Result]) -> str:
    counts = Counter(result.action for result in results)
    return ", ".join(f"{count:,} {action}" for action, count in counts.most_common()) or "no certificate yet"
