"""The command line's side of the option table: a flag for every option that is no secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field
from pathlib import Path
from typing import Any, TypeVar

import click

from acme_middleware import options
from acme_middleware.cli.surroundings import BY_ITSELF, Surroundings
from acme_middleware.errors import ConfigurationError
from acme_middleware.options import Options

Command = TypeVar("Command", bound=Callable[..., Any])

SERVING_ONLY = {"on_unknown"}
STORES = {"store", "challenge_store"}


def of_table(*, only: set[str] | None = None) -> Callable[[Command], Command]:
    """Add a flag for each option of the table (or of ``only``), and ``--config``. Unset flags are None."""

    def add(command: Command) -> Command:
        for option in reversed(list(options.table())):
            if has_flag(option) and (only is None or option.name in only):
                command = _flag(option)(command)
        return click.option("--config", type=click.Path(path_type=Path), help="Read options from this TOML file.")(command)

    return add


def has_flag(option: Field[Any]) -> bool:
    """Whether a command line can set an option: no secret, which others could read there, and no whole table."""
    return not option.metadata.get("secret") and option.metadata.get("flag", True) and option.name not in SERVING_ONLY


def _flag(option: Any) -> Callable[[Command], Command]:
    doc, default = option.metadata["doc"].replace("`", ""), option.default
    name = "--" + option.name.replace("_", "-")
    if default is False:
        return click.option(name, is_flag=True, default=None, help=f"{doc}.")
    if option.metadata.get("many"):
        help_text = f"{doc}. For this run alone; may be given several times."
        return click.option(name, multiple=True, callback=_unset, metavar=METAVARS[option.name], help=help_text)
    shown = "" if default is None else f"  [{default:g}]" if isinstance(default, float) else f"  [{default}]"
    choices = getattr(option.metadata["parse"], "choices", None)
    # The table checks the value itself, so that flags and settings fail with the same words.
    metavar = "|".join(choices) if choices else METAVARS.get(option.name, "TEXT")
    return click.option(name, metavar=metavar, help=f"{doc}.{shown}")


def _unset(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...] | None:
    return value or None


METAVARS = {
    "store": "URL",
    "challenge_store": "URL",
    "ca": "NAME|URL,...",
    "ca_bundle": "FILE",
    "self_check_via": "HOST:PORT",
    "publish_dir": "DIR",
    "deploy": "DEPLOYER",
    "wait": "SECONDS",
}


def surroundings() -> Surroundings:
    """Where the current command runs."""
    return click.get_current_context().find_object(Surroundings) or BY_ITSELF


def load(flags: Mapping[str, Any], config: Path | None, *, serving: bool = False) -> Options:
    """
    The options of this run.

    Args:
        serving: Nothing but answering is asked about: files of secrets stay closed, and of the stores only that of the tokens
            matters.

    Raises:
        ConfigurationError: as :func:`acme_middleware.options.read`; and for a store in this process's own memory, which no
            web worker could read.
    """
    around = surroundings()
    layers = around.layers(config, **({"secret_files": False} if serving else {}))
    loaded = options.read(("flag", flags), *layers, ("default", around.defaults))
    for name in {"challenge_store" if loaded.challenge_store else "store"} if serving else STORES:
        if str(getattr(loaded, name)).startswith("memory:"):
            raise ConfigurationError(
                f"{options.setting_name(name)} is memory:, which only this process could read, not the web workers",
                hint="a command needs a store that both can open, for example file:///var/lib/acme-middleware",
                option=name,
            )
    return loaded
