"""Wrong options, as errors that Flask's command line prints like its own."""

from __future__ import annotations

from typing import IO, Any

import click

from acme_middleware.errors import AcmeMiddlewareError, ConfigurationError, StoreMisconfigured


class _Printed(click.ClickException):
    """Ends a command with what to do, not with a traceback: ``flask`` loads the app before it calls any command."""

    hint: str

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo("\n  ".join([f"error: {self.message}", *self.hint.splitlines()]), file=file, err=file is None)


class OptionRefused(ConfigurationError, _Printed):
    """As its base, which is the one to catch."""


class StoreRefused(StoreMisconfigured, _Printed):
    """As its base, which is the one to catch."""


def told(error: AcmeMiddlewareError) -> AcmeMiddlewareError:
    """The same error, of a class that the command line prints; a traceback in a web server's log ends with its hint."""
    kind = StoreRefused if isinstance(error, StoreMisconfigured) else OptionRefused
    same = kind(str(error), hint=error.hint, **error.facts)
    same.add_note(error.hint)
    return same
