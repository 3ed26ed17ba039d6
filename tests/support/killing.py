"""
kill -9 of an issuing command, again and again, at moments spread evenly over a run; after each its successor must make good.

The command and the store are the caller's, so that any store and any way to issue can be tried.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import Popen

from both_cas import CA, Watch
from pebble_lab import Ended, finish, fresh, load_pair

from acme_middleware.issuance.records import (
    CertificateRecord,
    OrderRecord,
    RenewalRecord,
    certificate_key,
    order_key,
    renewal_key,
)
from acme_middleware.stores.base import Store

AT_ONCE = 15.0
"""Seconds that a successor may take: far less than a lease lives, since on one host nobody waits for the dead."""


@dataclass(frozen=True)
class Victim:
    """
    What is killed.

    Attributes:
        ca: The CA that it asks; nobody else asks it meanwhile.
        start: Starts the issuing command for one name.
        store: Its store of state.
        tokens: What is in the challenge store, to the last file.
        live: PUBLISH_DIR.
    """

    ca: CA
    start: Callable[[str], Popen[str]]
    store: Store
    tokens: Callable[[], Collection[str]]
    live: Path


@dataclass(frozen=True)
class Kill:
    """One kill, and what its successor came to. ``last`` is the last that was heard of the killed run."""

    name: str
    delay: float
    last: str
    ordering: bool
    order_known: bool
    placed: int
    successor: float


@dataclass
class Report:
    """All kills. ``early`` counts runs that had ended before their moment came; they are not among the kills."""

    seed: int
    span: float = 0.0
    kills: list[Kill] = field(default_factory=list)
    early: int = 0
    loads: int = 0

    @property
    def two_orders(self) -> int:
        return sum(kill.placed == 2 for kill in self.kills)

    @property
    def ordering(self) -> int:
        """Kills between newOrder and the saving of the certificate."""
        return sum(kill.ordering for kill in self.kills)

    def __str__(self) -> str:
        last = Counter(kill.last for kill in self.kills)
        lines = [f"{last[stage]:5}  {stage}" for stage in STAGES if last[stage]]
        return "\n".join(
            [
                f"{len(self.kills)} kills (seed {self.seed}) over {self.span:.3f} s from the first request to the exit; "
                f"{self.early} runs ended earlier",
                *lines,
                f"{self.ordering} between newOrder and save; {self.two_orders} with a second order; slowest successor "
                f"{max(kill.successor for kill in self.kills):.2f} s; {self.loads} loads of published pairs",
            ]
        )


STAGES = (
    "directory asked",
    "nonce asked",
    "account asked",
    "newOrder sent",
    "order saved",
    "authorization asked",
    "CA told: ready",
    "order polled",
    "finalize sent",
    "order polled after finalizing",
    "certificate asked",
    "certificate saved",
    "certificate published",
    "renewal information asked",
)
REQUESTS = {
    "directory": "directory asked",
    "new-nonce": "nonce asked",
    "new-account": "account asked",
    "new-order": "newOrder sent",
    "authorization": "authorization asked",
    "challenge": "CA told: ready",
    "order": "order polled",
    "finalize": "finalize sent",
    "certificate": "certificate asked",
}


def kill_again_and_again(victim: Victim, *, kills: int, seed: int) -> Report:
    """
    Kill, let the successor run, and look; half of the time at a new name, half at the renewal of one that is published.

    Raises:
        AssertionError: a successor failed or was slow; a token was left; a published pair did not match; more orders than
            one were placed though the first was known.
    """
    moments = random.Random(seed)
    lasting = fresh("lasting")
    with _reading(victim.live) as loaded:
        spans = deque((_span(victim, lasting, i) for i in range(4)), maxlen=5)
        report = Report(seed)
        while len(report.kills) < kills:
            if len(report.kills) % 10 == 0:
                # Measured anew: a machine that has something else to do, too, has slow and fast minutes.
                spans.append(_span(victim, lasting, len(report.kills) // 10))
                report.span = statistics.median(spans)
            assert report.early < 2 * kills + 20, f"most runs end before their moment comes: {report}"
            name = lasting if len(report.kills) % 2 else fresh("killed")
            made = _kill(victim, name, moments.uniform(0, report.span))
            if made is None:
                report.early += 1
            else:
                report.kills.append(made)
    report.loads = loaded[0]
    return report


def make_due(store: Store, name: str) -> None:
    """Let the time of a certificate's renewal have come: that is in its public record, which anybody may rewrite."""
    record = RenewalRecord.read(store, renewal_key(name))
    if record is not None:
        replace(record, renew_after=record.not_before).write(store, renewal_key(name))


