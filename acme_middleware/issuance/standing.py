"""How things stand: with each certificate, with the sweeps that keep them, with the keys. No private record is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from acme_middleware import authorities
from acme_middleware.errors import AcmeMiddlewareError, StoreMisconfigured
from acme_middleware.issuance import ledger, plan, renewal
from acme_middleware.issuance.ledger import LedgerRecord
from acme_middleware.issuance.plan import Item
from acme_middleware.issuance.records import RenewalRecord
from acme_middleware.issuance.sweeps import SweepRecord
from acme_middleware.options import Options
from acme_middleware.stores.base import Store
from acme_middleware.stores.sealed import SealedStore, key_id, sealed_with

WINDOWS_PER_LIFETIME = 50
"""Let's Encrypt's windows are 2 % of the lifetime wide: 43 hours of 90 days, 3 of 6. A sweep should fall into each."""

LATE = 1.5
"""So many pauses after the last sweep, and something has stopped the next one."""

NEED_SOMEBODY = frozenset({"expired", "overdue", "damaged"})


@dataclass(frozen=True, slots=True)
class Standing:
    """
    How a certificate stands.

    Attributes:
        state: "ok", "due", "overdue", "expired"; "failing": the last try failed, or what is declared cannot be had; "missing":
            it is declared and nobody has it; "damaged": its record cannot be read.
        why: Why it must be issued now, "" if it need not.
        renews: When it is due, None where there is no certificate.
        by: What says so: "ARI", or the "lifetime".
        failure: The last failure of a row that nothing has ended yet.
        left_out: There is a table CERTIFICATES, and it is not in there.
        given_up: It was asked for once, in vain, and no `renew` tries it again: nobody has it, and it is not in CERTIFICATES.
    """

    item: Item
    state: str
    why: str
    renews: datetime | None
    by: str
    failure: LedgerRecord | None
    left_out: bool
    given_up: bool = False

    @property
    def name(self) -> str:
        """What the certificate is known by."""
        return self.item.name

    @property
    def record(self) -> RenewalRecord | None:
        """What is known of the certificate that there is: its names, dates, CA; None where there is none."""
        return self.item.record

    @property
    def needs_somebody(self) -> bool:
        """Whether ``status`` shall not end well: it has expired or is overdue, is damaged, or fails and was never there."""
        never_there = self.item.record is None and self.failure is not None
        return self.state in NEED_SOMEBODY or never_there or self.item.error is not None


def standings(
    options: Options, store: Store, found: Sequence[Item], now: datetime, *, given_up: bool = False
) -> list[Standing]:
    """
    How each of these certificates stands, in their order. Reads what failed, and nothing else.

    Args:
        given_up: Add those that are known by a failure alone: their first issue failed, and nobody declares them.
    """
    trusted, failures = authorities.find_all(options.ca)[0].trusted, ledger.read_all(store)
    any_declared = bool(options.certificates)
    if given_up:
        others = failures.keys() - {item.name for item in found}
        found = sorted([*found, *(Item(name, failures[name].names) for name in others)], key=lambda item: item.name)
    return [standing(item, failures, plan.why(item, trusted, now), now, any_declared=any_declared) for item in found]


def standing(
    item: Item, failures: Mapping[str, LedgerRecord], why: str | None, now: datetime, *, any_declared: bool
) -> Standing:
    """
    How one certificate stands.

    Args:
        failures: As :func:`acme_middleware.issuance.ledger.read_all` gives them.
        why: What :func:`acme_middleware.issuance.plan.why` says of it.
        any_declared: Whether CERTIFICATES has anything in it.
    """
    record, failure = item.record, failures.get(item.name)
    if record is not None and failure is not None and failure.failed_at <= record.issued_at:
        failure = None  # at a CA that was tried and left again; the certificate came from another
    if item.error is not None:
        state = "damaged" if isinstance(item.error, StoreMisconfigured) else "failing"
    elif record is None:
        state = "missing" if failure is None else "failing"
    else:
        state = renewal.state(record, now)
        if failure is not None and state in ("ok", "due"):
            state = "failing"
        elif state == "ok" and why is not None:
            state = "due"
    given_up = record is None and item.declared is None and item.error is None
    return Standing(
        item,
        state,
        why or "",
        None if record is None else renewal.renews_at(record),
        _by(record),
        failure,
        any_declared and item.declared is None and not given_up,
        given_up,
    )


def _by(record: RenewalRecord | None) -> str:
    if record is None or record.ari is None:
        return "lifetime"
    return "ARI" if renewal.renews_at(record) == record.ari.drawn else "lifetime"


def warnings(sweeps: Sequence[SweepRecord], items: Sequence[Item], now: datetime) -> list[str]:
    """What is wrong with how often somebody looks after the certificates, in sentences."""
    records = [item.record for item in items if item.record is not None]
    if not records:
        return []
    shortest = min(record.not_after - record.not_before for record in records)
    window = shortest / WINDOWS_PER_LIFETIME
    if not sweeps:
        return ["nobody has run `renew` yet: let a timer do it"] if any(now - one.issued_at > window for one in records) else []
    last = sweeps[0]
    found = []
    pauses = [
        record.pause for record in sweeps if record.pause is not None and now - record.ended < 3 * max(record.pause, window)
    ]
    pause = min(pauses, default=None)
    if pause is not None and pause > window:
        found.append(
            f"the sweeps come every {in_words(pause)}, which is too rare for certificates of {in_words(shortest)}: the CA's "
            f"window may be over in {in_words(window)}; let the timer run every {in_words(window / 3)}"
        )
    since = now - last.ended
    if since > max(LATE * (pause or window), window):
        found.append(f"the last sweep was {in_words(since)} ago, on {last.host}: is the timer that runs `renew` still there?")
    return found


def key_warnings(store: SealedStore) -> list[str]:
    """
    What keeps sealed records from being opened here, in sentences. Each says by which key; none is opened for it.

    Accounts are looked at, which are few: reading ten thousand certificates to say how they stand would take seconds.
    """
    sealed: list[tuple[str, str]] = []
    with suppress(AcmeMiddlewareError):  # who may not read them has no use for their keys
        for where, record in store.inner.scan("account/"):
            if (key := sealed_with(record.value)) is not None:
                sealed.append((key, where))
    if not sealed:
        return []
    try:
        known = {key_id(key) for key in store.keys}
    except AcmeMiddlewareError as error:
        return [str(error)]
    if not known:
        records = _listed([where for _, where in sealed])
        hint = "set ACME_ENCRYPTION_KEYS, or ACME_ENCRYPTION_KEYS_FILE, to what the hosts that renew have"
        return [f"no encryption key is set here, so nothing opens {records}: {hint}"]
    found = []
    for missing in sorted({key for key, _ in sealed} - known):
        records = _listed([where for key, where in sealed if key == missing])
        hint = f"put the key {missing} back, behind the first one, and run `keys rotate`"
        found.append(f"none of ENCRYPTION_KEYS opens {records}: {hint}")
    return found


def _listed(records: Sequence[str]) -> str:
    first, *others = records
    return f"the record {first}" if not others else f"{len(records):,} records ({first}, ...)"


def in_words(span: timedelta) -> str:
    """A length of time, roughly: "6 h", "2 d"."""
    minutes = span / timedelta(minutes=1)
    if minutes < 90:
        return f"{max(minutes, 0):.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 48 * 60 else f"{minutes / 60 / 24:.0f} d"
