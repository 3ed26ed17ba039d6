"""
What must hold after every schedule, whatever happened in it.

Each function adds what does not hold to the verdict, in words. A promise that has an exception counts the exception, and only
where the journals show what caused it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from chaos_journal import Line, Placed
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from acme_middleware.issuance.records import CertificateRecord, RenewalRecord, certificate_key, renewal_key
from acme_middleware.stores.base import Store

SLACK = 0.05
"""Seconds that pass between a clock being read and the line about it."""


@dataclass
class Verdict:
    """
    What came of a schedule.

    Attributes:
        wrong: What was promised and does not hold.
        late: Orders of holders that were frozen, or kept from the store, between their check and the saved order.
        unknown: Orders whose answer never reached the store: the process was killed, or the store was down, in between.
        refused: Orders that the CA had ended before the next one was placed.
    """

    wrong: list[str] = field(default_factory=list)
    orders: int = 0
    late: int = 0
    unknown: int = 0
    refused: int = 0


def judge_orders(placed: list[Placed], lines: list[Line], *, ttl: float, verdict: Verdict) -> None:
    """At most one order per name and window, but for what is counted apart."""
    verdict.orders = len(placed)
    proper = []
    for number, entry in enumerate(placed):
        identifier = entry.order.id
        others = placed[number + 1 :]
        if others and all(identifier not in other.alive for other in others):
            verdict.refused += 1
        elif _is_late(entry, lines, ttl):
            verdict.late += 1
        elif _is_unknown(entry, lines):
            verdict.unknown += 1
        else:
            proper.append(identifier)
    if len(proper) > 1:
        verdict.wrong.append(f"{len(proper)} orders were placed in one window: {proper}")
    if verdict.unknown > _lost_answers(lines):
        verdict.wrong.append(f"{verdict.unknown} orders are unknown to the store, and {_lost_answers(lines)} answers were lost")


def _of(entry: Placed, line: Line) -> bool:
    return str(line.get("url", "")).rpartition("/")[2] == entry.order.id


def _is_late(entry: Placed, lines: list[Line], ttl: float) -> bool:
    """Whether the lease of who placed it had run out by the time that the order was saved, or placed, if it never was."""
    mine = [line for line in lines if line["point"] == "placed" and _of(entry, line)]
    if not mine:
        return False
    pid = mine[0]["pid"]
    saved = [line["at"] for line in lines if line["point"] == "order saved" and line["pid"] == pid and _of(entry, line)]
    moment = saved[0] if saved else mine[0]["at"]
    return _last_sign(lines, pid, moment) < moment - ttl + SLACK


def _last_sign(lines: list[Line], pid: int, before: float) -> float:
    """When a process last rewrote its lease, up to a moment."""
    signs = [line["started"] for line in lines if line["point"] == "rewritten" and line["pid"] == pid and line["at"] <= before]
    return max(signs, default=0.0)


def _is_unknown(entry: Placed, lines: list[Line]) -> bool:
    return not any(line["point"] == "order saved" and _of(entry, line) for line in lines)


def _lost_answers(lines: list[Line]) -> int:
    """How often a process had asked for an order and did not come to save it: it was killed, or told that it could not."""
    asked = Counter(line["pid"] for line in lines if line["point"] == "placing")
    saved = Counter(line["pid"] for line in lines if line["point"] == "order saved")
    return sum((asked - saved).values())


def judge_leases(lines: list[Line], verdict: Verdict) -> None:
    """Who has lost a lease never writes it again: a stale holder overwrites nobody."""
    rewritten = sorted((line for line in lines if line["point"] == "rewritten"), key=lambda line: float(line["at"]))
    for late in rewritten:
        before = [line for line in rewritten if line["name"] == late["name"] and line["at"] < late["started"]]
        first = next((line for line in before if line["lease"] == late["lease"]), None)
        between = [line for line in before if first and line["lease"] != late["lease"] and line["started"] > first["at"]]
        if between:
            verdict.wrong.append(f"process {late['pid']} rewrote its lease after process {between[0]['pid']} had taken it over")
            return


def judge_order_records(lines: list[Line], *, ttl: float, verdict: Verdict) -> None:
    """Who has lost a lease does not write its order over that of a successor at work: the next run would not know of that."""
    saved = [line for line in lines if line["point"] == "order saved"]
    for number, late in enumerate(saved):
        sign = _last_sign(lines, late["pid"], late["at"])
        if sign >= late["at"] - ttl - SLACK:
            continue
        for other in saved[:number]:
            done = any(line["point"] == "certificate saved" and other["at"] < line["at"] < late["at"] for line in lines)
            if other["pid"] != late["pid"] and other["at"] > sign and not done:
                verdict.wrong.append(f"process {late['pid']}, whose lease had run out, wrote over the order of {other['pid']}")


def judge_certificate(
    name: str, store: Store, before: CertificateRecord | None, issued: list[str], lines: list[Line], verdict: Verdict
) -> CertificateRecord | None:
    """There is one new certificate, with its key; it is the one that the CA issued; it was saved once."""
    made = CertificateRecord.read(store, certificate_key(name))
    if made is None:
        verdict.wrong.append(f"the store has no certificate of {name}")
        return None
    leaf = x509.load_pem_x509_certificate(made.cert_pem.encode())
    if load_pem_private_key(made.key_pem.encode(), None).public_key() != leaf.public_key():
        verdict.wrong.append("the key in the store is not that of the certificate")
    if before is not None and made.cert_pem == before.cert_pem:
        verdict.wrong.append("the certificate is still the old one")
    renewal = RenewalRecord.read(store, renewal_key(name))
    if renewal is None or renewal.fingerprint != leaf.fingerprint(SHA256()).hex():
        verdict.wrong.append("the public record is of another certificate")
    kept = made.order_url.rpartition("/")[2]
    if kept not in issued:
        verdict.wrong.append(f"the certificate is of order {kept}, and in this window the CA has issued for {issued}")
    if len(issued) > 1:
        verdict.wrong.append(f"the CA has issued {len(issued)} certificates in one window: {len(issued) - 1} are lost")
    saved = sorted((line["at"], line["version"]) for line in lines if line["point"] == "certificate saved")
    if len(saved) > 1:
        verdict.wrong.append(f"{len(saved)} certificates were saved in one window: one was written over by another")
    if saved and saved[-1][1] != made.version:
        verdict.wrong.append("what was saved last is not what is there: a write that was acknowledged is lost")
    return made


def judge_published(live: Path, made: CertificateRecord, verdict: Verdict) -> None:
    """A host's files are the certificate of the store."""
    current = live / made.name / "current"
    for file, there in (("cert.pem", made.cert_pem), ("privkey.pem", made.key_pem)):
        path = current / file
        if not path.exists() or path.read_text().split() != there.split():
            verdict.wrong.append(f"{path} is not what the store has")


def judge_all_there(store: Store, known: dict[str, str], verdict: Verdict) -> None:
    """The certificates of earlier schedules are as they were."""
    found = {key.partition("/")[2]: record.version for key, record in store.scan("certificate/")}
    lost = [name for name, version in known.items() if found.get(name) != version]
    if lost:
        verdict.wrong.append(f"certificates that nobody worked on are gone, or others: {lost}")
