"""
Follow what other hosts issue: publish and deploy each new certificate on this host too.

A host that renews takes its own certificates to its own servers. The others read ``renewal/*`` again and again, in one scan;
what has changed there and is not in place here is published and deployed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from acme_middleware import events
from acme_middleware.errors import AcmeMiddlewareError, ConfigurationError, StoreMisconfigured
from acme_middleware.issuance import deploying, plan
from acme_middleware.issuance.lineages import open_state
from acme_middleware.issuance.plan import Item
from acme_middleware.issuance.published import is_published, publish_dir
from acme_middleware.issuance.publishing import publish_newest
from acme_middleware.issuance.records import RenewalRecord
from acme_middleware.issuance.results import Result
from acme_middleware.options import Options

__all__ = ["Follower"]

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 30.0, 3600.0
"""Seconds until what has failed is tried again; twice as long each time."""


class Follower:
    """
    Publishes and deploys on this host what is in the store.

    Args:
        options: As :func:`acme_middleware.options.read` gives them.
        listener: Is told every event.

    Raises:
        ConfigurationError: no store is set, no PUBLISH_DIR to publish to, or a deployer is none.
        StoreMisconfigured: the store's URL cannot be opened.
    """

    def __init__(self, options: Options, *, listener: events.Listener = events.log) -> None:
        self.options, self.emit = options, listener
        self.store = open_state(options, writable=None)
        root = publish_dir(options, self.store)
        if root is None:
            raise ConfigurationError(
                "no PUBLISH_DIR is set to publish certificates in, and to deploy them from",
                hint="set ACME_PUBLISH_DIR, or pass --publish-dir",
                option="publish_dir",
            )
        self.root = root
        for name in ("", *(declared.name for declared in options.certificates)):
            deploying.check(options, root, name)
        self._settled: dict[str, str] = {}
        self._again: dict[str, tuple[float, float]] = {}

    def once(self, names: Sequence[str] = (), *, force: bool = False) -> list[Result]:
        """
        Bring this host up to date.

        Args:
            names: The certificates to look at; all by default.
            force: Deploy what is deployed as well.

        Returns:
            What became of each: "deployed" (or published, where there is no deployer), "in place", "failed", "damaged",
            "not issued". What goes wrong with one is in its result, and stops no other.

        Raises:
            NoSuchCertificate: one of ``names`` is neither in the store nor declared.
            StoreUnavailable, StoreMisconfigured: the store cannot be read.
        """
        items = plan.chosen(plan.items(self.options, self.store), names)
        if not items:
            # A store that is not there yet, or whose name is misspelt, holds no certificate either.
            self.store.check(writable=False)
        return [self._bring(item, force=force) for item in items]

    def look(self) -> list[Result]:
        """
        Bring up to date what has changed in the store since the last look, and what has failed and may be tried again.

        Returns:
            What became of those, as :meth:`once` has it.

        Raises:
            StoreUnavailable, StoreMisconfigured: the store cannot be read.
        """
        return [self._remember(item, self._bring(item)) for item in plan.items(self.options, self.store) if self._is_news(item)]

    def _is_news(self, item: Item) -> bool:
        if item.record is None or self._settled.get(item.name) == item.record.version:
            return False
        return time.monotonic() >= self._again.get(item.name, (0.0, 0.0))[0]

    def _remember(self, item: Item, result: Result) -> Result:
        if result.action == "failed":
            _, pause = self._again.get(item.name, (0.0, FIRST_PAUSE / 2))
            pause = min(2 * pause, LONGEST_PAUSE)
            self._again[item.name] = (time.monotonic() + pause, pause)
        elif item.record is not None:
            self._again.pop(item.name, None)
            self._settled[item.name] = item.record.version
        return result

    def _bring(self, item: Item, *, force: bool = False) -> Result:
        record, error = item.record, item.error
        if isinstance(error, StoreMisconfigured):
            return Result(item.name, "damaged", record, str(error), error)
        if record is None:
            return Result(item.name, "not issued", None)
        try:
            return self._deploy(record, force=force)
        except AcmeMiddlewareError as failure:
            return Result(item.name, "failed", record, str(failure), failure)
        except Exception as failure:
            logger.exception("%s could not be deployed", item.name)
            return Result(item.name, "failed", record, f"unexpected {type(failure).__name__}: {failure}")

    def _deploy(self, record: RenewalRecord, *, force: bool) -> Result:
        published = is_published(self.root, record)
        specs = deploying.specs_of(self.options, record.name)
        if published and not force and deploying.is_deployed(specs, self.root, record):
            return Result(record.name, "in place", record)
        if not published:
            publish_newest(self.options, self.store, self.root, record.name, self.emit)
        errors = deploying.deploy(self.options, self.root, record, self.emit, force=force)
        if errors:
            return Result(record.name, "failed", record, "; ".join(map(str, errors)), errors[0])
        if specs and not (is_published(self.root, record) and deploying.is_deployed(specs, self.root, record)):
            # Then nothing was called for this one, and nothing has failed with it: it is looked at again, and not settled.
            return Result(record.name, "failed", record, "another certificate was published meanwhile")
        if published and not specs:
            return Result(record.name, "in place", record)
        return Result(record.name, "deployed" if specs else "published", record)
