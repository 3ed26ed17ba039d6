"""
Ask a challenge source without letting it take the web server down with it.

A source in memory, or in one local file, is called where we are. One that may wait for a network is called in threads of our
own, with a time limit: the event loop's default threads, and a WSGI server's workers, belong to the app. In between is one
that may wait for a lock on a local file, for a limited time: on an event loop it needs a thread, elsewhere none.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future

    from acme_middleware.stores.base import ChallengeSource

__all__ = ["DOWN", "Down", "Lookup"]

THREADS = 8
TIME_LIMIT = 2.0
REFUSED_FOR = 1.0
WAITING_LATER = 64

logger = logging.getLogger(__name__)


class Down(Enum):
    """The type of DOWN, so that type checkers can tell it from a token's answer."""

    DOWN = "down"


DOWN = Down.DOWN
"""What a fetch ends with when the source failed, or did not answer in time."""

Outcome = str | None | Down


class Lookup:
    """
    The one way from a web server's process to its challenge source. One per middleware; threads may share it.

    For a blocking source: eight threads per process, started when they are needed; simultaneous fetches of one token join in
    one call; a fetch ends after 2 seconds; after a failure, fetches end at once for 1 second. It works after a fork, also
    where the parent used it.

    Args:
        source: The challenge source. Its ``blocking``, and ``brief`` where it has that, decide where it is called.
    """

    def __init__(self, source: ChallengeSource) -> None:
        self.source = source
        self._blocking = source.blocking
        brief = getattr(source, "brief", False)
        self.fetch: Callable[[str], Outcome] = (
            self._ask if not source.blocking else self._ask_here if brief else self._ask_in_a_thread
        )
        """Returns the key authorization, None for an unknown token, or DOWN. Waits; never raises for the source's failures."""
        self._process: _Process | None = None
        self._logged_at = float("-inf")

    def _ask_in_a_thread(self, token: str) -> Outcome:
        future, joined = self._begin(token)
        outcome = self._wait(token, future)
        if outcome is None and joined:
            outcome = self._wait(token, self._begin(token)[0])
        return outcome

    async def fetch_async(self, token: str) -> Outcome:
        """As :meth:`fetch`, on an asyncio or trio event loop, which it never blocks."""
        if not self._blocking:
            return self._ask(token)
        future, joined = self._begin(token)
        outcome = await self._wait_async(token, future)
        if outcome is None and joined:
            outcome = await self._wait_async(token, self._begin(token)[0])
        return outcome

    def later(self, call: Callable[[], None]) -> bool:
        """
        Run a call that may block, soon and in our own threads.

        Returns False, having done nothing, where too many wait, or where there is no thread and none can be started.
        """
        return self._current().pool.run(call, at_most=WAITING_LATER)

    def _current(self) -> _Process:
        # A child of a fork inherits neither the threads nor a lock that could ever be released. Two threads that get here
        # at once may make two: the one that is lost serves those who hold it, and is gone after them.
        process = self._process
        if process is None or process.pid != os.getpid():
            process = self._process = _Process()
        return process

    def _wait(self, token: str, future: Future[Outcome] | Down) -> Outcome:
        if future is DOWN:
            return DOWN
        try:
            return future.result(TIME_LIMIT)
        except TimeoutError:
            return self._too_slow(token, future)

    async def _wait_async(self, token: str, future: Future[Outcome] | Down) -> Outcome:
        if future is DOWN:
            return DOWN
        await _settled(future, TIME_LIMIT)
        return future.result() if future.done() else self._too_slow(token, future)

    def _begin(self, token: str) -> tuple[Future[Outcome] | Down, bool]:
        """
        Begin a fetch, or join the one of this token that is under way; and whether it was joined.

        One that was joined may have looked before the token was presented, so its "unknown" is no answer to who came later:
        they ask once more, by a fetch that begins after they came.
        """
        from concurrent.futures import Future

        process = self._current()
        with process.lock:
            if time.monotonic() < process.refuse_until:
                return DOWN, False
            future = process.fetches.get(token)
            if future is not None:
                return future, True
            future = process.fetches[token] = Future()
        # Running futures cannot be cancelled: a client that goes away must not take the answer from those who joined.
        future.set_running_or_notify_cancel()
        deadline = time.monotonic() + TIME_LIMIT

        def work() -> None:
            # Those who waited have given up when the deadline is over: a full queue must not become a late burst of calls.
            outcome = DOWN if time.monotonic() > deadline else self._ask(token)
            process.forget(token, future)
            if outcome is DOWN:
                process.refuse()
            future.set_result(outcome)

        if process.pool.run(work):
            return future, False
        process.forget(token, future)
        process.refuse()
        future.set_result(DOWN)  # others may have joined
        self._log("no thread can be started to ask it: as many run as the system allows")
        return DOWN, False

    def _ask_here(self, token: str) -> Outcome:
        process = self._current()
        if time.monotonic() < process.refuse_until:
            return DOWN
        outcome = self._ask(token)
        if outcome is DOWN:
            process.refuse()
        return outcome

    def _ask(self, token: str) -> Outcome:
        # A source may be anybody's code: its failure is a 503, never the app's.
        try:
            answer = self.source.key_authorization(token)
        except Exception as error:
            self._log(f"{type(error).__name__}: {error}")
            logger.debug("the challenge store failed", exc_info=True)
            return DOWN
        if answer is None or (isinstance(answer, str) and answer.isascii()):
            return answer
        returned = "text that is not ASCII" if isinstance(answer, str) else f"{type(answer).__name__}, not ASCII text"
        self._log(f"key_authorization() returned {returned}")
        return DOWN

    def _too_slow(self, token: str, future: Future[Outcome]) -> Down:
        process = self._current()
        process.forget(token, future)  # the next fetch asks anew, rather than wait for a call that may never return
        process.refuse()
        self._log(f"no answer in {TIME_LIMIT:g} s")
        return DOWN

    def _log(self, reason: str) -> None:
        """One line per second at most: the path is public, and bots ask for many tokens."""
        now = time.monotonic()
        with self._current().lock:
            due = now - self._logged_at >= REFUSED_FOR
            self._logged_at = now if due else self._logged_at
        if due:
            logger.warning("the challenge store failed, challenge requests get 503: %s", reason)


