"""
Look after every certificate: ask for advice where it is time to, renew what is due, publish and deploy what is not
published or deployed on this host yet.

Who is due is found by one scan of public records; where nobody is, nothing else is read and no ACME client is loaded.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from acme_middleware import authorities, clock, events
from acme_middleware.errors import (
    AcmeMiddlewareError,
    ConfigurationError,
    Conflict,
    LeaseHeld,
    LeaseLost,
    NotYet,
    StoreMisconfigured,
)
from acme_middleware.issuance import deploying, ledger, plan, renewal
from acme_middleware.issuance.crew import Crew
from acme_middleware.issuance.ledger import LedgerRecord
from acme_middleware.issuance.lineages import give_back, open_state, open_tokens
from acme_middleware.issuance.plan import Item
from acme_middleware.issuance.published import is_published, publish_dir
from acme_middleware.issuance.results import Result, exit_code
from acme_middleware.issuance.sweeps import SweepRecord, closes_before, last_of, next_look, previous_to, sweep_key
from acme_middleware.options import Options
from acme_middleware.stores.base import ChallengeSource

if TYPE_CHECKING:  # they bring the ACME client, which a sweep without work does not need
    from acme_middleware.issuance.advice import Advice
    from acme_middleware.issuance.conversation import Conversations

__all__ = ["Result", "exit_code", "sweep"]

logger = logging.getLogger(__name__)

JOBS = 4

LEASE_WAIT = 62.0
"""Seconds that names which another process holds are waited for: a lease's time to live, after which the dead lose it."""

BY_OTHERS = (LeaseHeld, LeaseLost, Conflict)
"""What says that another process works on the same name."""


def sweep(
    options: Options,
    *,
    names: Sequence[str] = (),
    jobs: int = JOBS,
    force: bool = False,
    listener: events.Listener = events.log,
    stop: threading.Event | None = None,
    every: float | None = None,
) -> list[Result]:
    """
    Look after all certificates: those in the store and those that CERTIFICATES declares. Any host may, at any time.

    Args:
        options: As :func:`acme_middleware.options.read` gives them.
        names: The certificates to look after, by the names that they are known by; all by default.
        jobs: How many are renewed at the same time.
        force: Renew what is not due, and what has to wait after failures.
        listener: Is told every event, one at a time, in the threads that do the work.
        stop: When it is set, no further certificate is begun.
        every: Seconds until the next sweep; ``status`` warns when it does not come.

    Returns:
        What became of each, by name. What goes wrong with one is in its result, and stops no other.

    Raises:
        ConfigurationError: no store is set, CA is unknown, ``jobs`` is none.
        NoSuchCertificate: one of ``names`` is neither in the store nor declared.
        StoreUnavailable, StoreMisconfigured: the store cannot be read.
    """
    with closing(_Sweep(options, jobs=jobs, force=force, listener=listener, stop=stop or threading.Event())) as begun:
        return begun.run(names, every)


