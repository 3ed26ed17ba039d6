"""A site with many certificates, a real CA, and a clock that both go by: what renews them, and what the CA heard of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from acme_middleware import clock as clocks
from acme_middleware import events, options
from acme_middleware.issuance.issuer import Issuer, Outcome
from acme_middleware.issuance.records import RenewalRecord, renewal_key
from acme_middleware.issuance.sweep import Result, sweep
from acme_middleware.local_ca import LocalCA
from acme_middleware.options import Options
from acme_middleware.stores import open_challenges
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.testing.clock import Clock
from acme_middleware.wsgi import AcmeMiddleware

LIFETIMES = {"90 days": 90.0, "64 days": 64.0, "45 days": 45.0, "6 days": 6.0}
PROFILES = {name.replace(" ", "-"): timedelta(days=days) for name, days in LIFETIMES.items()}
"""The first is what an order gets that names none."""


@dataclass
class RenewalSite:
    """
    A site in a folder of its own.

    Attributes:
        ca: Finds every name at the site, in this process.
        clock: Moves the time for the CA and for all that decides here.
        given: Options besides the usual ones.
        events: All that happened.
    """

    ca: LocalCA
    clock: Clock
    folder: Path
    given: dict[str, Any] = field(default_factory=dict)
    events: list[events.Event] = field(default_factory=list)

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.folder / "acme")

    @property
    def usual(self) -> dict[str, Any]:
        """The options of the site, as words and paths."""
        return {
            "store": f"file:{self.folder / 'acme'}",
            "ca": self.ca.directory_url,
            "ca_bundle": str(self.ca.ca_bundle),
            "self_check": "skip",
            **self.given,
        }

    def options(self, **more: Any) -> Options:
        return options.read(("test", {**self.usual, **more}))

    def issue(self, *names: str, name: str | None = None, force: bool = False, **more: Any) -> Outcome:
        return Issuer(self.options(**more), listener=self.events.append).issue(names, name=name, force=force)

    def sweep(
        self, *names: str, jobs: int = 4, force: bool = False, every: float | None = None, **more: Any
    ) -> dict[str, Result]:
        results = sweep(self.options(**more), names=names, jobs=jobs, force=force, listener=self.events.append, every=every)
        return {result.name: result for result in results}

    def actions(self, *names: str, **more: Any) -> dict[str, str]:
        """What a sweep did for each name."""
        return {name: result.action for name, result in self.sweep(*names, **more).items()}

    def record(self, name: str) -> RenewalRecord:
        found = RenewalRecord.read(self.store, renewal_key(name))
        assert found is not None, f"there is no record of {name}"
        return found

    def to_renewal(self, name: str) -> None:
        """Move the clock to when a certificate is due."""
        self.clock.move_to(self.record(name).renew_after + timedelta(seconds=1))

    def orders(self) -> int:
        """How many orders the CA has had."""
        with self.ca.state.lock:
            return len(self.ca.state.orders)

    def said(self, kind: type[events.Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@contextmanager
def renewal_site(folder: Path, keys: Path, *, clock: Clock | None = None, **settings: Any) -> Iterator[RenewalSite]:
    """
    Run a site and its CA until the end of the block.

    Args:
        folder: Where the site keeps all.
        keys: Where the CA keeps its keys, which several sites may share.
        clock: One that is in use already; by default a new one, for this process.
        settings: For :class:`LocalCA`.
    """
    with ExitStack() as stack:
        if clock is None:
            clock = Clock()
            stack.enter_context(clocks.replaced(clock.now))
        settings = {"state": keys, "clock": clock.now, "terms": False, "profiles": PROFILES, **settings}
        ca = stack.enter_context(LocalCA(**settings))
        site = RenewalSite(ca, clock, folder)
        ca.resolve["*"] = AcmeMiddleware(_nothing, store=open_challenges(site.usual["store"]))
        yield site


def _nothing(environ: Any, start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"no page here"]
