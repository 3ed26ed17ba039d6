"""
Reading from a database that is a file of this machine (SQLite): by connections of our own, kept while there is a burst.

Opening one takes Django ten times as long as reading a row, and a request's own connection is closed when the request ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["LocalReads"]

KEPT = 1.0
"""Seconds after which a connection is opened anew: a file that was put in the other's place is seen by then."""

PATIENCE = 1.5
"""Seconds to wait for a writer; a fetch ends after two in any case."""


class _Kept:
    """The connections of one process: a fork must not share them, nor a lock that may be held."""

    def __init__(self, parents: _Kept | None = None) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.idle: list[tuple[float, BaseDatabaseWrapper]] = []
        self.closing = False
        # SQLite: a child must not even close what its parent opened. What is dropped would be closed.
        self.parents = parents


class LocalReads:
    """
    Connections like one of the site's, for reading only, and for one thread at a time each.

    They are closed a second or two after the last use, by a thread that runs no longer than that.
    """

    def __init__(self) -> None:
        self._kept = _Kept()

    def first_row(self, connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any]) -> Any:
        """
        Run a statement of SQLite's own form on the database of this connection, and return its first row, or None.

        What fails is raised as Django's error; the connection that failed is closed at once.
        """
        kept = self._kept
        if kept.pid != os.getpid():  # two threads may make two: each of them closes what it has
            kept = self._kept = _Kept(kept)
        opened_at, ours = _take(kept, connection)
        try:
            if ours.connection is None:
                ours.connect()
            # Past Django's cursor, which takes longer than SQLite does.
            row = ours.connection.execute(sql, parameters).fetchone()
        except BaseException:
            with ours.wrap_database_errors:
                ours.close()
                raise
        _give_back(kept, opened_at, ours)
        return row


def _take(kept: _Kept, connection: BaseDatabaseWrapper) -> tuple[float, BaseDatabaseWrapper]:
    now = time.monotonic()
    with kept.lock:
        opened_at, ours = kept.idle.pop() if kept.idle else (now, None)
    if ours is not None and now - opened_at < KEPT:
        return opened_at, ours
    if ours is not None:
        ours.close()
    ours = connection.copy()
    ours.inc_thread_sharing()
    options = ours.settings_dict["OPTIONS"]
    options["timeout"] = min(options.get("timeout", PATIENCE), PATIENCE)
    return now, ours


def _give_back(kept: _Kept, opened_at: float, ours: BaseDatabaseWrapper) -> None:
    with kept.lock:
        kept.idle.append((opened_at, ours))
        start, kept.closing = not kept.closing, True
    if start:
        try:
            threading.Thread(target=_close_idle, args=(kept,), name="acme-middleware-close", daemon=True).start()
        except RuntimeError:  # as many threads as the system allows, or Python is ending: the answer is there all the same
            kept.closing = False  # the next one tries again


def _close_idle(kept: _Kept) -> None:
    some_left = True
    while some_left:
        time.sleep(KEPT)
        limit = time.monotonic() - KEPT
        with kept.lock:
            old = [ours for opened_at, ours in kept.idle if opened_at <= limit]
            kept.idle = [(opened_at, ours) for opened_at, ours in kept.idle if opened_at > limit]
            some_left = kept.closing = bool(kept.idle)
        for ours in old:
            ours.close()
