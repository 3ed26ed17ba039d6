"""The threads of a sweep, and the one listener that all of them tell what happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from acme_middleware import events


class Aborted(BaseException):
    """Raised in the threads when the sweep is interrupted: so tokens are removed and leases given back, as by Ctrl-C."""


class Crew:
    """
    Does tasks in threads.

    Args:
        listener: Is told every event, one at a time.
    """

    def __init__(self, listener: events.Listener) -> None:
        self._listener, self._lock, self._aborted = listener, threading.Lock(), False

    def emit(self, event: events.Event) -> None:
        """Tell the listener. Where the sweep was interrupted, this ends the work of the thread that calls it."""
        if self._aborted:
            raise Aborted
        with self._lock:
            self._listener(event)

    def do(self, tasks: Sequence[Callable[[], None]], jobs: int) -> None:
        """
        Do all tasks, begun in their order, so many at the same time.

        An interruption (Ctrl-C, SIGTERM) begins no further one, and ends those under way at the next thing they do.
        """
        if len(tasks) <= 1 or jobs == 1:
            for task in tasks:
                task()
            return
        from concurrent.futures import ThreadPoolExecutor  # 10 ms that a sweep without work does not need

        with ThreadPoolExecutor(min(jobs, len(tasks)), thread_name_prefix="acme-renew") as pool:
            futures = [pool.submit(task) for task in tasks]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self._aborted = True
                pool.shutdown(wait=False, cancel_futures=True)
                raise
