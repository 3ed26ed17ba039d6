"""The verbs of the command line, each loaded when it is called: a timer must not pay for what it does not run."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from importlib import import_module

import click


class Verbs(MutableMapping[str, click.Command]):
    """
    The commands of a group, by name; each is in a module of its own name beside this one.

    Args:
        names: As they are typed. The module and the function of ``print-config`` are called ``print_config``; those of a
            name that Python keeps for itself, ``import_``.
        of: The verb whose commands they are: the function ``init`` of ``store`` is in the module ``store_init``.
    """

    def __init__(self, names: Sequence[str], *, of: str = "") -> None:
        self._names = list(names)
        self._before = f"{of}_" if of else ""
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            if name not in self._names:
                raise KeyError(name)
            called = "import_" if name == "import" else name.replace("-", "_")
            self._loaded[name] = getattr(import_module(f"acme_middleware.cli.{self._before}{called}"), called)
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._names = [*(known for known in self._names if known != name), name]
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        self._names.remove(name)
        self._loaded.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
