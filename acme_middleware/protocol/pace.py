"""How fast a CA may be asked, by this whole process: its limit is for an address, and threads share one."""

from __future__ import annotations

import threading
import time
from collections import deque
from functools import cache


class Pace:
    """
    At most so many requests in any second; whoever comes too early waits.

    Args:
        per_second: How many, 1 or more.
    """

    def __init__(self, per_second: float) -> None:
        self._lock = threading.Lock()
        # When each of the last ones may have been sent; the first is the one that the next must be a second after.
        self._sent: deque[float] = deque(maxlen=max(1, int(per_second)))

    def wait(self) -> None:
        """Wait for one's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._sent[0] + 1) if len(self._sent) == self._sent.maxlen else now
            self._sent.append(turn)
        if turn > now:
            time.sleep(turn - now)


@cache
def shared(ca: str, per_second: float) -> Pace:
    """The one pace of this process for a CA."""
    return Pace(per_second)
