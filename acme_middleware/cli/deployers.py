"""What the commands say about deployers that were given as flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acme_middleware.cli.lines import labelled


def say_for_this_run(given: Mapping[str, Any]) -> None:
    """Say of deployers in flags that no later run knows them."""
    for spec in given.get("deploy") or ():
        labelled("note", f"{spec} was for this run alone: set ACME_DEPLOY to have renewals deployed")
