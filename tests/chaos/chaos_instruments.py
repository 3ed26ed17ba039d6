"""
What a command of a host tells the harness, and where the harness strikes it.

The product runs as it is; only its seams are wrapped: at each *point* a line goes into the host's journal, and a strike that is
laid out for the point hits the process right there: SIGKILL, SIGSTOP, or a wait until the harness has broken something else.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

POINTS = (
    "lease held",
    "checked",
    "placing",
    "placed",
    "saving order",
    "order saved",
    "presented",
    "telling ready",
    "finalizing",
    "finalized",
    "saving certificate",
    "certificate saved",
    "renewal saved",
    "publishing",
    "publishing on disk",
    "published",
)
"""From taking the lease to the published files. "placing" is between the check of the lease and the request."""

LONGEST_WAIT = 8.0
"""Seconds that a process waits at a point for the harness, which breaks something meanwhile."""


class Journal:
    """
    A host's journal: JSON lines, each by one write, so that a killed process leaves whole ones.

    Args:
        path: The file.
        strikes: The folder where the harness lays out strikes: a file by the name of the point, with what to do in it.
        host: What the host is called.
    """

    def __init__(self, path: Path, strikes: Path, host: str) -> None:
        self._strikes, self._host = strikes, host
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)

    def note(self, point: str, **facts: Any) -> None:
        """Write a line; at a point, be struck."""
        line = {"at": time.monotonic(), "host": self._host, "pid": os.getpid(), "point": point, **facts}
        os.write(self._file, json.dumps(line).encode() + b"\n")
        if point in POINTS:
            self._obey(point)

    def _obey(self, point: str) -> None:
        mine = self._strikes / f"struck {os.getpid()} {point}"
        try:
            # Opened before: whoever has laid it out may remove it as soon as it has been taken.
            with (self._strikes / point).open() as laid:
                # Of all who reach the point, in whatever process, one gets it.
                os.rename(laid.name, mine)
                what = laid.read()
        except FileNotFoundError:
            return
        self.note("struck", what=what, where=point)
        match what:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case _:
                deadline = time.monotonic() + LONGEST_WAIT
                while mine.exists() and time.monotonic() < deadline:
                    time.sleep(0.005)


def instrument(journal: Journal, *, ttl: float) -> None:
    """Wrap the seams in this process, and let leases live for ``ttl`` seconds."""
    from acme_middleware import _files
    from acme_middleware import lease as leases
    from acme_middleware.deploy import publish as publishing
    from acme_middleware.issuance import sweep, validation
    from acme_middleware.issuance.records import CertificateRecord, OrderRecord, RenewalRecord, Stored
    from acme_middleware.lease import Lease
    from acme_middleware.protocol import order as protocol

    leases.lease.__wrapped__.__kwdefaults__["ttl"] = ttl  # type: ignore[attr-defined]
    sweep.LEASE_WAIT = ttl + 1.0

    def wrap(place: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        setattr(place, name, make(getattr(place, name)))

    def take(original: Callable[..., bool]) -> Callable[..., bool]:
        def noted(self: Lease, *given: Any) -> bool:
            taken = original(self, *given)
            if taken:
                journal.note("lease held", name=self.name)
            return taken

        return noted

    def put(original: Callable[..., str]) -> Callable[..., str]:
        def noted(self: Lease, state: str, expect: Any) -> str:
            started = time.monotonic()
            version = original(self, state, expect)
            journal.note("rewritten", name=self.name, state=state, lease=self._id, started=started)
            return version

        return noted

    def check(original: Callable[..., None]) -> Callable[..., None]:
        def noted(self: Lease) -> None:
            original(self)
            journal.note("checked", name=self.name)

        return noted

    def new_order(original: Callable[..., Any]) -> Callable[..., Any]:
        def noted(network: Any, directory: Any, identifiers: Any, **more: Any) -> Any:
            name = identifiers[0].value
            journal.note("placing", name=name)
            try:
                order = original(network, directory, identifiers, **more)
            except BaseException as error:
                journal.note("not placed", name=name, error=repr(error))
                raise
            journal.note("placed", name=name, url=order.url)
            return order

        return noted

    def write(original: Callable[..., str]) -> Callable[..., str]:
        kinds = {OrderRecord: "order", CertificateRecord: "certificate", RenewalRecord: "renewal"}

        def noted(self: Stored, store: Any, where: str, **more: Any) -> str:
            kind = kinds.get(type(self))
            if kind is None:
                return original(self, store, where, **more)
            name = where.partition("/")[2]
            facts = {"name": name, "url": getattr(self, "url", getattr(self, "order_url", ""))}
            journal.note(f"saving {kind}", **facts)
            try:
                version = original(self, store, where, **more)
            except BaseException as error:
                journal.note(f"{kind} not saved", **facts, error=repr(error))
                raise
            journal.note(f"{kind} saved", **facts, version=version)
            return version

        return noted

    def around(before: str, after: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def noted(*given: Any, **more: Any) -> Any:
                if before:
                    journal.note(before)
                result = original(*given, **more)
                if after:
                    journal.note(after)
                return result

            return noted

        return make

    wrap(Lease, "_take", take)
    wrap(Lease, "_put", put)
    wrap(Lease, "check", check)
    wrap(protocol, "new_order", new_order)
    wrap(protocol, "finalize", around("finalizing", "finalized"))
    wrap(validation, "_present", around("", "presented"))
    wrap(validation, "say_ready", around("telling ready", ""))
    wrap(Stored, "write", write)
    wrap(publishing, "publish", around("publishing", "published"))
    setattr(publishing, "_files", _OnDisk(_files, journal))  # noqa: B010  # as mypy does not see the module's import


class _OnDisk:
    """The file helpers, as the publisher sees them: each time that it has made something lasting is a point."""

    def __init__(self, files: Any, journal: Journal) -> None:
        self._files, self._journal = files, journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def sync_folder(self, folder: Any) -> None:
        self._files.sync_folder(folder)
        self._journal.note("publishing on disk")
