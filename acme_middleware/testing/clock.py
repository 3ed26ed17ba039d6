"""A clock that tests move."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta


class Clock:
    """
    A time of day that goes on as the real one does, from wherever it was moved to.

    Args:
        start: Where it begins; by default now.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._lock = threading.Lock()
        # In UTC from the beginning: added to a local time, hours are those that its clocks show (PEP 495), not those that pass.
        self._base, self._since = (start or datetime.now(UTC)).astimezone(UTC), time.monotonic()

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        with self._lock:
            return (self._base + timedelta(seconds=time.monotonic() - self._since)).astimezone(UTC)

    def travel(self, **by: float) -> datetime:
        """
        Move the clock, as in ``clock.travel(days=60)`` or ``clock.travel(hours=-2)``.

        Args:
            by: What :class:`datetime.timedelta` takes.

        Returns:
            The new time.
        """
        with self._lock:
            self._base += timedelta(**by)
        return self.now()

    def move_to(self, moment: datetime) -> datetime:
        """Move the clock to a moment, which must be aware; returns the new time."""
        if moment.tzinfo is None:
            raise ValueError("the moment has no time zone")
        with self._lock:
            self._base, self._since = moment.astimezone(UTC), time.monotonic()
        return self.now()
