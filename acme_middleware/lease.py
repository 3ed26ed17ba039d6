"""
A lease: one process at a time does something, on whatever hosts the processes run.

No clock of the day decides: hosts may be an hour apart. The holder rewrites its record every third of the time to live, and a
contender takes over when it has seen the record unchanged for one time to live by its own monotonic clock. On the same host
nobody waits for the dead: a contender that finds the holder's process gone takes over at once.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from acme_middleware import clock
from acme_middleware._holder import Holder, this_process
from acme_middleware.errors import Conflict, LeaseHeld, LeaseLost, StoreMisconfigured, StoreUnavailable
from acme_middleware.held import LeaseState
from acme_middleware.stores.base import Expect, Record, Store, key

__all__ = ["Lease", "lease"]

log = logging.getLogger("acme_middleware.lease")

FIRST_POLL, LONGEST_POLL = 0.05, 0.5


@contextmanager
def lease(
    store: Store,
    name: str,
    *,
    ttl: float = 60.0,
    wait: float = 0.0,
    poll: float = LONGEST_POLL,
    stop: threading.Event | None = None,
) -> Iterator[Lease]:
    """
    Hold the lease of a name for the length of a ``with`` block.

    A lease keeps two processes from doing the same work; it cannot stop one that was suspended from going on when it wakes.
    So call :meth:`Lease.check` before each step that cannot be undone, and save with the version that was read under the lease.

    Args:
        store: Where the lease is kept: the store that all contenders share.
        name: What is leased.
        ttl: Seconds without a sign of life after which others take it over.
        wait: Seconds to wait for another holder; 0 tries once.
        poll: The longest time between two looks at another's lease, in seconds. Who waits for a long time, as a stand-by,
            should not ask a shared store twice a second.
        stop: Ends the waiting when it is set.

    Raises:
        LeaseHeld: another process holds it and did not end within ``wait``, or before ``stop`` was set.
        LeaseLost: at the end of the block, when it ended well but another had taken the lease over meanwhile.
        StoreUnavailable, StoreMisconfigured: from the store.
    """
    held = Lease(store, name, ttl)
    try:
        held._acquire(wait, poll, stop)
        yield held
    except BaseException:
        # The error of the body says more than what is wrong with the lease by now: that is logged.
        held._end(quiet=True)
        raise
    held._end(quiet=False)


class Lease:
    """A lease that is held; made by :func:`lease`. ``name`` is what it is for."""

    def __init__(self, store: Store, name: str, ttl: float) -> None:
        if not 0 < ttl < float("inf"):
            raise ValueError(f"ttl is {ttl!r}; it must be a positive number of seconds")
        self.name = name
        self._store, self._ttl, self._key = store, ttl, key("lock", name)
        self._me = this_process()
        self._id = secrets.token_hex(16)
        self._version = ""
        self._renewed = self._since = 0.0
        self._tried = self._lost = False
        self._writing = threading.Lock()
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, name=f"lease of {name}", daemon=True)

    def check(self) -> None:
        """
        Make sure that the lease is still held, by rewriting its record.

        While the store is unavailable the lease counts as held until one time to live after the last rewrite.

        Raises:
            LeaseLost: another has taken it, or may have.
            StoreMisconfigured: from the store.
        """
        if os.getpid() != self._me.pid:
            raise self._loss("belongs to the process that this one was forked from")
        try:
            self._renew()
        except StoreUnavailable as error:
            if _clock() - self._renewed >= self._ttl:
                raise self._loss(f"could not be renewed for {self._ttl:g} s: {error}") from error

    def _acquire(self, wait: float, poll: float, stop: threading.Event | None) -> None:
        stop = stop or threading.Event()
        deadline, pause = time.monotonic() + wait, min(FIRST_POLL, poll)
        seen, since = "", 0.0
        while True:
            before = time.monotonic()
            record = self._store.get(self._key)
            state = LeaseState.read(record, self._ttl)
            if record is None or record.version != seen:
                seen, since = record.version if record else "", time.monotonic()
            if record is None or state.free or state.holder.is_gone() or before - since >= state.ttl:
                if self._take(record):
                    break
            elif before >= deadline or stop.is_set():
                raise self._held_by(state.holder)
            stop.wait(max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(pause * 1.5, poll)
        self._heart.start()

    def _take(self, record: Record | None) -> bool:
        self._tried, self._renewed, self._since = True, _clock(), _time()
        try:
            self._version = self._put("held", record.version if record else Expect.ABSENT)
        except Conflict:
            return False  # another contender was faster
        return True

    def _beat(self) -> None:
        while not self._over.wait(self._ttl / 3):
            try:
                self._renew()
            except LeaseLost:
                return  # check() says so to whom it concerns
            except (StoreUnavailable, StoreMisconfigured) as error:
                # Not the end yet: the store may be back before the lease has run out. check() judges.
                log.warning("the lease of %s could not be renewed: %s", self.name, error)

    def _renew(self) -> None:
        with self._writing:
            if self._over.is_set():
                raise self._loss("was given back")
            started = _clock()
            self._rewrite("held")
            self._renewed = started

    def _rewrite(self, state: str) -> None:
        if not self._lost:
            try:
                self._version = self._put(state, self._version)
            except Conflict:
                # A write of ours may have got through though the store said that it was unavailable.
                record = self._store.get(self._key)
                self._lost = record is None or LeaseState.read(record, self._ttl).lease != self._id
                if record is not None and not self._lost:
                    try:
                        self._version = self._put(state, record.version)
                    except Conflict:
                        self._lost = True  # taken between the two, by who had waited for one time to live
        if self._lost:
            raise self._loss("was taken over by another process")

    def _end(self, *, quiet: bool) -> None:
        self._over.set()
        try:
            if self._heart.ident is not None:
                self._heart.join()
        finally:  # a second Ctrl-C while the thread ends
            if self._tried and os.getpid() == self._me.pid:
                self._release(quiet=quiet)

    def _release(self, *, quiet: bool) -> None:
        try:
            with self._writing:
                if not self._version:
                    # Interrupted while it took the lease, or never got it.
                    record = self._store.get(self._key)
                    if record is None or LeaseState.read(record, self._ttl).lease != self._id:
                        return
                    self._version = record.version
                # Marked free, never deleted: a record that comes and goes would need an order for ABSENT writers.
                self._rewrite("free")
        except (LeaseLost, Conflict) as error:
            if not quiet:
                raise
            log.warning("%s", error)
        except (StoreUnavailable, StoreMisconfigured) as error:
            # The work is done, and the lease ends by itself.
            log.warning("the lease of %s was not given back, others wait up to %g s: %s", self.name, self._ttl, error)

    def _put(self, state: str, expect: str | Expect) -> str:
        facts = {"schema": 1, "state": state, "lease": self._id, "ttl": self._ttl, "holder": self._me.facts()}
        facts |= {"since": self._since, "seen": _time()}  # for people: by the holder's clock, and nothing is decided by it
        return self._store.put(self._key, json.dumps(facts).encode(), expect=expect)

    def _loss(self, how: str) -> LeaseLost:
        return LeaseLost(
            f"the lease of {self.name} {how}",
            hint="run the command again: it goes on from what has been saved, by this process and by the other",
            name=self.name,
        )

    def _held_by(self, holder: Holder) -> LeaseHeld:
        return LeaseHeld(
            f"{self.name} is being worked on by {holder}",
            hint="wait for it, longer with --wait; if it has died on another host, its lease lapses by itself",
            name=self.name,
            holder=str(holder),
        )


def _time() -> float:
    return round(clock.now().timestamp(), 3)


def _clock() -> float:
    """Seconds that pass while the machine is suspended too, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
