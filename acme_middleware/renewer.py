"""Renewal inside of a web server: a thread in each of its processes, of which one, the leader, looks after all certificates."""

from __future__ import annotations

import atexit
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Iterable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from acme_middleware import clock, events, options
from acme_middleware._text import printable
from acme_middleware.errors import AcmeMiddlewareError, ConfigurationError, LeaseHeld, LeaseLost
from acme_middleware.lease import Lease, lease
from acme_middleware.options import Options
from acme_middleware.stores import open_store

if TYPE_CHECKING:
    from acme_middleware.issuance.following import Follower
    from acme_middleware.issuance.sweep import Result

__all__ = ["Renewer", "interval"]

TTL = 60.0
FIRST = 60.0
STOP_LIMIT = 5.0
LONGEST = timedelta(hours=6)
PER_LIFETIME = 144
"""Looks in one lifetime: every hour at 6 days, every six hours from 36 days on."""

SHORTEST_PAUSE, AFTER_ERROR = 60.0, 600.0
LOOK_AGAIN = 5
FOLLOW = 60.0
"""Seconds between two looks whether another host has a new certificate, where this one publishes and deploys them."""

AGAIN = {"failed", "must wait", "in progress"}

logger = logging.getLogger(__name__)


def interval(lifetimes: Iterable[timedelta]) -> timedelta:
    """
    How often to look whether a certificate is due: every 6 hours, more often for short lifetimes, every hour for 6 days.

    Args:
        lifetimes: Those of the certificates there are; the shortest decides.
    """
    shortest = min(lifetimes, default=LONGEST * PER_LIFETIME)
    return max(timedelta(seconds=SHORTEST_PAUSE), min(LONGEST, shortest / PER_LIFETIME))


class _Stopped(BaseException):
    """Ends a sweep. Nothing that failed: so no Exception, which would be counted as a failure of the name."""


