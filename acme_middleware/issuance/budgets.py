"""
What a CA that tells its limits has been asked for lately, so that a request which it would refuse is not made.

Each limit of each subject (an account, a set of names, a name, a registered domain) has a record with the times of what
counted, no more of them than the limit has; so no record grows, and two hosts seldom write the same one. What is counted here
is what we asked for: whoever else uses the account or the domain is not known, and then the CA itself refuses.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from acme_middleware import clock
from acme_middleware.authorities import Authority, Limit
from acme_middleware.errors import Conflict, NotYet, StoreMisconfigured
from acme_middleware.issuance.ledger import when
from acme_middleware.issuance.records import Stored
from acme_middleware.protocol.identifier import Identifier
from acme_middleware.stores.base import Expect, Record, Store, key

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

logger = logging.getLogger(__name__)

TRIES = 20
"""So many writers may come in between. A lost count costs a refusal by the CA; an error here would cost a certificate."""

DAY = 86400

HOSTS_APART = timedelta(minutes=5)
"""A time so little in the future is of a host whose clock is ahead; a later one is of a clock that was wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRecord(Stored):
    """When something counted, in whole seconds since 1970, the oldest first; ``window`` is for how many seconds it counts."""

    times: tuple[int, ...]
    window: int


class Budget(NamedTuple):
    """A limit, and what it is for."""

    limit: Limit
    where: str
    what: str

    def lately(self, record: BudgetRecord | None, now: datetime) -> list[int]:
        """The times that still count."""
        return counting(record, self.limit.window, now)[-self.limit.most :]

    def full_until(self, times: Sequence[int]) -> datetime | None:
        """When there is room again; None where there is room."""
        if len(times) < self.limit.most:
            return None
        # Stored without its fraction of a second, hence the second more.
        return datetime.fromtimestamp(times[-self.limit.most] + 1, UTC) + self.limit.window


class Spent(NamedTuple):
    """What is spent of a limit, in a few words for people, and until when it is full."""

    words: str
    full_until: datetime | None


class Budgets:
    """
    The budgets of one account at one CA; without limits of that CA, there are none.

    Args:
        authority: The CA.
        account: The account's id there.
    """

    def __init__(self, store: Store, authority: Authority, account: str) -> None:
        self.store, self.limits, self.title = store, authority.limits, authority.title
        self._place = (authority.id, account)

    def refuse_order(self, name: str, wanted: Sequence[Identifier]) -> None:
        """
        Refuse an order that the CA would refuse.

        Args:
            name: The certificate's name.

        Raises:
            NotYet: it says which limit is reached, and when the order is allowed.
        """
        self._refuse(name, [*self._orders(), *self._certificates(wanted)])

    def refuse_validation(self, name: str, wanted: Sequence[Identifier]) -> None:
        """Refuse, in the same way, to have names validated that failed too often."""
        self._refuse(name, self._failures(wanted))

    def ordered(self) -> None:
        """Count an order that was placed."""
        for budget in self._orders():
            *before, now = self._count(budget)
            # Once a day the records of all that has not been asked for again since are dropped.
            if not before or before[-1] // DAY != now // DAY:
                self.tidy(clock.now())

    def issued(self, wanted: Sequence[Identifier]) -> None:
        """Count a certificate that was issued."""
        for budget in self._certificates(wanted):
            self._count(budget)

    def failed(self, names: Iterable[str]) -> Spent | None:
        """
        Count a failed validation of each name.

        Returns:
            How the name stands that has the most; None where the CA has no such limit.
        """
        counted = [(self._count(budget), budget) for budget in self._failed(names)]
        if not counted:
            return None
        times, budget = max(counted, key=lambda pair: len(pair[0]))
        return Spent(
            f"{len(times)} of {budget.limit.most} failed validations this {span(budget.limit.window)}",
            budget.full_until(times),
        )

    def tidy(self, now: datetime) -> None:
        """Drop the records in which nothing counts any more, and those that cannot be understood."""
        tidy(self.store, key("budget", *self._place), now)

    def _orders(self) -> Iterator[Budget]:
        if self.limits and self.limits.orders:
            yield Budget(self.limits.orders, self._where("orders"), "new orders")

    def _certificates(self, wanted: Sequence[Identifier]) -> Iterator[Budget]:
        names = sorted(entry.value for entry in wanted)
        if self.limits and self.limits.same_names:
            digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:32]
            yield Budget(self.limits.same_names, self._where(f"set-{digest}"), "certificates for exactly these names")
        if self.limits and self.limits.domain:
            for domain in sorted({registered_domain(entry) for entry in wanted}):
                yield Budget(self.limits.domain, self._where(f"domain-{domain}"), f"certificates for {domain} and below")

    def _failures(self, wanted: Sequence[Identifier]) -> Iterator[Budget]:
        return self._failed(entry.value for entry in wanted)

    def _failed(self, names: Iterable[str]) -> Iterator[Budget]:
        if self.limits and self.limits.failures:
            for name in names:
                yield Budget(self.limits.failures, self._where(f"failed-{name}"), f"failed validations of {name}")

    def _where(self, what: str) -> str:
        return key("budget", *self._place, what)

    def _refuse(self, name: str, budgets: Iterable[Budget]) -> None:
        now = clock.now()
        full: list[tuple[datetime, Budget]] = []
        for budget in budgets:
            end = budget.full_until(budget.lately(decoded(budget.where, self.store.get(budget.where)), now))
            if end is not None:
                full.append((end, budget))
        if full:
            allowed_at, budget = max(full, key=lambda pair: pair[0])
            raise NotYet(
                f"{self.title} allows {budget.limit.most} {budget.what} in {span(budget.limit.window, number=True)}, "
                f"and {name} has used them up",
                hint=f"allowed again from {when(allowed_at, up=True)} on; nothing was asked of the CA\n"
                "while trying things out, --staging has limits of its own",
                name=name,
                allowed_at=allowed_at,
            )

    def _count(self, budget: Budget) -> list[int]:
        """Count one more; returns all the times that count, that one being the last."""
        now = clock.now()
        times: list[int] = []
        for _ in range(TRIES):
            stored = self.store.get(budget.where)
            times = [*budget.lately(decoded(budget.where, stored), now), int(now.timestamp())][-budget.limit.most :]
            record = BudgetRecord(times=tuple(times), window=int(budget.limit.window.total_seconds()))
            try:
                record.write(self.store, budget.where, expect=stored.version if stored else Expect.ABSENT)
            except Conflict:
                continue
            break
        return times