class _Process:
    """What belongs to one process: a fork must not share it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.pool = _Pool()
        self.fetches: dict[str, Future[Outcome]] = {}
        self.refuse_until = float("-inf")

    def forget(self, token: str, future: Future[Outcome]) -> None:
        with self.lock:
            if self.fetches.get(token) is future:
                del self.fetches[token]

    def refuse(self) -> None:
        with self.lock:
            self.refuse_until = time.monotonic() + REFUSED_FOR


class _Pool:
    """Daemon threads: those of concurrent.futures are joined at exit, and one hung call would keep the server from ending."""

    def __init__(self) -> None:
        from queue import SimpleQueue

        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0

    def run(self, call: Callable[[], None], *, at_most: int | None = None) -> bool:
        with self._lock:
            if at_most is not None and self._unfinished >= at_most:
                return False
            # Started before it is counted, and both under the lock: a call is only left to a thread that is there.
            if self._threads < min(self._unfinished + 1, THREADS):
                try:
                    threading.Thread(target=self._work, name="acme-middleware", daemon=True).start()
                except RuntimeError:  # as many threads as the system allows, or Python is ending
                    if not self._threads:
                        return False
                else:
                    self._threads += 1
            self._unfinished += 1
        self._calls.put(call)
        return True

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            try:
                call()
            except Exception:
                logger.exception("a call in the background failed")
            finally:
                with self._lock:
                    self._unfinished -= 1


async def _settled(future: Future[Outcome], limit: float) -> None:
    """Wait until the future is done or the limit is over, on whichever event loop this is."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        await _settled_trio(future, limit)
    else:
        waiter = asyncio.wrap_future(future)
        try:
            await asyncio.wait([waiter], timeout=limit)
        finally:
            waiter.cancel()  # else a call that ends after this loop would try to wake it


async def _settled_trio(future: Future[Outcome], limit: float) -> None:
    import trio

    done, loop = trio.Event(), trio.lowlevel.current_trio_token()

    def wake(_: Future[Outcome]) -> None:
        try:
            loop.run_sync_soon(done.set)
        except trio.RunFinishedError:
            logger.debug("a fetch ended after its event loop")  # nobody waits any more

    future.add_done_callback(wake)
    with trio.move_on_after(limit):
        await done.wait()
