"""
What happened, as values. Whoever wants to know subscribes: the log, a progress display, Django signals, an application.

A listener is any callable that takes an event. It is called in the thread that does the work, so it must be quick; what it
raises stops the work like any other error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from acme_middleware._text import printable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base of all events. ``name`` is the name of the certificate that it is about."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Event):
    """Another process is issuing the same certificate; ``holder`` says which."""

    holder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReady(Event):
    """The account at the CA is known; ``created`` if it was registered just now."""

    ca: str
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReady(Event):
    """An order is open; ``resumed`` if an earlier run had placed it."""

    names: tuple[str, ...]
    profile: str
    resumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented(Event):
    """The challenge store answers for ``identifier`` from now on."""

    identifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheckUnsure(Event):
    """Our own fetch of the token got no answer, at all or from some address; the CA may get one, so issuing goes on."""

    identifier: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated(Event):
    """The CA has validated ``identifier``; ``fetches`` counts what the store's log saw, None without a log."""

    identifier: str
    fetches: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued(Event):
    """A new certificate is saved. ``renewal`` if it replaces one that the same name had."""

    names: tuple[str, ...]
    ca: str
    serial: str
    not_after: datetime
    renewal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(Event):
    """The files of the certificate are current under ``directory``."""

    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified(Event):
    """A server was connected to at each of ``addresses``, and presents the certificate."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotServed(Event):
    """The certificate is not what a server presents, at some address at least; ``problems`` say where, and what instead."""

    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed(Event):
    """A deployer (``spec``, as DEPLOY has it) has taken the certificate to its server on this host."""

    spec: str
    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployFailed(Event):
    """The certificate did not reach the server of a deployer (``spec``); ``error`` says why. The next run tries again."""

    spec: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """Something did not go as it should and did not stop the work."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """Issuing stopped; ``error`` says why."""

    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiring(Event):
    """A certificate is about to expire, or has, and was not renewed now; ``reason`` says why not. Somebody must act."""

    not_after: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepBegan(Event):
    """All certificates are being looked after; ``name`` is the host. ``due`` of ``certificates`` are to be issued."""

    certificates: int
    due: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepEnded(Event):
    """A sweep is over; ``name`` is the host. ``counts`` says how many names each action was the end of."""

    counts: Mapping[str, int]


Listener = Callable[[Event], None]

LEVELS = {
    Failed: logging.ERROR,
    DeployFailed: logging.ERROR,
    NotServed: logging.ERROR,
    Expiring: logging.ERROR,
    Warned: logging.WARNING,
    SelfCheckUnsure: logging.WARNING,
}


def log(event: Event) -> None:
    """The listener that is always there: one line per event in the log ``acme_middleware.events``."""
    level = LEVELS.get(type(event), logging.INFO)
    facts = ", ".join(f"{field}={getattr(event, field)}" for field in type(event).__dataclass_fields__ if field != "name")
    logger.log(level, "%s: %s%s", printable(event.name), type(event).__name__, printable(f" ({facts})") if facts else "")
