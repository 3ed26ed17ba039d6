"""
Every fault that a CA can have, met by ``acme-middleware issue`` at the renewal of a certificate that is in use.

Where the run ends with an error, a person is told what and what to do, with the documented exit code and without a traceback;
the certificate in use is untouched, byte by byte; no token is left; and the next run, once the fault is over, gets the
certificate: with the order that the first had begun, where the CA still has it and it is still of use. Where the CA asked to
wait, the next run does so unless it is forced.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from pebble_lab import Ended, load_pair
from renewals import Renewal

from acme_middleware.local_ca import LocalCA
from acme_middleware.local_ca.fault_kinds import KINDS
from acme_middleware.protocol import network
from acme_middleware.protocol import order as acme_order

GOES_ON, BEGINS_ANEW = True, False
"""What the next run does about the order of a run that has failed."""


@dataclass(frozen=True)
class Met:
    """
    A fault, and what must come of it.

    Attributes:
        says: What a person is shown: in the error where there is one, else in a warning, or nothing.
        code: The exit code; 0 where the run gets over it by itself.
        next_run: GOES_ON or BEGINS_ANEW.
        given: How often and where the fault happens, and its parameters.
        habits: Of the CA.
        orders: How many orders the CA has of that run.
        options: Of the command.
        time_limit: Seconds that a request may take, where that is not the usual.
        patience: Seconds that an order may stay as it is, where that is not the usual.
        waits: Whether the next run, by hand, has to wait.
    """

    fault: str
    code: int = 0
    says: tuple[str, ...] = ()
    next_run: bool = GOES_ON
    given: Mapping[str, Any] = field(default_factory=dict)
    habits: Mapping[str, Any] = field(default_factory=dict)
    orders: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    time_limit: float | None = None
    patience: float | None = None
    waits: bool = False


LATER, FAILED, USAGE = 75, 1, 2

TABLE = {
    # Refusals.
    "a nonce is refused": Met("bad-nonce"),
    "15 nonces are refused one after the other": Met("bad-nonce", given={"times": 15}),
    "every nonce is refused": Met("bad-nonce", FAILED, ("(badNonce)", "the CA's trouble"), given={"times": None}, orders=0),
    "a rate limit, with the seconds to wait": Met(
        "rate-limited", LATER, ("see the limits of this CA (rateLimited)", "the CA asks to wait 3600 s"), orders=0, waits=True
    ),
    "a rate limit, with the date to wait for": Met(
        "rate-limited-until", LATER, ("come back later (rateLimited)", "the CA asks to wait 36"), orders=0, waits=True
    ),
    "a rate limit that does not say how long to wait": Met(
        "rate-limited-silently", LATER, ("too many requests (rateLimited)",), orders=0, waits=True
    ),
    "a rate limit in the middle of an order": Met(
        "rate-limited", LATER, ("too many requests",), given={"where": "finalize"}, waits=True
    ),
    "an account that is paused": Met(
        "paused", LATER, ("your account is paused", "see https://ca.test/unpause"), orders=0, waits=True
    ),
    "a 500 to the order that says what it replaces": Met(
        "server-error", says=("refused to take this as a replacement (something went wrong in this CA)",)
    ),
    "a 500 to every order": Met("server-error", LATER, ("something went wrong in this CA",), given={"times": None}, orders=0),
    "a 500 once, in the middle of an order": Met("server-error", given={"where": "authorization"}),
    "a 500 as long as one tries, in the middle of an order": Met(
        "server-error", LATER, ("something went wrong in this CA",), given={"times": None, "where": "order"}
    ),
    "a 503 to the order": Met("unavailable", LATER, ("this CA is being maintained", "wait 1 s"), orders=0, waits=True),
    "a 503 with a short wait, in the middle of an order": Met(
        "unavailable", given={"where": "finalize"}, code=LATER, says=("maintained",), waits=True
    ),
    "a 503 to the directory, for long": Met(
        "unavailable",
        LATER,
        ("maintained", "wait 600 s"),
        given={"where": "directory", "retry_after": 600},
        orders=0,
        waits=True,
    ),
    "terms that have changed": Met(
        "terms-changed", FAILED, ("agree to them (userActionRequired)", "https://ca.test/terms/2"), orders=0
    ),
    "names that are refused": Met("names-refused", FAILED, ("{name} is on a list (rejectedIdentifier)",), orders=0),
    "a certificate that is replaced already": Met("already-replaced", says=("ordered as a new certificate",)),
    "a certificate request that is refused": Met(
        "bad-csr", FAILED, ("known to be compromised (badCSR)",), next_run=BEGINS_ANEW
    ),
    "a refusal without a document": Met(
        "no-document", FAILED, ("HTTP 400, with no problem document",), given={"times": 2}, orders=0
    ),
    # Connections.
    "a reset before an order is placed": Met("reset-before", LATER, ("no answer from", "nothing was lost"), orders=0),
    "a reset after an order was placed": Met(
        "reset-after", LATER, ("no answer from", "nothing was lost"), next_run=BEGINS_ANEW
    ),
    "a reset before the request to finalize is read": Met("reset-before", given={"where": "finalize"}),
    "a reset after the order was finalized": Met("reset-after", given={"where": "finalize"}),
    "a connection that is closed before an answer": Met("closed-before", given={"where": "order"}),
    "a connection that is closed after the CA was told to look": Met("closed-after", given={"where": "challenge"}),
    "a CA that closes every connection": Met(
        "closed-before", LATER, ("no answer from",), given={"where": "directory", "times": None}, orders=0
    ),
    "half a certificate, and the end of the connection": Met("cut-short", given={"where": "certificate"}),
    "half an answer to the order": Met("cut-short", LATER, ("no answer from",), next_run=BEGINS_ANEW),
    "no answer to the order in time": Met("timeout", LATER, ("no answer from", "timed out"), orders=0, time_limit=1.0),
    "no answer in time once, in the middle of an order": Met("timeout", given={"where": "order"}, time_limit=1.0),
    "an answer that takes its time": Met("slow", given={"seconds": 0.3}),
    # Somebody else answers.
    "a page in place of the order": Met("html-page", FAILED, ("that are no JSON object", "a proxy in front"), orders=0),
    "a page in place of the directory": Met(
        "html-page", USAGE, ("is no ACME directory", "--ca takes"), given={"where": "directory"}, orders=0
    ),
    "a redirect": Met("redirect", FAILED, ("answered 302",), orders=0),
    # Documents.
    "half a document": Met("garbage-json", FAILED, ("no JSON object",), next_run=BEGINS_ANEW),
    "a list in place of a document": Met("json-array", FAILED, ("no JSON object",), next_run=BEGINS_ANEW),
    "a document of four megabytes": Met(
        "huge-reply", FAILED, ("answered with more than 1,048,576 bytes",), next_run=BEGINS_ANEW
    ),
    "JSON that is called text": Met("wrong-content-type", given={"times": 3}),
    "a status that nobody knows": Met(
        "wrong-status", FAILED, ("'confused', which RFC 8555 does not know",), next_run=BEGINS_ANEW
    ),
    "a status that nobody knows, in the middle of an order": Met(
        "wrong-status", FAILED, ("'confused', which RFC 8555 does not know",), given={"where": "order"}
    ),
    "members of the future": Met("unknown-members", given={"times": 3}),
    "an order without a status": Met("missing-member", FAILED, ("lacks 'status'",), next_run=BEGINS_ANEW),
    "an order without a URL to finalize it": Met(
        "missing-member",
        FAILED,
        ("lacks 'finalize'",),
        given={"member": "finalize", "where": "new-order"},
        next_run=BEGINS_ANEW,
    ),
    "an authorization without its identifier": Met(
        "missing-member", FAILED, ("is no authorization",), given={"member": "identifier", "where": "authorization"}
    ),
    "authorizations in another order": Met("authorizations-shuffled"),
    # Headers.
    "an order without a URL": Met("missing-location", FAILED, ("without a Location header",), next_run=BEGINS_ANEW),
    "no nonce where there should be one": Met("missing-nonce", FAILED, ("gave no nonce",), orders=0),
    "a nonce that is no base64url": Met("garbage-nonce", FAILED, ("gave no nonce",), orders=0),
    "a Retry-After that is no time": Met("garbage-retry-after"),
    "a clock that is off": Met("clock-off", USAGE, ("5.0 h ahead of the CA's", "set the clock"), orders=0),
    # Challenges.
    "challenges of unknown types only": Met(
        "unknown-challenges-only", FAILED, ("does not offer http-01 for {name}", "it offers http-99")
    ),
    "challenges of unknown types beside http-01": Met("unknown-challenges-among"),
    "a challenge that has no token by its type": Met("challenge-without-token"),
    "http-01 without a token": Met("http-01-without-token", FAILED, ("does not offer http-01 for {name}",)),
    "a second perspective that sees nothing": Met(
        "secondary-validation-fails", FAILED, ("could not validate {name}", "during secondary validation"), next_run=BEGINS_ANEW
    ),
    # Orders, authorizations and accounts.
    "an order that is processing for a while": Met("processing"),
    "an order that is processing for too long": Met(
        "processing", LATER, ("has left the order processing for 1 s", "the same order"), given={"polls": 1000}, patience=1.0
    ),
    "an order that fails when it is finalized": Met(
        "finalize-fails",
        FAILED,
        ("the certificate could not be issued (serverInternal)", "starts a new order"),
        next_run=BEGINS_ANEW,
    ),
    "an order that is valid without a certificate": Met(
        "valid-without-certificate", FAILED, ("did not issue the certificate",), next_run=BEGINS_ANEW
    ),
    "an order that expires while it is validated": Met(
        "expired-order", FAILED, ("the order has expired",), given={"where": "order"}, next_run=BEGINS_ANEW
    ),
    "an order that expires before it is finalized": Met(
        "expired-order", FAILED, ("orderNotReady",), given={"where": "finalize"}, next_run=BEGINS_ANEW
    ),
    "an order that the CA forgets": Met(
        "order-vanished", FAILED, ("there is no such order",), orders=0, given={"where": "finalize"}, next_run=BEGINS_ANEW
    ),
    "an authorization that somebody deactivates": Met(
        "authorization-deactivated", FAILED, ("could not validate {name}", "is deactivated"), next_run=BEGINS_ANEW
    ),
    "an account that the CA forgets": Met("account-unknown", says=("does not know our account any more",)),
    # Certificates.
    "a certificate that is not there": Met(
        "no-document", FAILED, ("HTTP 404",), given={"where": "certificate", "status": 404}, next_run=BEGINS_ANEW
    ),
    "a certificate that waits for the terms": Met(
        "terms-changed", FAILED, ("agree to them (userActionRequired)",), given={"where": "certificate"}
    ),
    "a certificate that a limit holds back": Met(
        "rate-limited", LATER, ("too many requests", "(rateLimited)"), given={"where": "certificate"}, waits=True
    ),
    "an alternate chain that is not there": Met(
        "no-document",
        says=("another chain of the CA cannot be had", "HTTP 404", "its default chain is used"),
        given={"where": "certificate", "status": 404, "skip": 1},
        options={"preferred_chain": "Nobody's Root"},
        habits={"alternates": 1},
    ),
    "a certificate without its chain": Met("truncated-chain", FAILED, ("without the chain",), next_run=BEGINS_ANEW),
    "a certificate after its chain": Met("reversed-chain", FAILED, ("is for another key",), next_run=BEGINS_ANEW),
    "a chain that has not issued the certificate": Met("foreign-chain", FAILED, ("chain is broken",), next_run=BEGINS_ANEW),
    "half a certificate": Met("garbage-certificate", FAILED, ("cannot be read",), next_run=BEGINS_ANEW),
    "half a certificate, and the alternates as usual": Met(
        "garbage-certificate", FAILED, ("cannot be read",), next_run=BEGINS_ANEW, options={"preferred_chain": "Nobody's Root"}
    ),
    "a certificate for another key": Met("certificate-for-another-key", FAILED, ("is for another key",), next_run=BEGINS_ANEW),
    "a certificate for another name": Met(
        "certificate-for-another-name", FAILED, ("is for other names",), next_run=BEGINS_ANEW
    ),
    "a certificate that has expired": Met(
        "certificate-expired", FAILED, ("the CA's certificate", "expired"), next_run=BEGINS_ANEW
    ),
    # Renewal information.
    "renewal information that is no JSON": Met("ari-not-json", says=("no renewal information",)),
    "renewal information without a window": Met("ari-malformed", says=("makes no sense",)),
    "a renewal window that ends before it begins": Met("ari-inverted", says=("makes no sense",)),
    "a renewal window without a time zone": Met("ari-without-offset", says=("makes no sense",)),
    "a renewal window after the certificate": Met("ari-after-expiry", says=("makes no sense",)),
    "renewal information that is refused": Met(
        "rate-limited", says=("no renewal information: the CA refused: too many requests",), given={"where": "renewal-info"}
    ),
}


@pytest.mark.parametrize("met", [pytest.param(met, id=name) for name, met in TABLE.items()])
def test_fault_at_a_renewal(met: Met, due: Callable[..., Renewal], monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(met, monkeypatch)
    renewal = due(**met.habits)
    site, ca = renewal.site, renewal.lab.ca
    ca.fault(met.fault, **met.given)
    ended = renewal.run(**met.options)
    assert ended.code == met.code, ended.text
    shown = " ".join(ended.text.split())
    for words in met.says:
        assert words.format(name=renewal.name) in shown, ended.text
    assert "Traceback" not in ended.text
    assert "bug in acme-middleware" not in ended.text
    assert "Error(" not in ended.text, "a person is shown what Python calls it"
    assert site.tokens() == []
    ca.check()
    get_over_it(ca)
    assert len(site.orders()) == met.orders
    if met.code == 0:
        assert "error" not in ended.text
        assert ("  warning " in ended.out) is bool(met.says), ended.text
    else:
        demand_clear(ended)
        assert site.snapshot() == renewal.before
        again = next_run(met.waits, renewal.run)
        assert again.code == 0, again.text
        resumed = met.orders > 0 and met.next_run is GOES_ON
        assert ("begun by an earlier run" in again.out) is resumed, again.text
        assert len(site.orders()) == met.orders + (not resumed)
        assert site.tokens() == []
    assert site.snapshot() != renewal.before
    assert [key for key, _ in site.records().scan("order/")] == []
    load_pair(site.current(renewal.name))


def shorten(met: Met, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that are not half a minute or three."""
    if met.time_limit is not None:
        monkeypatch.setattr(network, "TIMEOUT", met.time_limit)
    if met.patience is not None:
        monkeypatch.setitem(acme_order.wait_for_order.__kwdefaults__ or {}, "patience", met.patience)


