"""Whether what is in the store is what servers present: every certificate, every name in it, every address."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from acme_middleware import clock, events
from acme_middleware.deploy import proofs
from acme_middleware.deploy.proofs import Proof
from acme_middleware.errors import PublishFailed
from acme_middleware.issuance.plan import Item
from acme_middleware.issuance.records import RenewalRecord
from acme_middleware.verify import TIMEOUT, Finding, verify

__all__ = ["Verification", "prove", "verify_all"]

MOST_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Verification:
    """
    What was found about one certificate.

    Attributes:
        name: What it is known by.
        record: What should be served, None where there is no certificate.
        findings: What each address gave for each name in it.
        problem: Why nothing could be compared; "" if it was.
    """

    name: str
    record: RenewalRecord | None
    findings: tuple[Finding, ...] = ()
    problem: str = ""

    @property
    def served(self) -> bool:
        """Whether it is served for all its names, at every address that could be asked."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, a sentence each."""
        if self.problem:
            return (self.problem,)
        return tuple(str(finding) for finding in self.findings if not finding.ok and not finding.unsure)


def verify_all(
    items: Sequence[Item],
    root: Path | None,
    addresses: Sequence[tuple[str, int]] | None = None,
    *,
    wait: float = 0.0,
    timeout: float = TIMEOUT,
    emit: events.Listener = events.log,
) -> Generator[Verification, None, None]:
    """
    Look at the servers of several certificates, a few at the same time; their order stays.

    Args:
        items: The certificates; what is declared and not there is not served.
        root: PUBLISH_DIR, where the outcome is kept for ``status``; None: nowhere.
        addresses: As for :func:`acme_middleware.verify.verify`.
        wait: As there; each certificate has all of it.
        timeout: As there.
        emit: Is told every event.
    """

    stop = threading.Event()

    def one(item: Item) -> Verification:
        if item.error is not None:
            return Verification(item.name, item.record, problem=str(item.error))
        if item.record is None:
            return Verification(item.name, None, problem="there is no certificate yet")
        chained = _chained(item.record, root)
        findings = verify(item.record, addresses, wait=wait, timeout=timeout, stop=stop, chained=chained)
        return Verification(item.name, item.record, tuple(findings))

    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        try:
            for found in pool.map(one, items):
                _note(found, root, emit)
                yield found
        finally:
            # Somebody who gives up does not wait for what is waited for.
            stop.set()


def prove(
    record: RenewalRecord,
    root: Path | None,
    addresses: Sequence[tuple[str, int]] | None = None,
    *,
    wait: float = 0.0,
    timeout: float = TIMEOUT,
    emit: events.Listener = events.log,
) -> Verification:
    """Look at the servers of one certificate, as :func:`verify_all` does."""
    item = Item(record.name, record.names, record)
    (found,) = verify_all([item], root, addresses, wait=wait, timeout=timeout, emit=emit)
    return found


def _chained(record: RenewalRecord, root: Path | None) -> bool:
    """Whether there is a chain to be served with it: its public record says nothing of that, the files published here do."""
    if root is None:
        return True
    current = root / record.name / "current"
    try:
        der = ssl.PEM_cert_to_DER_cert((current / "cert.pem").read_text("ascii"))
        return hashlib.sha256(der).hexdigest() != record.fingerprint or bool((current / "chain.pem").read_bytes().strip())
    except (OSError, ValueError):
        return True


def _note(found: Verification, root: Path | None, emit: events.Listener) -> None:
    """Keep what was found, and tell it."""
    if found.record is not None and root is not None and root.is_dir():
        try:
            proofs.write(root, Proof(found.name, found.record.fingerprint, clock.now(), found.problems))
        except PublishFailed as error:
            # Somebody who may look at servers need not be one who may write here.
            emit(events.Warned(name=found.name, message=f"`status` will not know of it: {error}"))
    if found.served:
        places = dict.fromkeys(finding.address for finding in found.findings if finding.ok)
        emit(events.Verified(name=found.name, addresses=tuple(places)))
    else:
        emit(events.NotServed(name=found.name, problems=found.problems))
