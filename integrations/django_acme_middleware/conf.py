"""How the options of acme-middleware are set in Django: by its settings, and only there. The environment is not read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from acme_middleware.options import Options, from_file, from_settings, read, table

DEFAULTS: Mapping[str, Any] = {"store": "django:"}
"""What holds where no setting says otherwise: tokens and state are kept in the site's default database."""

SERVING = ("store", "challenge_store", "on_unknown")


def layers(config: Path | None = None, *, secret_files: bool = True) -> list[tuple[str, Mapping[str, Any]]]:
    """The layers of options below the command line's flags: a file only if ``--config`` names one, then the settings."""
    file: list[tuple[str, Mapping[str, Any]]] = [(str(config), from_file(config))] if config else []
    return [*file, ("setting", from_settings(settings, secret_files=secret_files))]


def options(*, secret_files: bool = True) -> Options:
    """
    All options as the settings have them.

    Args:
        secret_files: As of :func:`acme_middleware.options.from_settings`.

    Raises:
        ConfigurationError: a setting that begins with ``ACME_`` and is no option, or a value that its option does not take.
    """
    return read(("setting", from_settings(settings, secret_files=secret_files)), ("default", DEFAULTS))


def serving_options() -> Options:
    """
    The few options that answering needs: a web process must not stay down for an email address that only issuing reads.

    Raises:
        ConfigurationError: one of these has a value that it does not take; or a setting that begins with ``ACME_`` is no
            option, and may be meant for one of these.
    """
    given = from_settings(settings, secret_files=False)
    others = {option.name for option in table()} - {*SERVING}
    wanted = {name: value for name, value in given.items() if name not in others}
    return read(("setting", wanted), ("default", DEFAULTS))


def challenge_store(chosen: Options) -> tuple[str, Any]:
    """Where tokens are: the setting that says so, and its value, a URL or a store object."""
    if chosen.challenge_store:
        return "ACME_CHALLENGE_STORE", chosen.challenge_store
    return "ACME_STORE", chosen.store
