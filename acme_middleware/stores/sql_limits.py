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

__all__ = ["CONNECT_LIMIT", "TOKEN_LIMIT", "USUAL_LIMIT", "count_silence_only", "left", "over", "progress", "within"]

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
def within(seconds: float) -> Iterator[None]:
    """Give what this thread asks inside of the block so many seconds in all."""
    _limit.seconds, _limit.of_silence = seconds, False
    _limit.ends = time.monotonic() + seconds
    try:
        yield
    finally:
        _limit.ends = float("inf")


def count_silence_only() -> None:
    """From now on to the end of the block the seconds count anew with all that arrives: the answer may be long."""
    _limit.of_silence = True
    progress()


def left() -> float:
    """The seconds left to this thread, at least a few milliseconds: 0 means "for ever" to a socket."""
    if _limit.of_silence:  # asked before each wait
        progress()
    return max(0.005, min(_limit.ends - time.monotonic(), _limit.seconds))


def over() -> bool:
    """Whether nothing is left."""
    return time.monotonic() >= _limit.ends


def progress() -> None:
    """Something has arrived."""
    if _limit.of_silence:
        _limit.ends = time.monotonic() + _limit.seconds
