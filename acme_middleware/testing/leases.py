"""What a lease over a store does, as tests: a store that passes lets one process at a time issue a certificate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from acme_middleware.errors import LeaseHeld, LeaseLost
from acme_middleware.lease import lease
from acme_middleware.stores.base import Store, key
from acme_middleware.testing.threads import together

Reopen = Callable[[], Store]

NAME = "example.com"
LOCK = key("lock", NAME)


class LeaseContract:
    """
    What :func:`~acme_middleware.lease.lease` does over a store.

    Inherit it beside :class:`~acme_middleware.testing.stores.StoreContract`, whose fixtures it uses. A store whose writes take
    longer than 50 ms raises ``lease_ttl``.
    """

    lease_ttl = 0.6
    contenders = 5

    def test_one_holds_it_and_another_is_told_who(self, store: Store, reopen: Reopen) -> None:
        with lease(store, NAME, ttl=self.lease_ttl) as held:
            held.check()
            with pytest.raises(LeaseHeld) as caught, lease(reopen(), NAME, ttl=self.lease_ttl):
                raise AssertionError("two hold the lease")
            assert caught.value.name == NAME
            assert caught.value.holder in str(caught.value)
            held.check()

    def test_leases_of_other_names_are_free(self, store: Store, reopen: Reopen) -> None:
        with lease(store, NAME, ttl=self.lease_ttl) as one, lease(reopen(), "www." + NAME, ttl=self.lease_ttl) as other:
            one.check()
            other.check()

    @pytest.mark.parametrize("error", [None, KeyError, KeyboardInterrupt], ids=["it ends", "it raises", "Ctrl-C"])
    def test_it_is_free_as_soon_as_the_work_ends(self, store: Store, reopen: Reopen, error: type[BaseException] | None) -> None:
        def work() -> None:
            with lease(store, NAME, ttl=30):
                if error is not None:
                    raise error

        if error is None:
            work()
        else:
            with pytest.raises(error):
                work()
        assert store.get(LOCK) is not None
        with lease(reopen(), NAME, ttl=30) as held:
            held.check()

    def test_it_is_kept_for_as_long_as_the_work_takes(self, store: Store, reopen: Reopen) -> None:
        with lease(store, NAME, ttl=self.lease_ttl) as held:
            with pytest.raises(LeaseHeld), lease(reopen(), NAME, ttl=self.lease_ttl, wait=2.5 * self.lease_ttl):
                raise AssertionError("two hold the lease")
            held.check()

    def test_a_record_that_nobody_renews_lapses_after_one_ttl(self, store: Store, reopen: Reopen) -> None:
        with lease(store, NAME, ttl=self.lease_ttl):
            abandoned = store.get(LOCK)
        assert abandoned is not None
        store.put(LOCK, abandoned.value)
        start = time.monotonic()
        with lease(reopen(), NAME, ttl=self.lease_ttl, wait=20 * self.lease_ttl) as held:
            took = time.monotonic() - start
            held.check()
        assert self.lease_ttl <= took < 5 * self.lease_ttl + 2

    def test_a_holder_that_was_overtaken_learns_it_at_the_next_check(self, store: Store, reopen: Reopen) -> None:
        def overtaken() -> None:
            with lease(store, NAME, ttl=30) as held:
                reopen().put(LOCK, b'{"schema": 1, "state": "held", "lease": "of another", "ttl": 30}')
                held.check()

        with pytest.raises(LeaseLost) as caught:
            overtaken()
        assert caught.value.name == NAME
        record = store.get(LOCK)
        assert record is not None
        assert b"of another" in record.value

    def test_who_waits_gets_it_soon_after_it_is_freed(self, store: Store, reopen: Reopen) -> None:
        holding, freed = threading.Event(), []

        def hold() -> float:
            with lease(reopen(), NAME, ttl=30):
                holding.set()
                time.sleep(0.5)
                freed.append(time.monotonic())
            return 0.0

        def wait() -> float:
            assert holding.wait(timeout=30)
            with lease(reopen(), NAME, ttl=30, wait=60) as held:
                held.check()
                return time.monotonic()

        got = together([hold, wait])[1]
        assert 0 <= got - freed[0] < 5

    def test_contenders_hold_it_one_at_a_time(self, store: Store, reopen: Reopen) -> None:
        inside: list[int] = []

        def contend(number: int) -> Callable[[], list[int]]:
            def call() -> list[int]:
                with lease(reopen(), NAME, ttl=30, wait=120) as held:
                    inside.append(number)
                    time.sleep(0.01)
                    seen = list(inside)
                    inside.remove(number)
                    held.check()
                    return seen

            return call

        assert together([contend(number) for number in range(self.contenders)]) == [[n] for n in range(self.contenders)]

    def test_no_thread_is_left_behind(self, store: Store) -> None:
        before = set(threading.enumerate())
        with lease(store, NAME, ttl=self.lease_ttl) as held:
            assert len(set(threading.enumerate()) - before) == 1
            held.check()
        assert set(threading.enumerate()) <= before
