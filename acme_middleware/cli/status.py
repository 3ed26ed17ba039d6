"""The verb ``status``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from acme_middleware import clock
from acme_middleware._text import printable
from acme_middleware.cli import flags
from acme_middleware.cli.report import as_typed, plain, print_json, print_table, reported
from acme_middleware.deploy import proofs
from acme_middleware.deploy.proofs import Proof
from acme_middleware.deploy.state import Delivery
from acme_middleware.issuance import deploying, lineages, plan, sweeps
from acme_middleware.issuance.ledger import when
from acme_middleware.issuance.published import publish_dir
from acme_middleware.issuance.standing import Standing, in_words, key_warnings, standings, warnings
from acme_middleware.issuance.sweeps import SweepRecord
from acme_middleware.options import Options

EXIT_ATTENTION = 3
HEADINGS = ("NAME", "STATE", "VALID UNTIL", "RENEWS ABOUT", "SERVED", "CA")
FACTS = ("names", "ca", "profile", "serial", "fingerprint", "not_before", "not_after", "issued_at", "renew_after")


@click.command(short_help="Show every certificate: its state, until when it is valid, when it renews, what failed.")
@flags.of_table(only={"store", "ca", "publish_dir"})
@reported
def status(config: Path | None, as_json: bool, **given: Any) -> int:
    """
    Show every certificate in the store or in CERTIFICATES, and when somebody last ran `renew`. Needs no encryption key, says
    where one is missing, and asks no CA.

    A certificate is ok, due, overdue (revoked, or more than half of the time from due to expired is over), expired, failing
    (the last try failed, be it the first, or what CERTIFICATES asks for cannot be had), missing (declared, and not issued
    yet) or damaged (its record cannot be read). It is SERVED if `verify` on this host has seen it; where it has not looked
    since it was issued, this says whether the deployers of this host are done with it.

    \b
    --json prints one object: "certificates", each with
      state, name, names, ca, profile, serial, fingerprint, not_before,
      not_after, issued_at, renew_after, and
      renews_by: "ARI" (the CA's advice) or "lifetime"; explanation: the CA's URL
      why: why it must be issued now, or ""; declared: whether in CERTIFICATES
      problem: what is wrong with its record, or null
      deployers: of this host, each with deployer, deployed, serial,
      deployed_at, error, failed_at, failures
      verified: null, or served, at, problems (of this very certificate)
      last_error: null, or error, kind, failures, failed_at, next_try, paused;
    "sweeps", each with host, began, ended, every (seconds), counts;
    and "warnings", sentences.

    \b
    Exit codes: 0 all is well; 3 a certificate has expired or is overdue, is
    damaged, or is declared, was never there and fails, or a deployer of this
    host failed; 2 and 75 as for issue.
    """
    options = flags.load(given, config)
    store, now = lineages.open_state(options), clock.now()
    items = plan.items(options, store)
    found = standings(options, store, items, now, given_up=True)
    swept = sweeps.read_all(store)
    warned = [*warnings(swept, items, now), *key_warnings(store)]
    root = publish_dir(options, store)
    seen = {one.name: _of_this_host(one, options, root) for one in found}
    if as_json:
        print_json(
            {
                "certificates": [_document(one, seen[one.name]) for one in found],
                "sweeps": [_sweep_document(record) for record in swept],
                "warnings": warned,
            }
        )
    elif found:
        print_table(HEADINGS, [row for one in found for row in _rows(one, seen[one.name], now)])
        _show_sweeps(swept, now)
    else:
        click.echo(f"  no certificate yet: `{flags.surroundings().issue_command} example.com` gets one")
    for warning in () if as_json else warned:
        click.echo(f"  warning: {printable(warning)}")
    undeployed = any(delivery.error for here in seen.values() for delivery in here.deliveries)
    return EXIT_ATTENTION if undeployed or any(one.needs_somebody and not one.given_up for one in found) else 0


class _Here(NamedTuple):
    """What this host knows of a certificate: what `verify` has seen of this very one, and how far each deployer has come."""

    proof: Proof | None = None
    deliveries: Sequence[Delivery] = ()

    def served(self, serial: str) -> str:
        if self.proof is not None:
            return "yes" if self.proof.served else "no"
        if not self.deliveries:
            return "-"
        if any(delivery.error for delivery in self.deliveries):
            return "not deployed"
        return "deployed" if all(delivery.is_done(serial) for delivery in self.deliveries) else "not yet"


def _of_this_host(one: Standing, options: Options, root: Path | None) -> _Here:
    if root is None or one.record is None:
        return _Here()
    proof = proofs.read(root, one.name)
    return _Here(
        proof if proof is not None and proof.is_of(one.record.fingerprint) else None,
        deploying.deliveries(options, root, one.name),
    )


def _document(one: Standing, here: _Here) -> dict[str, Any]:
    item, record, failure, proof = one.item, one.item.record, one.failure, here.proof
    return {
        "state": one.state,
        "name": item.name,
        **{fact: plain(getattr(record, fact, None)) for fact in FACTS},
        "names": list(record.names if record else item.names),
        "renew_after": plain(one.renews),
        "renews_by": one.by,
        "explanation": record.ari.explanation if record and record.ari else "",
        "why": one.why,
        "declared": item.declared is not None,
        "problem": None if item.error is None else str(item.error),
        "verified": proof and {"served": proof.served, "at": plain(proof.at), "problems": list(proof.problems)},
        "deployers": [
            {
                "deployer": delivery.spec,
                "deployed": record is not None and delivery.is_done(record.serial),
                "serial": delivery.serial or None,
                "deployed_at": delivery.deployed_at or None,
                "error": delivery.error or None,
                "failed_at": delivery.failed_at or None,
                "failures": delivery.failures,
            }
            for delivery in here.deliveries
        ],
        "last_error": failure
        and {
            "error": failure.error,
            "kind": failure.kind,
            "failures": failure.failures,
            "failed_at": plain(failure.failed_at),
            "next_try": plain(failure.next_try),
            "paused": failure.paused,
        },
    }


def _sweep_document(record: SweepRecord) -> dict[str, Any]:
    every = record.pause
    return {
        "host": record.host,
        "began": plain(record.began),
        "ended": plain(record.ended),
        "every": every and every.total_seconds(),
        "counts": dict(record.counts),
    }


def _rows(one: Standing, here: _Here, now: datetime) -> Iterator[tuple[str, ...]]:
    record, failure, proof = one.item.record, one.failure, here.proof
    ca = "-" if record is None else f"{record.ca} ({record.profile})" if record.profile else record.ca
    until = "-" if record is None else f"{record.not_after:%Y-%m-%d} ({(record.not_after - now).days} d)"
    served = "-" if record is None else here.served(record.serial)
    yield one.item.name, one.state, until, _renews(one, now), served, ca
    if one.item.error is not None:
        yield (str(one.item.error),)
        yield from ((line,) for line in as_typed(one.item.error.hint).splitlines())
    elif one.given_up:
        yield ("never issued, and `renew` leaves it out: `issue` it again, or `delete` it",)
    elif one.why and one.why != "due for renewal":
        yield (one.why,)
    if one.state == "ok" and record is not None and record.ari is not None and record.ari.explanation:
        yield (f"the CA explains its advice: {record.ari.explanation}",)
    if failure is not None:
        often = f"failure {failure.failures} in a row, " if failure.failures > 1 else ""
        yield (f"last error: {failure.error} ({often}{failure.failed_at:%Y-%m-%d %H:%M} UTC)",)
        if failure.paused:
            yield (f"the CA has paused this account for these names: {failure.paused}",)
    for delivery in here.deliveries:
        if delivery.error:
            often = f"failure {delivery.failures} in a row, " if delivery.failures > 1 else ""
            yield (f"last deploy error: {delivery.error} ({often}{delivery.failed_at})",)
    if proof is not None:
        yield from ((f"not served: {problem} (looked {proof.at:%Y-%m-%d %H:%M} UTC)",) for problem in proof.problems)
    if one.left_out:
        yield ("not in CERTIFICATES: renewed as it was issued, until it is deleted",)


def _renews(one: Standing, now: datetime) -> str:
    failure = one.failure
    if failure is not None and failure.next_try > now:
        day, time, _ = when(failure.next_try, up=True).split()
        return f"next try {time}" if day == f"{now:%Y-%m-%d}" else f"next try {day[5:]} {time}"
    if one.renews is None or one.why:
        return "now" if one.item.error is None else "-"
    return f"{one.renews:%Y-%m-%d}{' (ARI)' if one.by == 'ARI' else ''}"


def _show_sweeps(swept: Sequence[SweepRecord], now: datetime) -> None:
    if swept:
        last = swept[0]
        every = f", every {in_words(last.pause)} expected" if last.pause is not None else ""
        others = f", {len(swept) - 1} other host{'s' if len(swept) > 2 else ''} too" if len(swept) > 1 else ""
        click.echo(f"  last sweep {in_words(now - last.ended)} ago on {last.host}{every}{others}")
