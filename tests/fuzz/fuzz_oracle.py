"""What may come back for a request, and the record of what did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fuzz_grammar import ANSWER, Request
from fuzz_wire import CLOSED

REFUSED = frozenset({400, 404, 405, 411, 413, 414, 421, 431, 501, 505})
"""What a server says to a request that it does not like. 501 is about a method or an encoding; no other 5xx is right."""


@dataclass
class Verdicts:
    """
    Judges replies.

    Args:
        app: The statuses that the surface's app has for what is not ours.
    """

    app: frozenset[int]
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def judge(self, request: Request, status: int, body: bytes) -> None:
        answered = status == 200 and (body == ANSWER or (request.method == b"HEAD" and request.answer is True))
        refused = (request.refusable and status in REFUSED) or (bool(request.broken) and status == CLOSED)
        apps = status in self.app and body != ANSWER
        fine = refused or (answered and request.answer is not False) or (apps and request.answer is not True)
        self.counts["refused" if refused and not answered and not apps else "answered" if answered else "the app's"] += 1
        if not fine and len(self.wrong) < 10:
            self.wrong.append(f"{request.kind}: {status} {body[:200]!r} for {request.raw[:1000]!r} root={request.root!r}")


def resident(pid: int | str = "self") -> int:
    """The resident memory of a process in bytes, without what it shares with the files it has mapped."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/status has no RssAnon")
