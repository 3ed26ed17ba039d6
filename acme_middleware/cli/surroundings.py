"""Where the commands run: in a framework's own command line, or by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acme_middleware import events, options
from acme_middleware.cli.invocation import Invocation, by_itself
from acme_middleware.issuance.finding import Finding

Layer = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """
    What an adapter tells the commands.

    Attributes:
        command: How a verb is called here, for advice: "acme-middleware", "manage.py acme".
        issue_command: How ``issue`` is called here: "manage.py issuecert".
        layers: The layers of options below the flags, as :func:`acme_middleware.options.read` takes them; its argument is the
            value of ``--config``, and ``secret_files=False`` keeps it from opening files of secrets.
        defaults: The lowest layer.
        listener: Is told every event besides the display.
        invocation: How a timer calls a verb here.
        place: What ``check`` says about the place of the middleware in this app; nothing where no app is known.
    """

    command: str
    issue_command: str
    layers: Callable[..., Sequence[Layer]]
    defaults: Mapping[str, Any]
    listener: events.Listener = events.log
    invocation: Callable[[], Invocation] = by_itself
    place: Callable[[], Sequence[Finding]] = tuple


BY_ITSELF = Surroundings(
    command="acme-middleware",
    issue_command="acme-middleware issue",
    layers=options.layers_of_this_process,
    defaults={"store": "file:///var/lib/acme-middleware"},
)
"""The command ``acme-middleware``: flags, then the environment, then the file."""
