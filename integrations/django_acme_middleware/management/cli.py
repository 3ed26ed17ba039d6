"""
What ``manage.py acme`` and ``manage.py issuecert`` share: they are the command line of acme-middleware, called by Django.

Django's own options are taken out, everything else is handed on as it was typed, so that the verbs, their flags, help and
exit codes are the same as those of ``acme-middleware``.
"""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click
from django.core.management.base import BaseCommand, CommandError, CommandParser

from acme_middleware.cli import acme, main
from acme_middleware.cli.invocation import Invocation
from acme_middleware.cli.surroundings import Surroundings
from acme_middleware.issuance.finding import Finding, Level
from django_acme_middleware import conf, signals


def _invocation() -> Invocation:
    manage = Path(sys.argv[0]).absolute()
    environment = {"DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"]}
    if manage.suffix == ".py" and not manage.name.startswith("__"):
        return Invocation((sys.executable, str(manage), "acme"), manage.parent, ("python", "manage.py", "acme"), environment)
    words = ("-m", "django", "acme")
    return Invocation((sys.executable, *words), Path.cwd(), ("python", *words), environment)


def _place() -> Sequence[Finding]:
    """What `manage.py check` says about MIDDLEWARE."""
    from django_acme_middleware.checks import check_middleware

    said = [message for message in check_middleware(None) if not message.is_silenced()]
    if not said:
        return [Finding("middleware", Level.OK, "stands first in MIDDLEWARE, or is silenced in SILENCED_SYSTEM_CHECKS")]
    return [Finding("middleware", Level.WARNING, message.msg.rstrip("."), message.hint or "") for message in said]


SURROUNDINGS = Surroundings(
    command="manage.py acme",
    issue_command="manage.py issuecert",
    layers=conf.layers,
    defaults=conf.DEFAULTS,
    listener=signals.tell,
    invocation=_invocation,
    place=_place,
)


class PassingOnParser(CommandParser):
    """Takes the options that every Django command has, in any place, and leaves the rest in ``args``."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> Namespace:
        options, rest = self.parse_known_args(args, namespace)
        options.args = rest
        return options


class CliCommand(BaseCommand):
    """
    A management command that is a part of the command line ``acme-middleware``.

    From Python it takes the same words, and the flags of a verb also by name::

        call_command("issuecert", "example.com", "--staging")
        call_command("issuecert", "example.com", staging=True)

    An exit code other than 0 is then a CommandError, with the code as ``returncode`` and what was printed as its text.
    """

    verb: str | None = None
    """The verb that all arguments are for; None: the first argument names it."""
    prog_name = "manage.py acme"
    from_shell = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stealth_options = (*self.stealth_options, *(name for name, _ in self._flags()))

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        django = super().create_parser(prog_name, subcommand, add_help=False, **kwargs)
        # Without abbreviations: --no is not Django's --no-color here, it is whatever the verb takes it for.
        return PassingOnParser(
            prog=django.prog,
            parents=[django],
            add_help=False,
            allow_abbrev=False,
            called_from_command_line=self.from_shell,
        )

    def add_base_argument(self, parser: Any, *args: str, **kwargs: Any) -> None:
        if "--version" not in args:  # ours, not Django's: `manage.py acme --version`
            super().add_base_argument(parser, *args, **kwargs)

    def print_help(self, prog_name: str, subcommand: str) -> None:
        main(["--help"], verb=self.verb, prog_name=self.prog_name, surroundings=SURROUNDINGS)

    def run_from_argv(self, argv: list[str]) -> None:
        self.from_shell = True
        super().run_from_argv(argv)

    def handle(self, *args: str, **options: Any) -> None:
        arguments = [*self._named(options), *args]
        if options["traceback"] and arguments:
            arguments.insert(self._verb_words(arguments), "--traceback")
        if self.from_shell:
            code = self._main(arguments)
            if code:
                sys.exit(code)
            return
        errors = io.StringIO()
        with redirect_stdout(options.get("stdout") or sys.stdout), redirect_stderr(errors):
            code = self._main(arguments)
        if code:
            raise CommandError(errors.getvalue().strip() or f"{self.prog_name}: exit code {code}", returncode=code)
        (options.get("stderr") or sys.stderr).write(errors.getvalue())

    def _main(self, arguments: Sequence[str]) -> int:
        return main(arguments, verb=self.verb, prog_name=self.prog_name, surroundings=SURROUNDINGS)

    def _verb_words(self, arguments: Sequence[str]) -> int:
        """How many words name the verb: ``account show`` are two."""
        if self.verb:
            return 0
        return 2 if isinstance(acme.commands.get(arguments[0]), click.Group) else 1

    def _flags(self) -> Iterator[tuple[str, click.Option]]:
        """The flags of the verb, as call_command spells them."""
        for parameter in acme.commands[self.verb].params if self.verb else ():
            if isinstance(parameter, click.Option) and parameter.opts[0] != "--traceback":
                yield parameter.opts[0].removeprefix("--").replace("-", "_"), parameter

    def _named(self, options: dict[str, Any]) -> Iterator[str]:
        for name, flag in self._flags():
            value = options.get(name)
            if flag.is_flag:
                yield from [flag.opts[0]] if value else []
            elif value is not None:
                yield f"{flag.opts[0]}={value}"
