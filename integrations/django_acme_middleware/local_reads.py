"""
Reading from a database that is a file of this machine (SQLite): by connections of our own, kept while there is a burst.

Opening one takes Django ten times as long as reading a row, and a request's own connection is closed when the request ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["LocalReads"]

KEPT = 1.0
"""Seconds after which a connection is opened anew: a file that was put in the other's place is seen by then."""

PATIENCE = 1.5
"""Seconds to wait for a writer; a fetch ends after two in any case."""


class LocalReads:
    """
    Connections like one of the site's, for reading only, and for one thread at a time each.

    They are closed a second or two after the last use, by a thread that runs no longer than that.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[tuple[float, BaseDatabaseWrapper]] = []
        self._closing = False

    @contextmanager
    def like(self, connection: BaseDatabaseWrapper) -> Iterator[BaseDatabaseWrapper]:
        """Yield an open connection to the database of this one, which is closed at once where using it fails."""
        if self._pid != os.getpid():  # SQLite's connections do not survive a fork, nor does a lock that is held
            self._forget()
        opened_at, ours = self._take(connection)
        try:
            ours.ensure_connection()
            with ours.wrap_database_errors:
                yield ours
        except BaseException:
            ours.close()
            raise
        self._give_back(opened_at, ours)

    def _take(self, connection: BaseDatabaseWrapper) -> tuple[float, BaseDatabaseWrapper]:
        now = time.monotonic()
        with self._lock:
            opened_at, ours = self._idle.pop() if self._idle else (now, None)
        if ours is not None and now - opened_at < KEPT:
            return opened_at, ours
        if ours is not None:
            ours.close()
        ours = connection.copy()
        ours.inc_thread_sharing()
        options = ours.settings_dict["OPTIONS"]
        options["timeout"] = min(options.get("timeout", PATIENCE), PATIENCE)
        return now, ours

    def _give_back(self, opened_at: float, ours: BaseDatabaseWrapper) -> None:
        with self._lock:
            self._idle.append((opened_at, ours))
            start, self._closing = not self._closing, True
        if start:
            threading.Thread(target=self._close_idle, name="acme-middleware-close", daemon=True).start()

    def _close_idle(self) -> None:
        some_left = True
        while some_left:
            time.sleep(KEPT)
            limit = time.monotonic() - KEPT
            with self._lock:
                old = [ours for opened_at, ours in self._idle if opened_at <= limit]
                self._idle = [kept for kept in self._idle if kept[0] > limit]
                some_left = self._closing = bool(self._idle)
            for ours in old:
                ours.close()
