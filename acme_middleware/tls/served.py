"""The certificates of one server: which one a client gets, and how a new one takes the place of the old."""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from acme_middleware.clock import now
from acme_middleware.tls.sources import Offer, Source

__all__ = ["Served"]

log = logging.getLogger("acme_middleware.tls")

MOST_CONTEXTS = 1000
"""Contexts in memory, some tens of kilobytes each. A fleet has more names than one process serves in a minute."""

SHARE = 20
"""A look at the source that costs much is made rarer: it may take a twentieth of the processor's time."""

PATIENCE = 10
"""What failed is not tried again for ten times as long as that took."""

MOST_TRIED = 3
"""Certificates that are tried for one handshake: a store that is away may make each of them wait."""

TRIED_AGAIN = "it is tried again by itself"

LOOK, HANDSHAKE = "/look", "/handshake"
"""What is told that is about no certificate; none has such a key."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A certificate in a context of its own."""

    offer: Offer
    context: ssl.SSLContext


class Served:
    """
    What one server serves. Called in the middle of handshakes, by many threads: it never raises, and the old stays.

    Args:
        source: Where certificates are.
        make: Makes a new context without a certificate.
        check_every: Seconds between looks at the source.
        default: The name whose certificate is for clients that no other is for.
    """

    def __init__(self, source: Source, make: Callable[[], ssl.SSLContext], *, check_every: float, default: str | None) -> None:
        self._source, self._make, self._check_every = source, make, check_every
        self._default = None if default is None else default.lower()
        self._offers: Mapping[str, Offer] = {}
        self._by_name: dict[str, list[Offer]] = {}
        self._looked = False
        self._next_look = float("-inf")
        self._held: dict[str, _Held] = {}
        self._not_before: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self._pid, self._lock = os.getpid(), threading.Lock()

    def on_hello(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, base: ssl.SSLContext) -> int | None:
        """The ``sni_callback``: move the handshake into the context of the certificate for ``name``, or say why not."""
        try:
            if name is not None and _is_hostile(name):
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            context = self.context_for(name)
            if context is None:
                return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
            connection.context = context
        except Exception:  # noqa: BLE001 - whatever it is, the server goes on
            # Python would write it to stderr, for each handshake anew.
            self._tell(HANDSHAKE, logging.ERROR, "a handshake failed", exc_info=True)
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        return None

    def context_for(self, name: str | None) -> ssl.SSLContext | None:
        """The context with the certificate for a name, or for who gives none. None where there is no certificate at all."""
        if self._pid != os.getpid():
            # The parent's lock may have been held by a thread that is not here. It is made of what threads are by now: in a
            # worker of gevent they are something else than they were before the fork.
            self._pid, self._lock = os.getpid(), threading.Lock()
        if time.monotonic() >= self._next_look:
            self._look()
        offers, at = self._offers_for(name), now()
        there = [held for offer in offers if (held := self._held.get(offer.key)) is not None]
        wait = all(held.offer.not_after <= at for held in there)
        for offer in offers:
            held = self._newest(offer, wait=wait)
            if held is not None and held.offer.not_after > at:
                return held.context
            if held is not None:
                there.append(held)
        return there[0].context if there else None

    def _newest(self, offer: Offer, *, wait: bool) -> _Held | None:
        """What there is to serve of an offer: it, else the one before it, else None."""
        held = self._held.get(offer.key)
        if held is not None and held.offer.version == offer.version:
            return held
        if time.monotonic() < self._not_before.get(offer.key, 0.0):
            return held
        lock = self._lock  # two threads may have made two of them after a fork: each gives back its own
        # Who has something to serve does not wait for the one who makes the new.
        if lock.acquire(blocking=wait and held is None):
            try:
                held = self._held.get(offer.key)
                if held is None or held.offer.version != offer.version:
                    held = self._renewed(offer, held)
            finally:
                lock.release()
        return held

    def _look(self) -> None:
        lock = self._lock
        if not lock.acquire(blocking=not self._looked):
            return
        try:
            if time.monotonic() < self._next_look:
                return
            began = time.thread_time()
            try:
                found = self._source.look(self._offers)
            except Exception as error:  # noqa: BLE001 - a source may be anybody's code
                self._tell(LOOK, logging.WARNING, f"cannot look for certificates in {self._source}: {error}; {TRIED_AGAIN}")
            else:
                self._take(found)
            self._looked = True
            self._next_look = time.monotonic() + max(self._check_every, SHARE * (time.thread_time() - began))
        finally:
            lock.release()

    def _take(self, found: Mapping[str, Offer]) -> None:
        if not found:
            # Rather a volume that is not mounted than a server that is to stop: what is served stays.
            what = "no certificate is there any more, the old ones stay" if self._offers else "there is no certificate yet"
            self._tell(LOOK, logging.WARNING, f"{self._source}: {what}; {TRIED_AGAIN}")
            return
        self._told.pop(LOOK, None)
        if found != self._offers:
            by_name: dict[str, list[Offer]] = {}
            for offer in sorted(found.values(), key=lambda offer: offer.not_after, reverse=True):
                for name in offer.names:
                    by_name.setdefault(name, []).append(offer)
            for name, offers in by_name.items():
                # One that is known by this very name comes before one that has it among others.
                offers.sort(key=lambda offer: offer.name != name)
            for gone in self._held.keys() - found.keys():
                del self._held[gone]
            self._not_before.clear()
            self._told = {key: said for key, said in self._told.items() if key in found or key == HANDSHAKE}
            self._by_name, self._offers = by_name, found

    def _offers_for(self, name: str | None) -> list[Offer]:
        """The certificates for a name, the best first: while one cannot be loaded, or has expired, the next one is served."""
        offers, by_name = self._offers, self._by_name
        wanted = [] if name is None else [name := name.lower().removesuffix("."), "*." + name.partition(".")[2]]
        for names in (wanted, [self._default or ""]):
            if found := {offer.key: offer for candidate in names for offer in by_name.get(candidate, ())}:
                at = now()
                return sorted(found.values(), key=lambda offer: offer.not_after <= at)[:MOST_TRIED]
        return [offers[min(offers)]] if offers else []

    def _renewed(self, offer: Offer, held: _Held | None) -> _Held | None:
        """Make the context of an offer; where that fails, the one that is served stays."""
        stays = "the old certificate stays" if held else "it has none to serve"
        began = time.monotonic()
        try:
            if held is not None and offer.not_after <= now() < held.offer.not_after:
                problem = f"the new certificate expired at {offer.not_after:%Y-%m-%d %H:%M} UTC"
            else:
                context = self._make()
                offer.load(context)
                if held is not None:
                    log.info("%s: a new certificate is served, valid until %s", offer.name, offer.not_after)
                while len(self._held) >= MOST_CONTEXTS:
                    del self._held[next(iter(self._held))]
                self._held[offer.key] = _Held(offer, context)
                self._told.pop(offer.key, None)
                return self._held[offer.key]
        except Exception as error:  # noqa: BLE001 - whatever it is, the old one is better
            problem = str(error)
        ended = time.monotonic()
        self._not_before[offer.key] = ended + max(self._check_every, PATIENCE * (ended - began))
        self._tell(offer.key, logging.WARNING, f"{offer.name}: {problem}; {stays}, {TRIED_AGAIN}")
        return held

    def _tell(self, key: str, level: int, message: str, *, exc_info: bool = False) -> None:
        """Log what is wrong once, not at each try."""
        if self._told.get(key) != message:
            self._told[key] = message
            log.log(level, "%s", message, exc_info=exc_info)


def _is_hostile(name: str) -> bool:
    """Names that no certificate has. Others that we do not know get the default certificate, and never become a path."""
    return name.startswith(".") or "/" in name or "\0" in name
