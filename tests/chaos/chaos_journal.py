"""What the commands of a host have told (chaos_instruments.py), and what the CA has."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acme_middleware.local_ca import LocalCA
from acme_middleware.local_ca.model import Order

Line = dict[str, Any]


def read(journal: Path, *, since: float = 0.0) -> list[Line]:
    """The lines of a journal; the last one may be in the middle of being written, and is left for the next time."""
    if not journal.exists():
        return []
    text = journal.read_text()
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [line for line in lines if line["at"] >= since]


@dataclass
class Placed:
    """
    An order, as the CA saw it come.

    Attributes:
        at: When, by the monotonic clock.
        alive: The earlier orders for the name that could still bring a certificate at that moment, or had brought it.
    """

    order: Order
    at: float
    alive: list[str] = field(default_factory=list)


class CountedOrders(dict[str, Order]):
    """In place of the CA's own table of orders: each is noted as it is placed."""

    def __init__(self, ca: LocalCA) -> None:
        super().__init__(ca.state.orders)
        self._ca = ca
        self._placed: list[Placed] = []
        self._lock = threading.Lock()

    def __setitem__(self, number: str, order: Order) -> None:
        # The CA holds the lock of its state here.
        now = self._ca.now()
        earlier = [other for other in self.values() if other.identifiers == order.identifiers]
        for other in earlier:
            other.settle(now, self._ca.rules)
        alive = [other.id for other in earlier if other.status != "invalid"]
        with self._lock:
            self._placed.append(Placed(order, time.monotonic(), alive))
        super().__setitem__(number, order)

    def placed(self, name: str, *, since: float = 0.0) -> list[Placed]:
        """The orders for a name from a moment on."""
        with self._lock:
            return [entry for entry in self._placed if entry.at >= since and entry.order.identifiers[0].value == name]


def count_orders(ca: LocalCA) -> CountedOrders:
    """Begin to count the orders of a CA that has none yet."""
    ca.state.orders = counted = CountedOrders(ca)
    return counted
