"""The verb ``renew``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from acme_middleware import clock, events
from acme_middleware._text import printable
from acme_middleware.cli import flags
from acme_middleware.cli.deployers import say_for_this_run
from acme_middleware.cli.lines import labelled
from acme_middleware.cli.report import as_typed, error_document, plain, print_json, print_table, reported
from acme_middleware.issuance.renewal import renews_at

if TYPE_CHECKING:
    from acme_middleware.issuance.sweep import Result

JOBS = 4
OF_THE_PLACE = {
    "store",
    "challenge_store",
    "ca",
    "ca_bundle",
    "agree_tos",
    "email",
    "eab_kid",
    "self_check",
    "self_check_via",
    "publish_dir",
    "owner",
    "group",
}
"""What a certificate is like (its key, its profile) is in its own record, or in CERTIFICATES."""

FACTS = ("names", "ca", "profile", "serial", "fingerprint", "not_before", "not_after", "issued_at", "renew_after")
HEADINGS = ("NAME", "RESULT", "VALID UNTIL", "RENEWS ABOUT")


@click.command(short_help="Renew every certificate that is due: the command for a timer.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--jobs", type=click.IntRange(1, 64), default=JOBS, help=f"How many to renew at the same time.  [{JOBS}]")
@click.option("--force", is_flag=True, help="Renew what is not due as well, and do not wait after failures.")
@click.option("--dry-run", is_flag=True, help="Try all, due or not, up to an order at the CA's staging twin; nothing is saved.")
@flags.of_table(only=OF_THE_PLACE | {"deploy"})
@reported
def renew(
    names: tuple[str, ...], jobs: int, force: bool, dry_run: bool, config: Path | None, as_json: bool, **given: Any
) -> int:
    """
    Renew the certificates that are due, issue those that CERTIFICATES declares and nobody has, publish what is not published
    yet, and deploy what the deployers of this host have not deployed yet. Without names, all of them.

    Let a timer run this every few hours, on every host if you like: they share the work. Each certificate is renewed as it
    was issued, at the CA that issued it; one in CERTIFICATES as it is described there. What goes wrong with one stops no
    other. When nothing is due, nobody is asked anything.

    \b
    --json prints an object per certificate, each on a line of its own:
      name, action (renewed, issued, not due, must wait, in progress, failed,
      damaged, with --dry-run tried), reason, next_try, error, names, ca,
      profile, serial, fingerprint, not_before, not_after, issued_at,
      renew_after
    and then {"summary": {certificates, counts, next, exit_code}}, where next is
    the name and renew_after of the one that is due next.

    \b
    Exit codes: 0 all is well, or another process is renewing; 1 a certificate
    failed, or its record is damaged; 2 options, rights, a name that is none;
    75 one that is due must wait, after a failure or for a limit of the CA.
    """
    options = flags.load(given, config)
    around = flags.surroundings()
    with _Display(quiet=as_json) as display:

        def listener(event: events.Event) -> None:
            around.listener(event)
            display(event)

        from acme_middleware.issuance.results import exit_code

        if dry_run:
            from acme_middleware.issuance.rehearsal import rehearse

            results = rehearse(options, names, listener=listener)
        else:
            from acme_middleware.issuance.sweep import sweep

            results = sweep(options, names=names, jobs=jobs, force=force, listener=listener)
    code = exit_code(results)
    if as_json:
        for result in results:
            print_json(_document(result))
        print_json({"summary": _summary(results, code)})
    else:
        _show(results if names else [result for result in results if result.action != "not due"])
        say_for_this_run(given)
        click.echo(f"  {_in_words(results, around.issue_command)}")
    return code


def _document(result: Result) -> dict[str, Any]:
    error, record = result.error, result.record
    return {
        "name": result.name,
        "action": result.action,
        "reason": result.reason,
        "next_try": plain(result.next_try),
        "error": error and error_document(error, str(error), error.hint, error.exit_code),
        **{fact: plain(getattr(record, fact, None)) for fact in FACTS},
    }


def _next(results: Sequence[Result]) -> Result | None:
    """The one of those that are fine which is due next."""
    fine = [result for result in results if result.record is not None and result.action in ("renewed", "issued", "not due")]
    return min(fine, key=lambda result: renews_at(result.record), default=None)  # type: ignore[arg-type]


def _summary(results: Sequence[Result], code: int) -> dict[str, Any]:
    following = _next(results)
    return {
        "certificates": len(results),
        "counts": dict(Counter(result.action for result in results)),
        "next": following and {"name": following.name, "renew_after": plain(following.record and renews_at(following.record))},
        "exit_code": code,
    }


def _show(results: Sequence[Result]) -> None:
    from acme_middleware.issuance.ledger import when

    rows: list[tuple[str, ...]] = []
    now = clock.now()
    for result in results:
        record = result.record
        until = f"{record.not_after:%Y-%m-%d} ({(record.not_after - now).days} d)" if record else "-"
        done = record and result.action in ("renewed", "issued", "not due")
        renews = f"{renews_at(record):%Y-%m-%d}" if record and done else "-"
        if result.next_try is not None:
            renews = f"next try {when(result.next_try, up=True)[5:]}"
        rows.append((result.name, result.action, until, renews))
        said = [result.reason] if result.reason else []
        said += result.error.hint.splitlines() if result.error is not None and result.action in ("failed", "damaged") else []
        rows += [(as_typed(line),) for line in said]
    if rows:
        print_table(HEADINGS, rows)


def _in_words(results: Sequence[Result], issue_command: str) -> str:
    if not results:
        return f"no certificate yet: `{issue_command} example.com` gets one"
    counts = Counter(result.action for result in results)
    words = f"{len(results):,} certificate{'' if len(results) == 1 else 's'}: " + ", ".join(
        f"{count:,} {action}" for action, count in counts.most_common()
    )
    following = _next(results)
    if following is None or following.record is None:
        return words
    return f"{words}; the next is due about {renews_at(following.record):%Y-%m-%d %H:%M} UTC ({printable(following.name)})"


class _Display:
    """What a person sees meanwhile: on a terminal how far it is, and always what is out of the ordinary."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self._spinner: Any = None
        self._due = self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self._spinner is not None:
            self._spinner.stop()

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.SweepBegan(due=due) if due and not self.quiet and sys.stdout.isatty():
                from rich.console import Console  # 60 ms that a log file need not pay

                self._due = due
                self._spinner = Console(highlight=False).status(f"renewing {due:,}")
                self._spinner.start()
            case events.Issued() | events.Failed():
                self._done += 1
                self._update(event.name)
            case events.OrderReady():
                self._update(event.name)
            case events.Waiting(holder=holder):
                self._line("waiting", f"{event.name}: {holder} works on it")
            case events.Deployed(spec=spec):
                self._line("deployed", [f"{event.name}: {spec}"])
            case events.Warned(message=message):
                self._line("warning", f"{event.name}: {message}")
            case events.SelfCheckUnsure(identifier=identifier, reason=reason):
                self._line("warning", f"could not check {identifier} from here: {reason}")
            case events.Expiring(not_after=not_after):
                self._line("EXPIRING", f"{event.name}: {not_after:%Y-%m-%d %H:%M} UTC, and it was not renewed")

    def _update(self, name: str) -> None:
        if self._spinner is not None:
            self._spinner.update(f"{self._done:,} of {self._due:,}  {printable(name)}")

    def _line(self, label: str, text: str | Sequence[str]) -> None:
        if not self.quiet:
            labelled(label, text)