def registered_domain(identifier: Identifier) -> str:
    """
    The part of a name that somebody has registered: example.co.uk for www.example.co.uk.

    An IP address, a public suffix itself, and a name below none count by themselves.
    """
    if identifier.type != "dns":
        return identifier.value
    return _suffixes().privatesuffix(identifier.value) or identifier.value


def is_listed(name: str) -> bool:
    """Whether the list of public suffixes knows what a DNS name ends in: it is older than the newest top-level domains."""
    return _suffixes().publicsuffix(name) is not None


@cache
def _suffixes() -> PublicSuffixList:
    from publicsuffixlist import PublicSuffixList  # 60 ms for its list, which only CAs with limits cost

    return PublicSuffixList(accept_unknown=False)


def counting(record: BudgetRecord | None, window: timedelta, now: datetime) -> list[int]:
    """The times of a record that still count, the oldest first."""
    if record is None:
        return []
    begin, end = (now - window).timestamp(), (now + HOSTS_APART).timestamp()
    return sorted(time for time in record.times if type(time) is int and begin < time <= end)


def tidy(store: Store, place: str, now: datetime) -> None:
    """Drop the records below a key in which nothing counts any more, and those that cannot be understood."""
    for where, stored in list(store.scan(place + "/")):
        try:
            record = BudgetRecord.decode(where, stored.value, stored.version)
            ended = max(record.times, default=0) + record.window <= now.timestamp()
        except (StoreMisconfigured, TypeError):
            ended = True
        if ended:
            try:
                store.delete(where, expect=stored.version)
            except Conflict:  # it has just been counted on
                continue


def decoded(where: str, stored: Record | None) -> BudgetRecord | None:
    """The record of what a store gave, None for nothing, or for what cannot be understood."""
    try:
        return None if stored is None else BudgetRecord.decode(where, stored.value, stored.version)
    except StoreMisconfigured as error:
        logger.warning("%s; it counts as none", error)  # it is made anew when something counts
        return None


def span(window: timedelta, *, number: bool = False) -> str:
    """A window in words: "3 hours"; where its number is not asked for, 1 is left out."""
    hours = round(window.total_seconds() / 3600)
    count, unit = (hours // 24, "day") if hours % 24 == 0 else (hours, "hour")
    if number:
        return f"{count} {unit}{'s' if count > 1 else ''}"
    return unit if count == 1 else f"{count} {unit}s"