def _span(victim: Victim, lasting: str, number: int) -> float:
    """Seconds from the first request to the exit of a run that nobody kills."""
    name = lasting if number % 2 == 0 else fresh("whole")
    make_due(victim.store, name)
    watch = victim.ca.watch()
    process = victim.start(name)
    begin = _first_request(watch, process)
    _succeed(finish(process), name)
    return time.monotonic() - begin


def _kill(victim: Victim, name: str, delay: float) -> Kill | None:
    make_due(victim.store, name)
    before = CertificateRecord.read(victim.store, certificate_key(name))
    watch = victim.ca.watch()
    process = victim.start(name)
    begin = _first_request(watch, process)
    time.sleep(max(0.0, begin + delay - time.monotonic()))
    process.kill()
    killed = finish(process)
    if killed.code != -9:
        _succeed(killed, name)
        return None
    requests = watch.requests()
    order = OrderRecord.read(victim.store, order_key(name))
    after = CertificateRecord.read(victim.store, certificate_key(name))
    saved = after is not None and (before is None or after.version != before.version)
    last = _last(requests, order is not None, after if saved else None, victim.live / name)

    started = time.monotonic()
    ended = finish(victim.start(name))
    took = time.monotonic() - started
    about = f"{name}, killed after {delay:.4f} s, {last}; its successor:\n{ended.text}"
    assert ended.code == 0, about
    assert took < AT_ONCE, about
    assert list(victim.tokens()) == [], about
    now = CertificateRecord.read(victim.store, certificate_key(name))
    assert now is not None, about
    assert before is None or now.cert_pem != before.cert_pem, about
    left = OrderRecord.read(victim.store, order_key(name))
    # Killed between saving and deleting it, the next renewal knows it for what it is.
    assert left is None or left.url == now.order_url, about
    assert (victim.live / name / "current/cert.pem").read_text() == now.cert_pem, about
    load_pair(victim.live / name / "current")
    known = order is not None or saved
    placed = len(watch.orders())
    # The CA may have opened the order, and nobody was left to hear of it.
    assert placed == 1 or (placed == 2 and not known and "new-order" in requests), f"{placed} orders: {about}"
    return Kill(name, delay, last, "new-order" in requests and not saved, known, placed, took)


def _succeed(ended: Ended, name: str) -> None:
    assert ended.code == 0, f"{name}, which nobody killed:\n{ended.text}"


def _last(requests: list[str], ordered: bool, saved: CertificateRecord | None, lineage: Path) -> str:
    """The last that was heard of a run: by the CA, or by the store where that is later."""
    if requests[-1] == "renewal-info":
        return "renewal information asked"
    if saved is not None:
        cert = lineage / "current/cert.pem"
        published = cert.exists() and cert.read_text() == saved.cert_pem
        return "certificate published" if published else "certificate saved"
    last = REQUESTS[requests[-1]]
    if last == "newOrder sent" and ordered:
        return "order saved"
    if last == "order polled" and "finalize" in requests:
        return "order polled after finalizing"
    return last


def _first_request(watch: Watch, process: Popen[str]) -> float:
    """Wait for the first request of a command; returns the time by the monotonic clock."""
    while not watch.heard():
        assert process.poll() is None, f"ended without a request to the CA:\n{finish(process).text}"
        time.sleep(0.001)
    return time.monotonic()


@contextmanager
def _reading(live: Path) -> Iterator[list[int]]:
    """Load every published pair in a loop, as servers do, until the end of the block; then say what did not match."""
    loads, wrong, over = [0], list[str](), threading.Event()

    def read() -> None:
        while not over.wait(0.01):
            # The renewed one, and the latest of the others.
            for current in sorted(live.glob("*/current"), key=lambda link: link.lstat().st_mtime_ns)[-2:]:
                try:
                    load_pair(current)
                except Exception as error:
                    wrong.append(f"{current}: {error!r}")
                loads[0] += 1

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield loads
    finally:
        over.set()
        thread.join()
    assert wrong == []
    assert loads[0] > 0
