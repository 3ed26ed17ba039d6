"""
Certificates out of a store: files, a database, Redis.

A store may be slow or away, and a server's event loop must not wait for it. So a thread in each process asks it, from the
first handshake on: not before, because threads do not survive a fork. What it has read stays in memory.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from acme_middleware.deploy.snapshot import Snapshot, Version
from acme_middleware.errors import AcmeMiddlewareError, NoSuchCertificate, StoreUnavailable
from acme_middleware.issuance.records import CertificateRecord, RenewalRecord, certificate_key, renewal_key
from acme_middleware.stores import open_store
from acme_middleware.stores.base import Store
from acme_middleware.tls.sources import Offer, named_in

__all__ = ["StoreSource", "open_sealed"]

log = logging.getLogger("acme_middleware.tls")

LIMIT = 2.0
"""Seconds that a handshake waits, where there is nothing to serve yet."""

AHEAD = 200
"""So many certificates are read before anybody has asked for them; of more, those that somebody has asked for."""

SHARE = 10
LONGEST_REST = 30.0
"""The thread rests ten times as long as the store took, up to this: ten thousand records are not asked for every second."""

NO_FILES: Version = (("", 0, 0), ("", 0, 0))


def open_sealed(url: str) -> Store:
    """
    Open a store by its URL, with the ENCRYPTION_KEYS that the commands have: from the environment or the configuration file.

    Raises:
        ConfigurationError: an option there is wrong.
        StoreMisconfigured: the URL is wrong.
    """
    from acme_middleware import options
    from acme_middleware.stores.sealed import SealedStore

    return SealedStore(open_store(url), options.of_this_process(store=url).encryption_keys or ())


class StoreSource:
    """
    The certificates in a store. They are known by their ``renewal/*`` records; a key is read when it is needed. Where the
    certificate is another than its record says, what is read counts.

    Args:
        store: The store.
        check_every: Seconds between two looks of the thread.
    """

    def __init__(self, store: Store, check_every: float) -> None:
        self._store, self._check_every = store, check_every
        self._reader: _Reader | None = None

    def __str__(self) -> str:
        return "the store"  # not its URL: it may have a password

    def look(self, known: Mapping[str, Offer]) -> Mapping[str, Offer]:
        reader = self._reader
        if reader is None or reader.pid != os.getpid():
            reader = _Reader(self._store, self._check_every)
            alive = weakref.ref(self)
            threading.Thread(target=reader.run, args=(alive,), name="acme-middleware-tls", daemon=True).start()
            # Only now: where no thread can be started for a moment, the next look tries it again.
            self._reader = reader
        return reader.offers_now()


class _Reader:
    """What belongs to one process: the thread that asks the store, and what it has read."""

    def __init__(self, store: Store, check_every: float) -> None:
        self.pid = os.getpid()
        self._store, self._check_every = store, check_every
        self._changed = threading.Condition()
        self._offers: Mapping[str, Offer] = {}
        self._looked = False
        self._wanted: set[str] = set()
        self._waiting: set[str] = set()
        self._pairs: dict[str, tuple[Offer, Snapshot]] = {}
        self._problems: dict[str, str] = {}
        self._said: dict[str, str] = {}

    def offers_now(self) -> Mapping[str, Offer]:
        """What was found lately. Only at the very beginning this waits. Raises StoreUnavailable."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._looked, LIMIT):
                raise StoreUnavailable(f"no answer in {LIMIT:g} s")
            if not self._offers and "" in self._problems:
                raise StoreUnavailable(self._problems[""])
            return self._offers

    def run(self, alive: Callable[[], object]) -> None:
        """Look again and again, and read what is asked for in between, for as long as somebody has the source."""
        rest = 0.0
        while alive() is not None:
            self._read_what_somebody_waits_for(rest)
            began = time.monotonic()
            self._note("", self._look)
            with self._changed:
                self._looked = True
                self._changed.notify_all()
            rest = max(self._check_every, min(LONGEST_REST, SHARE * (time.monotonic() - began)))

    def _read_what_somebody_waits_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting, left)
                names, self._waiting = self._waiting, set()
            for name in names:
                self._note(name, partial(self._read, name, self._offers.get(name)))

    def _look(self) -> None:
        found = {}
        for where, record in self._store.scan(renewal_key("")):
            try:
                read = RenewalRecord.decode(where, record.value, record.version)
            except AcmeMiddlewareError as error:
                self._say(where, str(error))
                continue
            names = tuple(name.lower() for name in read.names)
            found[read.name] = self._offer(read.name, names, read.not_after, read.fingerprint)
        wanted = set(found) if len(found) <= AHEAD else self._wanted & found.keys()
        for name in wanted:
            had = self._pairs.get(name)
            if had is None or had[0].version != found[name].version:
                self._note(name, partial(self._read, name, found[name]))
                found[name] = self._pairs.get(name, (found[name],))[0]
        with self._changed:
            # One that is not read yet is no reason to give up the one that is served: Served keeps that.
            self._pairs = {name: pair for name, pair in self._pairs.items() if name in found}
            self._offers = found

    def _read(self, name: str, public: Offer | None) -> None:
        record = CertificateRecord.read(self._store, certificate_key(name))
        if record is None:
            raise NoSuchCertificate(f"the store has no certificate of {name}", name=name)
        snapshot = Snapshot((record.cert_pem + record.chain_pem).encode(), record.key_pem.encode(), NO_FILES)
        offer, fingerprint = public, _fingerprint(record)
        if offer is None or offer.version != fingerprint:
            # Who renewed it was killed between its two writes: until the next run, the public record is of the one before.
            offer = self._offer(name, *named_in(snapshot.certificate), fingerprint)
        with self._changed:
            self._pairs[name] = (offer, snapshot)

    def _offer(self, name: str, names: tuple[str, ...], not_after: datetime, fingerprint: str) -> Offer:
        return Offer(name, name, names, not_after, fingerprint, partial(self._load, name, fingerprint))

    def _note(self, name: str, work: Callable[[], None]) -> None:
        """Do some work at the store, and keep what went wrong for who waits for it."""
        problem = ""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the thread must go on
            problem = str(error) or type(error).__name__
        self._say(name, problem)
        with self._changed:
            self._problems.pop(name, None)
            if problem:
                self._problems[name] = problem
            self._changed.notify_all()

    def _say(self, name: str, problem: str) -> None:
        """Log what is wrong once, not every second."""
        if problem and self._said.get(name) != problem:
            log.warning("certificates from a store: %s%s; what is served stays", f"{name}: " if name else "", problem)
        self._said[name] = problem

    def _load(self, name: str, fingerprint: str, context: ssl.SSLContext) -> None:
        """Give the pair to a context; where it was not read yet, wait for the thread."""

        def is_it() -> bool:
            return name in self._pairs and self._pairs[name][0].version == fingerprint

        with self._changed:
            self._wanted.add(name)
            before = self._pairs.get(name)
            if not is_it() and name not in self._problems:
                self._waiting.add(name)
                self._changed.notify_all()
                # Another certificate is an answer too: the next look makes an offer of it.
                self._changed.wait_for(lambda: name in self._problems or self._pairs.get(name) is not before, LIMIT)
            if not is_it():
                none = self._pairs.get(name) is before
                problem = f"the store gave no certificate in {LIMIT:g} s" if none else "its public record is of another one"
                raise StoreUnavailable(self._problems.pop(name, problem))
            pair = self._pairs[name]
        pair[1].load_into(context)


def _fingerprint(record: CertificateRecord) -> str:
    import hashlib

    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(record.cert_pem)).hexdigest()
