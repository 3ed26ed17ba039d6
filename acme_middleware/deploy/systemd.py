"""Deploy by reloading or restarting a unit of systemd."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field

from acme_middleware.deploy import specs
from acme_middleware.deploy.deployer import Deployment
from acme_middleware.deploy.running import run

__all__ = ["Systemd"]

ACTIONS = ("reload", "restart")
TIME_LIMIT = 120.0

UNIT = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*")
"""systemd.unit(5): the characters of a unit's name; no dash first, which would be an option of systemctl."""


@dataclass(slots=True)
class _Turn:
    """Who deals with a unit now, and when the last one who ended well had begun."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    began: float = 0.0


_turns: dict[tuple[str, str], _Turn] = {}


class Systemd:
    """
    ``systemd:UNIT`` reloads a unit; ``?action=restart`` restarts it; ``timeout=SECONDS`` is another time than two minutes.

    Raises:
        ConfigurationError: the unit or the action is none.
    """

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self.unit, words = specs.parts(spec, "action", "timeout")
        if not UNIT.fullmatch(self.unit):
            raise specs.refused(spec, f"has {self.unit!r} where a unit should be", hint="for example systemd:nginx.service")
        self.action = words.get("action", ACTIONS[0])
        if self.action not in ACTIONS:
            raise specs.refused(spec, f"has action={self.action}", hint=f"it takes {' or '.join(ACTIONS)}")
        self.timeout = specs.seconds(spec, words, TIME_LIMIT)

    def deploy(self, deployment: Deployment) -> None:
        """
        Tell systemd, unless somebody has in this process since this was called: of many that are renewed at the same time, each
        would restart the unit, and systemd refuses the sixth within ten seconds.

        Raises:
            DeployFailed: it says no, or is not there.
        """
        called, turn = time.monotonic(), _turns.setdefault((self.unit, self.action), _Turn())
        with turn.lock:
            began = time.monotonic()
            if turn.began >= called:
                return
            argv = ["systemctl", "--no-ask-password", self.action, self.unit]
            run(self, deployment, argv, timeout=self.timeout, step=f"systemctl {self.action} {self.unit}")
            turn.began = began
