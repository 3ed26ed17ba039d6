"""
Work that waits for a CA, awaited from an event loop: it is done in threads of our own.

Not in the loop's default pool: that is small, and whatever else the app gives it would wait behind certificates.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextvars import ContextVar, copy_context
from functools import wraps
from queue import SimpleQueue
from typing import Any, Generic, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")

THREADS = 16
"""So many are under way at once in a process; more of them wait their turn."""

END_LIMIT = 5.0
"""Seconds that the end of the process waits for what is under way to be left in order."""


class Stopped(BaseException):
    """Ends work that nobody waits for any more. Nothing that failed: so no Exception, which would be counted as a failure."""


_stop: ContextVar[threading.Event | None] = ContextVar("acme_middleware_stop", default=None)


def end_if_stopped() -> None:
    """Called by the work at each of its steps. Raises Stopped where whoever awaited it has been cancelled."""
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise Stopped


def awaitable(
    function: Callable[Given, Result], *, after: Callable[[], object] = lambda: None
) -> Callable[Given, Coroutine[Any, Any, Result]]:
    """
    Make a function that is to be awaited, under asyncio or trio, of one that blocks.

    It runs in a thread, with the caller's context variables. Cancelled, the work ends at its next step, which the caller does
    not wait for.

    Args:
        after: Is called in that thread at the end, whatever has happened: the thread goes on, and what was opened in it would
            stay open.
    """

    @wraps(function)
    async def awaited(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        def call() -> Result:
            try:
                return function(*args, **kwargs)
            finally:
                after()

        work = _Work(call)
        _threads().do(work)
        try:
            return await _settled(work.future)
        except BaseException:
            work.leave()
            raise

    awaited.__name__ = f"a{function.__name__}"
    awaited.__qualname__ = function.__qualname__.removesuffix(function.__name__) + awaited.__name__
    awaited.__doc__ = f"Await :func:`{function.__name__}`, which runs in a thread. Cancelled, it ends at its next step."
    return awaited


class _Work(Generic[Result]):
    """One call: its future, and what tells it to stop."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self.future: Future[Result] = Future()
        self._call, self._stop, self._context = call, threading.Event(), copy_context()
        self._context.run(_stop.set, self._stop)

    def do(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return  # cancelled before its turn
        try:
            result = self._context.run(self._call)
        except BaseException as error:  # noqa: BLE001  # it is raised where it is awaited
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self._stop.set()
        self.future.cancel()


class _Threads:
    """
    The threads of one process, made when they are needed.

    They are daemons: those of concurrent.futures would do all that is queued before the process may end.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._waiting: SimpleQueue[_Work[Any]] = SimpleQueue()
        self._lock = threading.Lock()
        self._unfinished: set[_Work[Any]] = set()
        self._started = 0

    def do(self, work: _Work[Any]) -> None:
        with self._lock:
            # Started before it is counted, and both under the lock: work is only left to a thread that is there.
            if self._started < min(len(self._unfinished) + 1, THREADS):
                try:
                    threading.Thread(target=self._run, name="acme-middleware", daemon=True).start()
                except RuntimeError:  # as many threads as the system allows
                    if not self._started:
                        raise
                else:
                    self._started += 1
            self._unfinished.add(work)
        self._waiting.put(work)

    def _run(self) -> None:
        while True:
            work = self._waiting.get()
            work.do()
            with self._lock:
                self._unfinished.discard(work)
            del work  # until the next one comes it would keep its result, or its error and all that led to it

    def end(self) -> None:
        """Leave what is under way in order: tokens removed, leases given back."""
        with self._lock:
            unfinished = list(self._unfinished)
        for work in unfinished:
            work.leave()
        wait([work.future for work in unfinished], END_LIMIT)


_guard = threading.Lock()
_of_this_process: _Threads | None = None


def _threads() -> _Threads:
    global _of_this_process  # noqa: PLW0603
    with _guard:
        # After a fork none of the parent's threads is there.
        if _of_this_process is None or _of_this_process.pid != os.getpid():
            _of_this_process = _Threads()
            atexit.register(_of_this_process.end)
        return _of_this_process


def _forget() -> None:
    """In a child after a fork: the lock may have been held by a thread that is not there."""
    global _guard, _of_this_process
    if _of_this_process is not None:
        atexit.unregister(_of_this_process.end)
    _guard, _of_this_process = threading.Lock(), None


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget)


async def _settled(future: Future[Result]) -> Result:
    """The future's result, on whichever event loop this is."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        await _done_in_trio(future)
        return future.result()
    return await asyncio.wrap_future(future)


async def _done_in_trio(future: Future[Any]) -> None:
    import trio

    done, loop = trio.Event(), trio.lowlevel.current_trio_token()

    def wake(_: Future[Any]) -> None:
        try:
            loop.run_sync_soon(done.set)
        except trio.RunFinishedError:
            return  # the loop has ended, and nobody waits any more

    future.add_done_callback(wake)
    await done.wait()