class Renewer:
    """
    Renew certificates from within a web server, for as long as it runs.

        with Renewer(store="file:///var/lib/acme-middleware", email="ops@example.com", agree_tos=True):
            ...  # serve

    Start one in every process that serves, after it has forked. One of all that share the store leads, by a lease: it looks
    at once, and then again and again, whether a certificate is due, and renews it. The others stand by. When the leader is
    killed another takes its place: on the same host within half of ``ttl``, on another host within twice ``ttl``. Where
    PUBLISH_DIR is set each host has a leader, which writes the files there and calls the deployers of its host, within a minute
    of the renewal by another host too; still each certificate is renewed once. Errors are logged and never leave the thread.

    A command on a timer does the same without living in a web server, and is the better choice where there are timers. Both
    together are safe.

    Args:
        given: The options, by their names in lower case: ``store``, ``ca``, ``email`` and so on. What is not given comes from
            ACME_* in the environment, then from /etc/acme-middleware.toml.
        chosen: All options at once, in place of ``given``.
        every: Seconds between two looks. By default it follows from the shortest lifetime there is: 6 hours, 1 hour for
            certificates of 6 days. Each pause is shortened by up to a fifth at random; it ends early when a name that
            failed may be tried again.
        jobs: How many names are renewed at the same time.
        listener: Is told what happens, in the threads that do it; by default the log.
        first: The longest time before the first look, in seconds; the time is random, so that many workers that start
            together do not come together.
        ttl: How long the lease lives without a sign of life from the leader, in seconds.

    Raises:
        ConfigurationError: an option is wrong, or no store is set.
        StoreMisconfigured: no store is known by that URL, or its driver is missing. One that is down is not an error here.
    """

    def __init__(
        self,
        chosen: Options | None = None,
        *,
        every: float | None = None,
        jobs: int = 4,
        listener: events.Listener = events.log,
        first: float = FIRST,
        ttl: float = TTL,
        **given: Any,
    ) -> None:
        if every is not None and not every > 0:
            raise ConfigurationError(f"every is {every!r}; it must be a positive number of seconds", option="every")
        self.options = options.of_this_process(**given) if chosen is None else chosen
        if self.options.store is None:
            raise ConfigurationError("no store is set", hint="pass store=... or set ACME_STORE", option="store")
        self._store = open_store(self.options.store)
        self._every, self._jobs, self._listener, self._first, self._ttl = every, jobs, listener, first, ttl
        self._expected = LONGEST.total_seconds()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._follower: Follower | None = None

    @property
    def running(self) -> bool:
        """Whether it was started in this process, and has not ended. A fork leaves the child without the thread."""
        return _running.get(self._place) is self and self._thread is not None and self._thread.is_alive()

    def start(self) -> bool:
        """
        Start the thread of this process. Returns False where one for the same store runs already: then nothing happens.

        Call it again to be sure that it runs: after a fork it starts in the child.
        """
        with _guard:
            there = _running.get(self._place)
            if there is not None and there._thread is not None and there._thread.is_alive():
                return False
            # New ones: after a fork the old event may be locked for ever by a thread that is not in this process.
            self._stop = stop = threading.Event()
            self._follower = None  # it tells the one who listened then, and has connections of another process
            self._thread = threading.Thread(target=self._run, args=(stop,), name="acme-middleware renewer", daemon=True)
            _running[self._place] = self
            self._thread.start()
        atexit.register(self.stop)  # a lease that is given back makes nobody wait
        return True

    def stop(self, timeout: float = STOP_LIMIT) -> bool:
        """
        Stop the thread of this process. No further name is begun, and one that is under way is left at its next step: its
        tokens are removed, its lease is given back, and its order goes on in the next process.

        Args:
            timeout: Seconds to wait for the end. A thread that waits for a CA by then is left behind, and ends with the
                process.

        Returns:
            Whether it has ended.
        """
        with _guard:
            if _running.get(self._place) is not self:
                return True
            del _running[self._place]
            thread = self._thread
        atexit.unregister(self.stop)
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.stop()

    @property
    def _place(self) -> object:
        store = self.options.store
        return str(store) if isinstance(store, str | os.PathLike) else id(store)

    @property
    def _role(self) -> str:
        """What the leader leads: files are each host's own, so where they are written each host needs one who does it."""
        # With a space in it: no certificate has such a name, and so none has this lease.
        return "renewing everywhere" if self.options.publish_dir is None else f"renewing on {socket.gethostname()}"

    def _run(self, stop: threading.Event) -> None:
        pause = random.uniform(0, self._first)  # noqa: S311
        logger.info("process %d takes part in renewing certificates, in %.0f s at the latest", os.getpid(), self._first)
        while not stop.wait(pause):
            try:
                with lease(self._store, self._role, ttl=self._ttl, wait=float("inf"), poll=self._ttl / 2, stop=stop) as held:
                    logger.info("process %d leads: it renews the certificates that are due", os.getpid())
                    self._lead(held, stop)
            except LeaseHeld:
                return  # stopped while it stood by
            except LeaseLost as error:
                logger.warning("%s: another process leads now", error)
            except AcmeMiddlewareError as error:
                logger.error("renewal inside of the server: %s (%s)", error, error.hint)
            except Exception:
                logger.exception("renewal inside of the server failed, and goes on")
            pause = random.uniform(0.5, 1) * self._ttl  # noqa: S311

    def _lead(self, held: Lease, stop: threading.Event) -> None:
        while not stop.is_set():
            held.check()
            until = time.monotonic() + self._sweep(stop)
            # In pieces: a leader that lost its lease while the machine slept should not believe in itself for hours.
            pieces = LOOK_AGAIN * self._ttl if self.options.publish_dir is None else min(FOLLOW, LOOK_AGAIN * self._ttl)
            while (left := until - time.monotonic()) > 0 and not stop.wait(min(left, pieces)):
                held.check()
                self._follow(stop)

    def _follow(self, stop: threading.Event) -> None:
        """Publish and deploy here what another host has renewed since the last look."""
        if self.options.publish_dir is None:
            return
        try:
            if self._follower is None:
                from acme_middleware.issuance.following import Follower  # a stand-by never needs it

                self._follower = Follower(self.options, listener=self._telling(stop))
            for result in self._follower.look():
                if result.error is not None:
                    # The name of a damaged record may be any text.
                    logger.error("%s: %s (%s)", *map(printable, (result.name, result.error, result.error.hint)))
        except _Stopped:
            return
        except AcmeMiddlewareError as error:
            logger.error("following the other hosts: %s (%s)", error, error.hint)
        except Exception:
            logger.exception("following the other hosts failed, and goes on")

    def _sweep(self, stop: threading.Event) -> float:
        """Look after all certificates once; returns the seconds until the next time."""
        every = self._every or self._expected
        try:
            from acme_middleware.issuance.sweep import sweep  # a stand-by never needs it

            results = sweep(self.options, jobs=self._jobs, listener=self._telling(stop), stop=stop, every=every)
        except _Stopped:
            return 0.0
        except AcmeMiddlewareError as error:
            logger.error("renewal inside of the server: %s (%s)", error, error.hint)
        except Exception:
            logger.exception("renewal inside of the server failed, and goes on")
        else:
            return self._pause(results)
        return min(every, AFTER_ERROR) * random.uniform(0.8, 1)  # noqa: S311

    def _telling(self, stop: threading.Event) -> events.Listener:
        """The listener; where it stands in the way of a stop, the work ends there: what a listener raises ends it cleanly."""

        def tell(event: events.Event) -> None:
            self._listener(event)
            if stop.is_set():
                raise _Stopped

        return tell

    def _pause(self, results: list[Result]) -> float:
        lifetimes = [result.record.not_after - result.record.not_before for result in results if result.record]
        self._expected = interval(lifetimes).total_seconds()
        pause = (self._every or self._expected) * random.uniform(0.8, 1)  # noqa: S311
        now = clock.now()
        # A name that has failed may be tried again long before the next look.
        again = [(result.next_try - now).total_seconds() for result in results if result.next_try and result.action in AGAIN]
        return min([pause, *(max(SHORTEST_PAUSE, seconds + 1) for seconds in again)])


_guard = threading.RLock()
_running: dict[object, Renewer] = {}
"""The renewers of this process, by their stores."""


def _forget() -> None:
    """In a child after a fork: no thread is there any more, and the lock may have been held by one."""
    global _guard  # noqa: PLW0603
    _guard = threading.RLock()
    _running.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget)
