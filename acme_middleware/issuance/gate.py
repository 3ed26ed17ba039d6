"""
What an app lets be ordered: the names that it allows, and so many orders an hour.

Customers bring names of their own, and whoever points a thousand of them at the app would spend what its CA grants. The orders
of the last hour are in the store, so that all processes and hosts count together.
"""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from acme_middleware import clock
from acme_middleware.authorities import Limit
from acme_middleware.errors import ConfigurationError, Conflict, NotAllowed, NotYet
from acme_middleware.issuance.budgets import Budget, BudgetRecord, counting, decoded, is_listed, registered_domain, tidy
from acme_middleware.issuance.ledger import when
from acme_middleware.protocol.identifier import Identifier
from acme_middleware.stores.base import Expect, Store, key

HOUR = timedelta(hours=1)
PLACE = key("budget", "caps")
"""No CA's id is this word; so no account's budget is here."""

TRIES = 60
"""So many writers may come in between. The record of all orders is everybody's, and a cap that is not kept is none."""

PAUSE = 0.05
"""The longest pause between two tries, in seconds. Its length is random, so that those who met once do not meet again."""


class Gate:
    """
    The rules for one call of :meth:`acme_middleware.issuance.issuer.Issuer.issue`.

    Args:
        allow: Is called with each name, as the certificate will have it: in lower case, an IDN as its A-label. Only True allows
            it; anything else, and any exception, refuses it. Not called where there is nothing to ask the CA for.
        hourly_per_domain: The most orders for one registered domain and what is below it, in any hour.
        hourly: The most orders in all, in any hour.

    Raises:
        ConfigurationError: a cap is no positive number, or ``allow`` is a coroutine function.
    """

    def __init__(
        self,
        *,
        allow: Callable[[str], bool] | None = None,
        hourly_per_domain: int | None = None,
        hourly: int | None = None,
    ) -> None:
        for option, cap in (("hourly_per_domain", hourly_per_domain), ("hourly", hourly)):
            if cap is not None and (type(cap) is not int or cap < 1):
                raise ConfigurationError(f"{option} is {cap!r}; it must be a whole number, 1 or more", option=option)
        if allow is not None and (not callable(allow) or inspect.iscoroutinefunction(allow)):
            raise ConfigurationError(
                f"allow is {'a coroutine function' if callable(allow) else repr(allow)}; it must be a plain function",
                hint="it is called in a thread of its own, with a name, and returns True where that is allowed",
                option="allow",
            )
        self.allow, self.hourly_per_domain, self.hourly = allow, hourly_per_domain, hourly
        self._allowed = self._taken = False

    def refuse(self, store: Store, lineage: str, wanted: Sequence[Identifier], *, order_waits: bool) -> None:
        """
        Refuse what is not allowed, before anything is asked of the CA.

        Args:
            lineage: The certificate's name.
            order_waits: An earlier run has placed the order already: no other one will count.

        Raises:
            NotAllowed: ``allow`` did not return True for a name.
            NotYet: a cap is reached; it says when there is room again.
        """
        if not self._allowed:
            for entry in wanted:
                self._ask(entry.value)
            self._allowed = True
        if order_waits or self._taken:
            return
        now = clock.now()
        for option, cap in self._caps(wanted):
            times = counting(decoded(cap.where, store.get(cap.where)), HOUR, now)
            if (end := cap.full_until(times)) is not None:
                raise _full(lineage, option, cap, end)

    def take(self, store: Store, lineage: str, wanted: Sequence[Identifier]) -> None:
        """
        Count an order that is about to be placed, or refuse it. Of two processes that both see room for one, one is refused.

        Raises:
            NotYet: another process has taken the room that there was.
            Conflict: too many others count at this moment.
        """
        if self._taken:  # the CA refused the order as it was, and gets it in another form
            return
        for option, cap in self._caps(wanted):
            _take(store, lineage, option, cap)
        self._taken = True
        if self.hourly_per_domain or self.hourly:
            _tidy_now_and_then(store)

    def _ask(self, name: str) -> None:
        if self.allow is None:
            return
        try:
            answer: object = self.allow(name)
        except Exception as error:
            # What it says may quote a password of a database: it stands in the traceback, and in no message.
            raise NotAllowed(
                f"{name} is not allowed: allow() failed with {type(error).__name__}",
                hint="a name that could not be looked up is refused; nothing was asked of the CA",
                name=name,
            ) from error
        if answer is True:
            return
        if inspect.iscoroutine(answer):
            answer.close()
        returned = "" if answer is False else f": allow() returned {type(answer).__name__}, and only True allows"
        raise NotAllowed(f"{name} is not allowed{returned}", hint="allow() decides; nothing was asked of the CA", name=name)

    def _caps(self, wanted: Sequence[Identifier]) -> Iterator[tuple[str, Budget]]:
        """The one that is everybody's comes last: who is refused by another takes nothing from it."""
        if self.hourly_per_domain:
            for domain in sorted({_domain(entry) for entry in wanted}):
                where = f"{PLACE}/{key(f'domain-{domain}')}"
                yield "hourly_per_domain", Budget(Limit(self.hourly_per_domain, HOUR), where, f"for {domain} and below")
        if self.hourly:
            yield "hourly", Budget(Limit(self.hourly, HOUR), f"{PLACE}/all", "in all")


def _domain(entry: Identifier) -> str:
    """Below a top-level domain that is newer than the list, a customer's thousand subdomains are one domain's all the same."""
    if entry.type == "dns" and not is_listed(entry.value):
        return ".".join(entry.value.split(".")[-2:])
    return registered_domain(entry)


def _take(store: Store, lineage: str, option: str, cap: Budget) -> None:
    for _ in range(TRIES):
        now = clock.now()
        stored = store.get(cap.where)
        # All that count, and not only as many as this cap: another call may have a higher one.
        times = counting(decoded(cap.where, stored), HOUR, now)
        if (end := cap.full_until(times)) is not None:
            raise _full(lineage, option, cap, end)
        try:
            _record([*times, int(now.timestamp())]).write(store, cap.where, expect=stored.version if stored else Expect.ABSENT)
        except Conflict:
            time.sleep(random.uniform(0, PAUSE))  # noqa: S311
        else:
            return
    raise Conflict(
        f"the orders {cap.what} could not be counted: too many processes do so at once", hint="try again", key=cap.where
    )


def _full(lineage: str, option: str, cap: Budget, end: datetime) -> NotYet:
    orders = "order" if cap.limit.most == 1 else "orders"
    return NotYet(
        f"{lineage} must wait: {option} allows {cap.limit.most} {orders} {cap.what} in an hour, and there have been as many",
        hint=f"allowed again from {when(end, up=True)} on; no order was placed",
        name=lineage,
        allowed_at=end,
        cap=option,
    )


def _record(times: Sequence[int]) -> BudgetRecord:
    return BudgetRecord(times=tuple(times), window=int(HOUR.total_seconds()))


def _tidy_now_and_then(store: Store) -> None:
    """Once an hour, drop what counts no more: there may be as many records as customers have domains."""
    where, now = f"{PLACE}/tidied", clock.now()
    stored = store.get(where)
    if counting(decoded(where, stored), HOUR, now):
        return
    try:
        _record([int(now.timestamp())]).write(store, where, expect=stored.version if stored else Expect.ABSENT)
    except Conflict:
        return  # another process has just begun to
    tidy(store, PLACE, now)
