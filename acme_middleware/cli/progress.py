"""What a person sees while a certificate is issued: a line for each step, and on a terminal what is being waited for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from acme_middleware import events
from acme_middleware.cli.lines import labelled


class Progress:
    """
    A listener that prints events. Use it as a context manager.

    Args:
        quiet: Print nothing, as with ``--json``.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self._spinner: Any = None

    def __enter__(self) -> Self:
        if not self.quiet and sys.stdout.isatty():
            from rich.console import Console  # 60 ms that a log file need not pay

            self._spinner = Console(highlight=False).status("asking the CA")
            self._spinner.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self._spinner is not None:
            self._spinner.stop()

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.Waiting(holder=holder):
                self._wait(f"waiting for {holder}")
                self.line("waiting", f"for another process that issues this certificate: {holder}")
            case events.AccountReady(ca=ca, created=created):
                self.line("account", f"{ca}, {'new account registered' if created else 'the account in the store'}")
                self._wait("placing the order")
            case events.OrderReady(names=names, profile=profile, resumed=resumed):
                count = f"{len(names)} name{'s' if len(names) > 1 else ''}"
                about = [count, *([f"profile {profile}"] if profile else []), *(["begun by an earlier run"] if resumed else [])]
                self.line("order", ", ".join(about))
            case events.Presented(identifier=identifier):
                self._wait(f"the CA validates {identifier}")
            case events.SelfCheckUnsure(identifier=identifier, reason=reason):
                self.line("warning", f"could not check {identifier} from here: {reason}")
            case events.Validated(identifier=identifier, fetches=fetches):
                seen = "" if fetches is None else f" {fetches} fetch{'' if fetches == 1 else 'es'}"
                self.line("answering", f"{identifier} {tick()}{seen}")
                self._wait("the CA makes the certificate")
            case events.Deployed(spec=spec):
                self.line("deployed", [spec])
            case events.Warned(message=message):
                self.line("warning", message)

    def line(self, label: str, text: str | Sequence[str]) -> None:
        """Print one line of the display, or several where the text is long."""
        if not self.quiet:
            labelled(label, text)

    def _wait(self, what: str) -> None:
        if self._spinner is not None:
            self._spinner.update(what)


def tick() -> str:
    """A tick, in whatever the terminal can show."""
    try:
        "✓".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "ok"
    return "✓"
