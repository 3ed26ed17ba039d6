"""``flask acme VERB``: the command line of acme-middleware, with the options of this app's config."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from flask import Flask, current_app
from flask.cli import ScriptInfo

from acme_middleware import __version__
from flask_acme_middleware.conf import Configuration

if TYPE_CHECKING:
    from acme_middleware.cli.invocation import Invocation
    from acme_middleware.issuance.finding import Finding

HELP = """
TLS certificates for this web app, by ACME: the app answers the CA's challenges itself.

Options come from flags, then from the file that --config names, then from ACME_* in the app's config.
"""


class AcmeGroup(click.Group):
    """
    The commands of ``acme-middleware``, run inside an app's context.

    They are imported when they are asked for: a web worker, which has this group too, never loads what issues.

    Args:
        app: The app.
        configuration: Its options.
    """

    def __init__(self, app: Flask, configuration: Configuration) -> None:
        super().__init__(
            "acme",
            help=HELP,
            short_help="TLS certificates for this app.",
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        click.version_option(__version__, message="acme-middleware %(version)s")(self)
        self.app, self.configuration = app, configuration

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._load()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        self._load()
        return super().get_command(ctx, cmd_name)

    def _load(self) -> None:
        from acme_middleware.cli import acme

        self.commands = acme.commands

    def invoke(self, ctx: click.Context) -> object:
        from acme_middleware.cli.surroundings import Surroundings

        ctx.obj = Surroundings(
            command="flask acme",
            issue_command="flask acme issue",
            layers=self.configuration.layers,
            defaults=self.configuration.defaults,
            invocation=lambda: _invocation(ctx),
            place=lambda: _place(self.app),
        )
        # Flask's own command line has pushed it; app.test_cli_runner() has not.
        if not current_app or current_app._get_current_object() is not self.app:  # type: ignore[attr-defined]
            ctx.with_resource(self.app.app_context())
        # What happens is shown anyway; an application that configures logging gets it there as well.
        logging.getLogger("acme_middleware").addHandler(logging.NullHandler())
        return super().invoke(ctx)


def _place(app: Flask) -> list[Finding]:
    """What stands outside of the middleware, and would see the CA's requests first."""
    from werkzeug.middleware.proxy_fix import ProxyFix

    from acme_middleware.issuance.finding import Finding, Level

    ours, outermost = app.extensions["acme_middleware"].middleware, cast("Any", app.wsgi_app)
    while isinstance(outermost, ProxyFix):  # it answers nothing itself
        outermost = outermost.app
    if outermost is ours:
        return [Finding("middleware", Level.OK, "is outermost")]
    name = getattr(outermost, "__qualname__", None) or type(outermost).__name__
    return [
        Finding(
            "middleware",
            Level.WARNING,
            f"{name} wraps the app outside of what answers the CA: a redirect or a password from there would answer it",
            f"call acme.init_app(app) after the line that wraps app.wsgi_app in {name}",
        )
    ]


def _invocation(ctx: click.Context) -> Invocation:
    from acme_middleware.cli.invocation import Invocation

    above = ctx.parent.find_object(ScriptInfo) if ctx.parent else None
    app = above.app_import_path if above else None
    words = ("-m", "flask", *(("--app", app) if app else ()), "acme")
    return Invocation((sys.executable, *words), Path.cwd(), ("python", *words))
