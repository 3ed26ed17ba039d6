"""The threads of a sweep, and the one listener that all of them tell what happens."""

from __future__ import annotations

import threading
from collections import deque
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

        An interruption (Ctrl-C, SIGTERM) begins no further one, and ends those under way at the next thing they do. The
        threads keep no process alive, as those of concurrent.futures would: a web server that is stopped does not wait for a
        CA that takes its time.
        """
        if len(tasks) <= 1 or jobs == 1:
            for task in tasks:
                task()
            return
        waiting, errors = deque(tasks), list[BaseException]()

        def work(ended: threading.Event) -> None:
            try:
                for task in iter(lambda: _next(waiting), None):
                    task()
            except BaseException as error:  # noqa: BLE001  # raised again in the thread that waits
                errors.append(error)
                self._abort(waiting)
            finally:
                ended.set()

        # Not Thread.join: when a signal interrupts that, Python takes the thread for ended (bpo-45274).
        ends: list[threading.Event] = []
        try:
            for number in range(min(jobs, len(tasks))):
                ended = threading.Event()
                threading.Thread(target=work, args=(ended,), name=f"acme-renew-{number}", daemon=True).start()
                ends.append(ended)
            _wait(ends)
        except BaseException:
            self._abort(waiting)
            _wait(ends)
            raise
        if errors:
            raise errors[0]

    def _abort(self, waiting: deque[Callable[[], None]]) -> None:
        self._aborted = True
        waiting.clear()


def _next(waiting: deque[Callable[[], None]]) -> Callable[[], None] | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _wait(ends: Sequence[threading.Event]) -> None:
    for ended in ends:
        ended.wait()