class _Sweep:
    def __init__(self, options: Options, *, jobs: int, force: bool, listener: events.Listener, stop: threading.Event) -> None:
        if jobs < 1:
            raise ConfigurationError(f"{jobs} jobs can do nothing", hint="--jobs takes 1 or more")
        self.options, self.jobs, self.force, self.stop = options, jobs, force, stop
        self.store = open_state(options, writable=None)
        self.root = publish_dir(options, self.store)
        self.trusted = authorities.find_all(options.ca)[0].trusted
        self.by_hand = False
        self.results: dict[str, Result] = {}
        self.held: list[Item] = []
        self.crew = Crew(listener)

    def run(self, names: Sequence[str], every: float | None) -> list[Result]:
        began = clock.now()
        self.by_hand = bool(names)  # a timer names none
        items = plan.chosen(plan.items(self.options, self.store), names)
        if not items:
            # A store that is not there yet, or whose name is misspelt, holds no certificate either.
            self.store.check(writable=False)
            return []
        host = os.uname().nodename
        last = last_of(self.store, host)
        self.next_look = None if names else next_look(last, began, every)
        due, quiet = self._sort(items, began)
        self.emit(events.SweepBegan(name=host, certificates=len(items), due=len(due)))
        if due or quiet:
            from acme_middleware.issuance.conversation import Conversations

            with Conversations() as conversations:
                self._work(due, quiet, conversations)
        results = self._with_next_tries([self.results[item.name] for item in items])
        for result in results:
            self._warn_of_expiry(result)
        counts = Counter(result.action for result in results)
        if not names:
            self._write(host, began, every, counts, last)
        self.emit(events.SweepEnded(name=host, counts=dict(counts)))
        return results

    def close(self) -> None:
        """Give back the connections of the stores."""
        give_back(self.store, self.options.store)
        if "_tokens" in vars(self):
            give_back(self._tokens, self.options.challenge_store or self.options.store)

    def emit(self, event: events.Event) -> None:
        # That another process is at work, or that it is not time yet, is a result and no failure.
        if not (isinstance(event, events.Failed) and isinstance(event.error, (*BY_OTHERS, NotYet))):
            self.crew.emit(event)

    def _sort(self, items: Sequence[Item], now: datetime) -> tuple[list[Item], list[Item]]:
        """Those to issue, the most urgent first, and those to do something else for; all others have their result."""
        due: list[tuple[float, Item]] = []
        quiet: list[Item] = []
        for item in items:
            record = item.record
            if item.error is not None:
                action = "damaged" if isinstance(item.error, StoreMisconfigured) else "failed"
                self._result(item, action, str(item.error), item.error)
            elif record is None or self.force or self._why(item, now):
                early = None if self.force else plan.too_early(item, self.options, self.failures, now, by_hand=self.by_hand)
                if early is None:
                    due.append((renewal.lifetime_left(record, now), item))
                else:
                    self._result(item, "must wait", str(early), early, early.allowed_at)
            else:
                self._result(item, "not due")
                if renewal.ask_ari(record, now) or renewal.lacks_ari_id(record, now) or not self._is_in_place(item):
                    quiet.append(item)
        due.sort(key=lambda entry: entry[0])
        return [item for _, item in due], quiet

    @cached_property
    def _tokens(self) -> ChallengeSource:
        return open_tokens(self.options)

    @cached_property
    def failures(self) -> dict[str, LedgerRecord]:
        return ledger.read_all(self.store)

    def _is_in_place(self, item: Item) -> bool:
        """Whether the files of this host are those of the certificate, and its servers have been told."""
        own = item.declared.deploy if item.declared is not None else None
        specs = self.options.deploy if own is None else own
        if self.root is None or item.record is None:
            return self.root is None
        return is_published(self.root, item.record) and deploying.is_deployed(specs, self.root, item.record)

    def _why(self, item: Item, now: datetime) -> str | None:
        return plan.why(item, self.trusted, now) or closes_before(item.record, now, self.next_look)

    def _work(self, due: Sequence[Item], quiet: Sequence[Item], conversations: Conversations) -> None:
        from acme_middleware.issuance.advice import Advice

        advice = Advice(self.store, conversations, self.emit)
        tasks: list[Callable[[], None]] = [lambda item=item: self._renew(item, conversations) for item in due]  # type: ignore[misc]
        tasks += [lambda item=item: self._look_after(item, advice, conversations) for item in quiet]  # type: ignore[misc]
        self.crew.do(tasks, self.jobs)
        held, self.held = self.held, []
        # All wait at the same time: whoever holds them works on them one by one, perhaps.
        self.crew.do(
            [lambda item=item: self._renew(item, conversations, wait=LEASE_WAIT) for item in held],  # type: ignore[misc]
            max(self.jobs, 16),
        )
        for item in self.held:
            self._result(item, "in progress", self.results[item.name].reason, self.results[item.name].error)

    def _look_after(self, item: Item, advice: Advice, conversations: Conversations) -> None:
        """What is not due: ask for advice, which may make it due; publish what is not published."""
        record = item.record
        if record is None or self.stop.is_set():
            return
        try:
            if renewal.lacks_ari_id(record, clock.now()):
                record = advice.identify(record)
            if renewal.ask_ari(record, clock.now()):
                record = advice.refresh(record, plan.authority_of(record, self.options), self.options.ca_bundle)
        except AcmeMiddlewareError as error:
            self.emit(events.Warned(name=item.name, message=f"no renewal information: {error}"))
        except Exception:
            logger.exception("no renewal information about %s", item.name)
        item = replace(item, record=record)
        self._result(item, "not due")
        if self._why(item, clock.now()) or not self._is_in_place(item):
            self._renew(item, conversations)

    def _renew(self, item: Item, conversations: Conversations, *, wait: float = 0.0) -> None:
        from acme_middleware.issuance.issuer import Action, Issuer

        if self.stop.is_set():
            self._result(item, "must wait", "the sweep was stopped before its turn")
            return
        was_due = self.force or self._why(item, clock.now()) is not None
        try:
            options = replace(plan.options_of(item, self.options), wait=wait)
            stores = (self.store, self._tokens)
            issuer = Issuer(options, listener=self.emit, conversations=conversations, stores=stores)
            outcome = issuer.issue(
                item.names,
                name=item.name,
                force=self.force,
                drop_names=item.declared is not None,
                as_stored=item.declared is None,
                by_hand=self.by_hand,
                next_look=self.next_look,
            )
        except NotYet as error:
            self._result(item, "must wait", str(error), error, error.allowed_at)
        except BY_OTHERS as error:
            self._result(item, "in progress", str(error), error)
            if not wait:
                self.held.append(item)
        except AcmeMiddlewareError as error:
            self._result(item, "failed", str(error), error)
        except Exception as error:
            # A bug, or a damaged certificate of a kind that nobody thought of: it must not keep the others from being renewed.
            logger.exception("%s could not be renewed", item.name)
            self._result(item, "failed", f"unexpected {type(error).__name__}: {error}")
        else:
            action = {Action.ISSUED: "issued", Action.RENEWED: "renewed"}.get(outcome.action, "not due")
            by_another = "another process has done it" if was_due and action == "not due" else ""
            item = replace(item, record=outcome.record)
            if outcome.undeployed:
                self._result(item, "failed", f"{action}, but {outcome.undeployed[0]}", outcome.undeployed[0])
            else:
                self._result(item, action, outcome.reason or by_another)

    def _result(
        self,
        item: Item,
        action: str,
        reason: str = "",
        error: AcmeMiddlewareError | None = None,
        next_try: datetime | None = None,
    ) -> None:
        self.results[item.name] = Result(item.name, action, item.record, reason, error, next_try)

    def _with_next_tries(self, results: list[Result]) -> list[Result]:
        """Say of what failed when it is tried again, as the ledger has it."""
        if not any(result.action == "failed" for result in results):
            return results
        tries = {name: record.next_try for name, record in ledger.read_all(self.store).items()}
        return [result._replace(next_try=tries.get(result.name)) if result.action == "failed" else result for result in results]

    def _warn_of_expiry(self, result: Result) -> None:
        record = result.record
        if record is None or result.action not in ("failed", "must wait") or not renewal.is_emergency(record, clock.now()):
            return
        self.emit(events.Expiring(name=result.name, not_after=record.not_after, reason=result.reason))

    def _write(self, host: str, began: datetime, every: float | None, counts: Counter[str], last: SweepRecord | None) -> None:
        """Leave word that this host looks after certificates; without it nothing is lost but a warning in ``status``."""
        try:
            done = SweepRecord(
                host=host,
                began=began,
                ended=clock.now(),
                every=every,
                counts=dict(counts),
                previous=previous_to(last, began),
            )
            done.write(self.store, sweep_key(host))
        except AcmeMiddlewareError as error:
            self.emit(events.Warned(name=host, message=f"the sweep could not be noted in the store: {error}"))
