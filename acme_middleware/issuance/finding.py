"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from acme_middleware.errors import EXIT_TRY_LATER, EXIT_USAGE, AcmeMiddlewareError


class Level(Enum):
    """How bad it is. A warning is about what works today, and may not always."""

    OK = "ok"
    WARNING = "warning"
    UNAVAILABLE = "unavailable"
    WRONG = "wrong"


EXIT_CODES = {Level.OK: 0, Level.WARNING: 0, Level.UNAVAILABLE: EXIT_TRY_LATER, Level.WRONG: EXIT_USAGE}


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What was found out about one part of the set-up.

    Attributes:
        what: The part: "store", "challenge store", "CA letsencrypt".
        level: How bad it is.
        said: What was found, in a sentence without a full stop.
        hint: What to do about it, where there is something to do.
    """

    what: str
    level: Level
    said: str
    hint: str = ""

    @classmethod
    def of(cls, what: str, error: AcmeMiddlewareError) -> Finding:
        """An error: for now where trying again may help, wrong where somebody has to act."""
        level = Level.UNAVAILABLE if error.exit_code == EXIT_TRY_LATER else Level.WRONG
        return cls(what, level, str(error), error.hint)