def get_over_it(ca: LocalCA) -> None:
    """Let the CA be well again."""
    ca.faults.clear()
    with ca.state.lock:
        for order in ca.state.orders.values():
            order.polls_left = 0


def next_run(waits: bool, run: Callable[..., Ended]) -> Ended:
    """The run after one that has failed, which is forced where it would have to wait."""
    if not waits:
        return run()
    refused = run()
    assert refused.code == LATER, refused.text
    demand_clear(refused)
    assert "must wait" in refused.err
    return run("--force")


def demand_clear(ended: Ended) -> None:
    """One error, on standard error alone, and below it what to do."""
    first, *advice = ended.err.splitlines()
    assert first.startswith("error: "), ended.text
    assert "error: " not in ended.out
    assert advice, f"no advice: {ended.text}"
    assert all(line.startswith("  ") and line.strip() for line in advice), ended.text


@pytest.mark.parametrize(
    ("fault", "given", "code", "says"),
    [
        pytest.param("rate-limited", {}, LATER, "the CA asks to wait 3600 s", id="a rate limit"),
        pytest.param("garbage-json", {}, FAILED, "no JSON object", id="half a document"),
        pytest.param("clock-off", {}, USAGE, "set the clock", id="a clock that is off"),
        pytest.param("secondary-validation-fails", {}, FAILED, "during secondary validation", id="a failed validation"),
        pytest.param("certificate-for-another-key", {}, FAILED, "is for another key", id="a wrong certificate"),
        pytest.param("order-vanished", {"where": "finalize"}, FAILED, "no such order", id="a forgotten order"),
    ],
)
def test_command_by_itself_says_and_leaves_the_same(
    fault: str, given: Mapping[str, Any], code: int, says: str, due: Callable[..., Renewal]
) -> None:
    renewal = due()
    site, ca = renewal.site, renewal.lab.ca
    ca.fault(fault, **given)
    ended = site.run(renewal.name)
    assert ended.code == code, ended.text
    demand_clear(ended)
    assert says in " ".join(ended.err.split())
    assert "Traceback" not in ended.text
    ca.check()
    assert site.tokens() == []
    assert site.snapshot() == renewal.before
    again = next_run(fault == "rate-limited", functools.partial(site.run, renewal.name))
    assert again.code == 0, again.text
    assert site.snapshot() != renewal.before


@pytest.mark.parametrize("met", [pytest.param(met, id=name) for name, met in TABLE.items() if met.code])
def test_error_as_json_says_the_same(met: Met, due: Callable[..., Renewal], monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(met, monkeypatch)
    renewal = due(**met.habits)
    renewal.lab.ca.fault(met.fault, **met.given)
    ended = renewal.run("--json", **met.options)
    assert (ended.code, ended.err, ended.out.count("\n")) == (met.code, "", 1), ended.text
    error = json.loads(ended.out)["error"]
    assert error["exit_code"] == met.code
    shown = " ".join(f"{error['message']} {error['hint']}".split())
    for words in met.says:
        assert words.format(name=renewal.name) in shown
    assert renewal.site.tokens() == []
    assert renewal.site.snapshot() == renewal.before


def test_every_fault_is_met() -> None:
    assert {met.fault for met in TABLE.values()} == {kind.name for kind in KINDS}
