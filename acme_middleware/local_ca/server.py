"""The CA as a whole: :class:`LocalCA` starts it, scripts its faults and stops it."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from acme_middleware import clock as project_clock
from acme_middleware.errors import ConfigurationError
from acme_middleware.local_ca import certificate_ids
from acme_middleware.local_ca.call import Desk
from acme_middleware.local_ca.clauses import Rules
from acme_middleware.local_ca.fault_kinds import KINDS
from acme_middleware.local_ca.faults import VALIDATION, Fault, Faults, Scene, Stage
from acme_middleware.local_ca.fetch import Place
from acme_middleware.local_ca.hierarchy import Hierarchy
from acme_middleware.local_ca.listener import Listener
from acme_middleware.local_ca.model import Certificate, Challenge, State
from acme_middleware.local_ca.problems import Problem
from acme_middleware.local_ca.settings import PROFILES, Settings, loopback
from acme_middleware.local_ca.validation import Validator
from acme_middleware.local_ca.web import Application, Served


class LocalCA:
    """
    A small real ACME server, for development and tests; never for a network that others use.

        with LocalCA(resolve={"*": "127.0.0.1:8000"}) as ca:
            ...  # issue from ca.directory_url, trusting ca.ca_bundle

    It runs from ``with`` (or :meth:`start`) to the end of the block (or :meth:`stop`). Accounts and orders are in memory; keys
    and roots are in the state folder and last.

    Args:
        port: 0 takes a free one.
        host: The address to listen at.
        expose: Agree to listen at an address that others may reach. Anybody there gets certificates for the names that
            ``resolve`` leads to them.
        names: Further names and addresses that clients reach it by, besides ``localhost`` and ``host``.
        state: The folder of keys and roots; None: a temporary one.
        resolve: Where http-01 finds each name: ``{"example.test": "127.0.0.1:8000", "*": "[::1]:80"}``; a list of addresses is
            taken as a name with several, a WSGI app is called in this process; for redirects to https ``"NAME:443"``. Names
            that are not in it fail. ``ca.resolve`` may be changed while the CA runs.
        profiles: Certificate lifetimes by the name of the profile; the first is for orders that name none.
        eab: MAC keys in base64url by key id; where there are any, new accounts need an external account binding.
        terms: Whether accounts must agree to terms of service.
        chain_length: How many intermediates a chain has, 1 or more.
        alternates: How many alternate chains are offered, each up to another root.
        clock: The time for all that the CA does, certificates included; only its own HTTPS goes by the real time.
        perspectives: How often each token is fetched.
        validation_delay: Seconds before a validation begins.
        validation_timeout: Seconds that a site has to answer.
        order_retry_after: Seconds of Retry-After while an order, an authorization or a challenge is pending; None sends none.
        authz_reuse: Whether orders reuse the valid authorizations of their account.
        finalize_polls: How often an order is shown as "processing" before it is valid; 0 finalizes at once.
        renewal_retry_after: Seconds of Retry-After with renewal information.
        order_lifetime, authz_lifetime: How long those last.
        broken: Names of clauses (:data:`acme_middleware.local_ca.clauses.CLAUSES`) that shall not hold.

    Raises:
        ConfigurationError: an argument makes no sense, or the address is not of this machine alone.
        OSError: from ``start``: the port is in use.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        expose: bool = False,
        names: Iterable[str] = (),
        state: Path | None = None,
        resolve: Mapping[str, Place] | None = None,
        profiles: Mapping[str, timedelta] | None = None,
        eab: Mapping[str, str] | None = None,
        terms: bool = True,
        chain_length: int = 1,
        alternates: int = 0,
        clock: Callable[[], datetime] = project_clock.now,
        perspectives: int = 3,
        validation_delay: float = 0.0,
        validation_timeout: float = 10.0,
        order_retry_after: int | None = None,
        authz_reuse: bool = True,
        finalize_polls: int = 0,
        renewal_retry_after: int = 21600,
        order_lifetime: timedelta = timedelta(days=7),
        authz_lifetime: timedelta = timedelta(days=30),
        broken: Iterable[str] = (),
    ) -> None:
        self.host = loopback(host, expose=expose)
        self.resolve: dict[str, Place] = dict(resolve or {})
        if chain_length < 1 or alternates < 0:
            raise ConfigurationError("a chain has an intermediate at least, and no fewer than 0 alternates")
        self.settings = Settings(
            profiles=dict(profiles or PROFILES),
            eab=dict(eab or {}),
            terms=terms,
            resolve=self.resolve,
            perspectives=perspectives,
            validation_delay=validation_delay,
            validation_timeout=validation_timeout,
            order_retry_after=order_retry_after,
            authz_reuse=authz_reuse,
            finalize_polls=finalize_polls,
            renewal_retry_after=renewal_retry_after,
            order_lifetime=order_lifetime,
            authz_lifetime=authz_lifetime,
        )
        self.rules = Rules(broken)
        self.faults = Faults(KINDS)
        self._wanted_port, self._given_state, self._names = port, state, tuple(names)
        self._chain_length, self._alternates, self._clock = chain_length, alternates, clock
        self._stopping = threading.Event()
        self._listener: Listener | None = None

    def start(self) -> None:
        """Make or load the keys, and listen."""
        if self._listener is not None:
            raise RuntimeError("the CA runs already")
        self._stopping.clear()
        folder = self._given_state or Path(tempfile.mkdtemp(prefix="local-ca-"))
        try:
            names = list(dict.fromkeys(["localhost", "127.0.0.1", "::1", self.host, *self._names]))
            hierarchy = Hierarchy(
                folder, now=self.now(), hosts=names, chain_length=self._chain_length, alternates=self._alternates
            )
            self._desk = Desk(self.settings, self.rules, hierarchy, self.now, self._stopping.wait)
            self._validator = Validator(self._desk, self._judge)
            hosts: list[str] = []
            self._application = Application(self._desk, self.faults, self._validator.begin, hosts)
            self._listener = Listener((self.host, self._wanted_port), hierarchy.https, self._application, self.now)
            hosts += [f"{_bracketed(name)}:{self._listener.port}" for name in names]
        except BaseException:
            if self._given_state is None:
                shutil.rmtree(folder)
            raise
        self._listener.start()

    def stop(self, *, check: bool = True) -> None:
        """
        Stop.

        Args:
            check: Raise FaultsLeft where a fault was scripted that no request has met.
        """
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        self._stopping.set()
        listener.close()
        self._validator.stop()
        if self._given_state is None:
            shutil.rmtree(self._desk.hierarchy.folder)
        if check:
            self.check()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        # What has failed already says more than the faults that it did not come to.
        self.stop(check=kind is None)

    def now(self) -> datetime:
        """The CA's clock, in UTC."""
        return self._clock().astimezone(UTC)

    @property
    def port(self) -> int:
        return self._running.port

    @property
    def directory_url(self) -> str:
        return f"https://localhost:{self.port}/directory"

    @property
    def ca_bundle(self) -> Path:
        """A PEM file of what to trust for this CA's own HTTPS: its root."""
        return self.desk.hierarchy.root_file

    @property
    def root_pem(self) -> str:
        """The root of the default chain."""
        return self.root(0)

    def root(self, chain: int) -> str:
        """The root of a chain in PEM: 0 is the default one, then come the alternates."""
        return self.desk.hierarchy.roots[chain][0].public_bytes(Encoding.PEM).decode()

    @property
    def desk(self) -> Desk:
        """What the resources share."""
        if self._listener is None and not hasattr(self, "_desk"):
            raise RuntimeError("the CA was not started")
        return self._desk

    @property
    def state(self) -> State:
        """Accounts, orders and certificates; hold its lock while you read it."""
        return self.desk.state

    def fault(
        self, name: str, times: int | None = 1, *, where: str | Iterable[str] | None = None, skip: int = 0, **parameters: Any
    ) -> Fault:
        """
        Script a fault.

        Args:
            name: One of :data:`acme_middleware.local_ca.fault_kinds.KINDS`.
            times: How often it happens; None: always.
            where: The resource, or several; by default where the fault is at home. ``*`` is every resource.
            skip: How many requests go well before.
            parameters: As the fault takes them.

        Raises:
            ConfigurationError: there is no such fault, place or parameter.
        """
        return self.faults.add(name, times, where, skip, parameters)

    def check(self) -> None:
        """Raise FaultsLeft where a fault was scripted that no request has met, or not as often."""
        self.faults.check()

    def requests(self, *resources: str) -> list[Served]:
        """What was asked of the CA so far, of all resources or of some."""
        return [entry for entry in list(self._application.served) if not resources or entry.resource in resources]

    def set_renewal_window(self, leaf: x509.Certificate, start: datetime, end: datetime, explanation: str = "") -> None:
        """
        Say when to renew a certificate (RFC 9773).

        Raises:
            KeyError: this CA has not issued it.
        """
        with self.state.lock:
            found = self._certificate(leaf)
            found.window, found.explanation = (start.astimezone(UTC), end.astimezone(UTC)), explanation

    def revoke(self, leaf: x509.Certificate, reason: int = 0) -> None:
        """Revoke a certificate as the CA itself does it. Raises KeyError: this CA has not issued it."""
        with self.state.lock:
            self._certificate(leaf).revoked = (self.now(), reason)

    def _certificate(self, leaf: x509.Certificate) -> Certificate:
        return self.state.certificates[certificate_ids.of(leaf)]

    def _judge(self, challenge: Challenge) -> Problem | None:
        result = self.faults.meet(Stage.VALIDATED, VALIDATION, Scene(self._desk, {}, challenge=challenge))
        return result if isinstance(result, Problem) else None

    @property
    def _running(self) -> Listener:
        if self._listener is None:
            raise RuntimeError("the CA is not running")
        return self._listener


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
