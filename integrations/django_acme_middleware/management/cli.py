"""
What ``manage.py acme`` and ``manage.py issuecert`` share: they are the command line of acme-middleware, called by Django.

Django's own options are taken out, everything else is handed on as it was typed, so that the verbs, their flags, help and
exit codes are the same as those of ``acme-middleware``.
"""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from acme_middleware.cli.surroundings import Surroundings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from acme_middleware.cli import main
from django_acme_middleware import conf

SURROUNDINGS = Surroundings(
    command="manage.py acme", issue_command="manage.py issuecert", layers=conf.layers, defaults=conf.DEFAULTS
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
    """A management command that is a part of the command line ``acme-middleware``; ``verb`` is None for all of it."""

    verb: str | None = None
    prog_name = "manage.py acme"

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # Without an abbreviation of Django's options: --no is not --no-color here, it is whatever the verb takes it for.
        django = super().create_parser(prog_name, subcommand, add_help=False, **kwargs)
        called = getattr(self, "_called_from_command_line", False)
        return PassingOnParser(
            prog=django.prog, parents=[django], add_help=False, allow_abbrev=False, called_from_command_line=called
        )

    def print_help(self, prog_name: str, subcommand: str) -> None:
        main(["--help"], verb=self.verb, prog_name=self.prog_name, surroundings=SURROUNDINGS)

    def handle(self, *args: str, **options: Any) -> None:
        arguments = [*args, *(["--traceback"] if options["traceback"] and self.verb else [])]
        with (
            contextlib.redirect_stdout(options.get("stdout") or sys.stdout),
            contextlib.redirect_stderr(options.get("stderr") or sys.stderr),
        ):
            code = main(arguments, verb=self.verb, prog_name=self.prog_name, surroundings=SURROUNDINGS)
        if not code:
            return
        if getattr(self, "_called_from_command_line", False):
            sys.exit(code)  # the command line has said what went wrong
        raise CommandError(f"{self.prog_name} {' '.join(args)}: exit code {code}; see its output", returncode=code)
