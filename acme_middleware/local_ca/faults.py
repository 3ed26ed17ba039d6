"""
Faults, scripted per request: what a test makes go wrong, where, and how often.

What each fault does stands in :mod:`acme_middleware.local_ca.fault_kinds`; this module decides which request gets one.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from werkzeug.wrappers import Response

from acme_middleware.errors import AcmeMiddlewareError, ConfigurationError
from acme_middleware.local_ca.call import RESOURCES, Call, Desk
from acme_middleware.local_ca.model import Challenge
from acme_middleware.local_ca.problems import Problem

VALIDATION = "validation"
"""Where a fault can be besides a resource: a validation, once its first perspective has succeeded."""


class FaultsLeft(AcmeMiddlewareError):
    """Faults were scripted that no request has met: what a test meant to try was not tried. ``faults`` lists them."""


class Cut(Exception):
    """The connection ends here, by a TCP reset where ``reset``, without an answer or with the first half of one."""

    def __init__(self, *, reset: bool, half: Response | None = None) -> None:
        super().__init__("cut")
        self.reset, self.half = reset, half


class Stage(Enum):
    """When a fault acts: before the request has any effect, on the answer after it, or within a validation."""

    BEFORE, AFTER, VALIDATED = "before", "after", "validated"


@dataclass(slots=True)
class Scene:
    """
    Where a fault acts.

    Attributes:
        given: Its parameters.
        answer: The answer as it would be, once there is one.
        challenge: The challenge that is being validated.
    """

    desk: Desk
    given: Mapping[str, Any]
    call: Call | None = None
    answer: Response | None = None
    challenge: Challenge | None = None

    @property
    def asked(self) -> Call:
        """The request, of a fault that acts on one."""
        if self.call is None:
            raise RuntimeError("this fault acts on requests")
        return self.call

    @property
    def reply(self) -> Response:
        """The answer, of a fault that acts on it."""
        if self.answer is None:
            raise RuntimeError("this fault acts on answers")
        return self.answer


@dataclass(frozen=True, slots=True)
class Kind:
    """
    A fault that there is.

    Attributes:
        name: What tests call it.
        text: What happens.
        where: The resources that it can happen at; the first ones by default.
        act: Does it: returns the answer in place of the usual one, or None where that stays (before: is still to be made).
        defaults: Its parameters and what they are where a test does not say.
        applies: Whether a request can have it; those that cannot are left alone, and the fault waits.
    """

    name: str
    text: str
    stage: Stage
    where: tuple[str, ...]
    act: Callable[[Scene], Response | Problem | None]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    applies: Callable[[Scene], bool] = lambda scene: True


@dataclass(slots=True)
class Fault:
    """One that was scripted. ``left`` is how often it is still to happen, None for always; ``met`` how often it has."""

    kind: Kind
    where: frozenset[str]
    left: int | None
    skip: int
    given: Mapping[str, Any]
    met: int = 0

    def __str__(self) -> str:
        often = "always" if self.left is None else f"{self.left} times more"
        return f"{self.kind.name} at {', '.join(sorted(self.where))} ({often})"


class Faults:
    """The script: faults in the order in which they were added; a request meets one at most at each stage."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self.kinds = {kind.name: kind for kind in kinds}
        self._script: list[Fault] = []
        self._lock = threading.Lock()

    def add(
        self, name: str, times: int | None, where: str | Iterable[str] | None, skip: int, given: Mapping[str, Any]
    ) -> Fault:
        """
        Script a fault.

        Raises:
            ConfigurationError: there is no such fault, place or parameter.
        """
        if name not in self.kinds:
            raise _unknown("fault", name, self.kinds)
        kind = self.kinds[name]
        places = frozenset([where] if isinstance(where, str) else where or kind.where)
        if places == {"*"}:
            places = frozenset(RESOURCES)
        for place in places:
            if place not in {*RESOURCES, VALIDATION} or (kind.stage is Stage.VALIDATED) != (place == VALIDATION):
                raise _unknown("place for this fault", place, [VALIDATION] if kind.stage is Stage.VALIDATED else RESOURCES)
        for parameter in given:
            if parameter not in kind.defaults:
                raise _unknown(f"parameter of {name}", parameter, kind.defaults)
        fault = Fault(kind, places, times, skip, {**kind.defaults, **given})
        with self._lock:
            self._script.append(fault)
        return fault

    def meet(self, stage: Stage, place: str, scene: Scene) -> Response | Problem | None:
        """
        Let what the script has for this place happen.

        Returns:
            What the fault's ``act`` returns; None without a fault.

        Raises:
            Cut: the connection ends.
        """
        fault = self._take(stage, place, scene)
        return (
            None if fault is None else fault.kind.act(Scene(scene.desk, fault.given, scene.call, scene.answer, scene.challenge))
        )

    def check(self) -> None:
        """
        Ask whether all that was scripted has happened.

        Raises:
            FaultsLeft: something has not.
        """
        with self._lock:
            left = [str(fault) for fault in self._script if (not fault.met if fault.left is None else fault.left)]
        if left:
            hint = "the client never asked for that, or not as often: the test did not try what it says"
            raise FaultsLeft(f"no request has met {'; '.join(left)}", hint=hint, faults=left)

    def clear(self) -> None:
        """Forget the script."""
        with self._lock:
            self._script.clear()

    def _take(self, stage: Stage, place: str, scene: Scene) -> Fault | None:
        with self._lock:
            for fault in self._script:
                if fault.kind.stage is not stage or place not in fault.where or fault.left == 0:
                    continue
                if not fault.kind.applies(scene):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.met += 1
                fault.left = None if fault.left is None else fault.left - 1
                return fault
        return None


def _unknown(what: str, name: str, known: Iterable[str]) -> ConfigurationError:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return ConfigurationError(
        f"there is no {what} {name!r}" + (f"; did you mean {near[0]}?" if near else ""),
        hint=f"there are: {', '.join(names) or 'none'}",
    )
