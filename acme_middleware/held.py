"""Who holds a lease: what its record says, for those who want one and for people who look on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from acme_middleware._holder import Holder
from acme_middleware.stores.base import Record, Store, key

__all__ = ["Held", "LeaseState", "held", "is_held"]


@dataclass(frozen=True, slots=True)
class LeaseState:
    """What a lease's record says."""

    free: bool
    lease: str
    ttl: float
    holder: Holder
    since: Any
    seen: Any

    @classmethod
    def read(cls, record: Record | None, ttl: float) -> LeaseState:
        """Read a record; one that nobody can read is held by nobody known, and lapses after the ``ttl`` given."""
        try:
            facts = json.loads(record.value) if record else {}
        except ValueError:
            facts = {}
        if not isinstance(facts, dict):
            facts = {}
        # The holder's own time to live counts, not the contender's: it rewrites every third of that.
        said = facts.get("ttl")
        return cls(
            free=facts.get("state") == "free",
            lease=str(facts.get("lease", "")),
            ttl=said if isinstance(said, (int, float)) and 0 < said < float("inf") else ttl,
            holder=Holder.from_facts(facts.get("holder")),
            since=facts.get("since"),
            seen=facts.get("seen"),
        )


@dataclass(frozen=True, slots=True)
class Held:
    """
    A lease that somebody holds, as a person wants to see it.

    Attributes:
        name: What is leased.
        ttl: Seconds without a sign of life after which others take it over.
        since: When it was taken, by the clock of its holder; None where its record does not say.
        seen: The last sign of life, by the same clock.
    """

    name: str
    holder: Holder
    ttl: float
    since: datetime | None
    seen: datetime | None


def held(store: Store) -> list[Held]:
    """Every lease that is held, or was when its holder died."""
    found = []
    for where, record in store.scan(key("lock", "")):
        state = LeaseState.read(record, 0.0)
        if state.lease and not state.free:
            name = unquote(where.partition("/")[2])
            found.append(Held(name, state.holder, state.ttl, _moment(state.since), _moment(state.seen)))
    return found


def is_held(store: Store, name: str) -> bool:
    """Whether somebody holds the lease of this name, or did when they died on another host: one look, nothing is waited for."""
    record = store.get(key("lock", name))
    state = LeaseState.read(record, 0.0)
    return record is not None and not state.free and not state.holder.is_gone()


def _moment(seconds: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None  # whatever is in there: it is shown, not used
