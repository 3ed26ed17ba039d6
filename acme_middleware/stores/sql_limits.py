"""
Time limits for what is asked of a database: an operation as a whole ends in time, connecting and every answer included.

The drivers' own limits are per step, or the server's to keep. A server that is frozen keeps none: its kernel goes on
acknowledging what it is sent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TOKEN_LIMIT", "USUAL_LIMIT", "left", "progress", "within"]

USUAL_LIMIT = 4.0
"""Seconds that an operation on state, or a write of a token, may take."""

TOKEN_LIMIT = 1.0
"""Seconds that the look-up of a token may take: the CA, and a worker of the web server, wait for it."""

CONNECT_LIMIT = 2.0
"""Seconds of these for connecting."""


class _Limit(threading.local):
    seconds = USUAL_LIMIT
    ends = float("inf")
    of_silence = False


_limit = _Limit()


@contextmanager
def within(seconds: float, *, of_silence: bool = False) -> Iterator[None]:
    """
    Give what this thread asks inside of the block so many seconds in all.

    Args:
        seconds: How many.
        of_silence: They count anew with all that arrives: for an answer that is long.
    """
    _limit.seconds, _limit.of_silence = seconds, of_silence
    _limit.ends = time.monotonic() + seconds
    try:
        yield
    finally:
        _limit.ends = float("inf")


def left() -> float:
    """The seconds left to this thread, at least a few milliseconds: 0 means "for ever" to a socket."""
    return max(0.005, min(_limit.ends - time.monotonic(), _limit.seconds))


def over() -> bool:
    """Whether nothing is left."""
    return time.monotonic() >= _limit.ends


def progress() -> None:
    """Something has arrived."""
    if _limit.of_silence:
        _limit.ends = time.monotonic() + _limit.seconds
