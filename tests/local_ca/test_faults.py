"""Every fault there is, as a client by hand sees it; and the script that says which request meets it."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
from ca_lab import Lab
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from raw_acme import Answer, certificate_id, csr, der, new_key

from acme_middleware.errors import ConfigurationError
from acme_middleware.local_ca import LocalCA
from acme_middleware.local_ca.fault_kinds import KINDS
from acme_middleware.local_ca.faults import FaultsLeft

Try = Callable[[Lab], None]
TRIES: dict[str, Try] = {}


def fault(name: str) -> Callable[[Try], Try]:
    """Register what shows a fault; the lab's CA runs, and the fault is for the function to script."""

    def keep(function: Try) -> Try:
        assert name not in TRIES, f"{name} is tried twice"
        TRIES[name] = function
        return function

    return keep


@pytest.mark.parametrize("name", [kind.name for kind in KINDS])
def test_fault_is_what_its_name_says(name: str, lab: Lab) -> None:
    TRIES[name](lab)
    lab.ca.check()


def test_there_are_more_than_25_faults_and_no_others_are_tried() -> None:
    assert len(KINDS) > 25
    assert set(TRIES) == {kind.name for kind in KINDS}


@fault("bad-nonce")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("bad-nonce")
    name = lab.name()
    client.new_order(name).refused("badNonce", 400)
    client.new_order(name).ok(201)


@fault("rate-limited")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("rate-limited", retry_after=77)
    assert client.new_order(lab.name()).refused("rateLimited", 429).headers["Retry-After"] == "77"


@fault("rate-limited-until")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("rate-limited-until", retry_after=600)
    until = parsedate_to_datetime(client.new_order(lab.name()).refused("rateLimited", 429).headers["Retry-After"])
    assert timedelta(seconds=590) < until - lab.clock() <= timedelta(seconds=600)


@fault("rate-limited-silently")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("rate-limited-silently")
    assert "Retry-After" not in client.new_order(lab.name()).refused("rateLimited", 429).headers


@fault("paused")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("paused", url="https://ca.test/unpause?jwt=x")
    answer = client.new_order(lab.name()).refused("rateLimited", 429)
    assert answer.json()["instance"] == "https://ca.test/unpause?jwt=x"
    assert "Retry-After" not in answer.headers


@fault("server-error")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("server-error", where="account")
    client.post(client.account).refused("serverInternal", 500)


@fault("unavailable")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("unavailable", where="directory", retry_after=5)
    assert client.request("GET", client.directory_url).refused("serverInternal", 503).headers["Retry-After"] == "5"


@fault("terms-changed")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("terms-changed", url="https://ca.test/terms/3")
    answer = client.new_order(lab.name()).refused("userActionRequired", 403)
    assert answer.json()["instance"] == "https://ca.test/terms/3"
    assert answer.links("terms-of-service") == ["https://ca.test/terms/3"]


@fault("names-refused")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("names-refused")
    problem = client.new_order("a.test", "b.test").refused("compound", 400).json()
    assert [entry["identifier"]["value"] for entry in problem["subproblems"]] == ["a.test", "b.test"]


@fault("already-replaced")
def _(lab: Lab) -> None:
    client, name = lab.client(), lab.name()
    issued = lab.issue(client, name)
    lab.ca.fault("already-replaced")
    client.new_order(name).ok(201)
    client.new_order(name, replaces=certificate_id(issued.leaf)).refused("alreadyReplaced", 409)


@fault("bad-csr")
def _(lab: Lab) -> None:
    client = lab.client()
    _, order = lab.ready(client)
    lab.ca.fault("bad-csr")
    lab.finalize(client, order).refused("badCSR", 400)
    lab.finalize(client, order).ok()


@fault("no-document")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("no-document", status=400)
    answer = client.new_order(lab.name())
    assert (answer.status, answer.body) == (400, b"")


@fault("reset-before")
def _(lab: Lab) -> None:
    client, name = lab.client(), lab.name()
    lab.ca.fault("reset-before")
    with pytest.raises(ConnectionResetError):
        client.new_order(name)
    assert lab.ca.state.orders == {}
    client.new_order(name).ok(201)


@fault("reset-after")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("reset-after")
    with pytest.raises(ConnectionResetError):
        client.new_order(lab.name())
    assert len(lab.ca.state.orders) == 1


@fault("closed-before")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("closed-before")
    with pytest.raises(OSError, match=r"closed|EOF"):
        client.new_order(lab.name())
    assert lab.ca.state.orders == {}


@fault("closed-after")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("closed-after")
    with pytest.raises(OSError, match=r"closed|EOF"):
        client.new_order(lab.name())
    assert len(lab.ca.state.orders) == 1


@fault("cut-short")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("cut-short")
    with pytest.raises((http.client.IncompleteRead, OSError)):
        client.new_order(lab.name())


@fault("timeout")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("timeout", seconds=30)
    client.connection.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.new_order(lab.name())
    began = time.monotonic()
    lab.ca.stop()
    assert time.monotonic() - began < 10, "a CA that is stopped does not wait for its own faults"


@fault("slow")
def _(lab: Lab) -> None:
    client = lab.client()
    _, order = lab.ready(client)
    lab.ca.fault("slow", seconds=0.4)
    began = time.monotonic()
    lab.finalize(client, order).ok()
    assert time.monotonic() - began >= 0.4


@fault("html-page")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("html-page", where="order")
    answer = client.post(client.new_order(lab.name()).location).ok()
    assert answer.headers.get_content_type() == "text/html"
    assert answer.body.startswith(b"<!doctype html>")


@fault("redirect")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("redirect", url="https://elsewhere.test/")
    assert client.new_order(lab.name()).ok(302).location == "https://elsewhere.test/"


@fault("garbage-json")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("garbage-json")
    with pytest.raises(json.JSONDecodeError):
        client.new_order(lab.name()).ok(201).json()


@fault("json-array")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("json-array")
    assert client.new_order(lab.name()).ok(201).body == b"[]"


@fault("huge-reply")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("huge-reply", size=3_000_000)
    answer = client.new_order(lab.name()).ok(201)
    assert len(answer.body) > 3_000_000
    assert answer.json()["status"] == "pending"


@fault("wrong-content-type")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("wrong-content-type")
    assert client.new_order(lab.name()).ok(201).headers.get_content_type() == "text/plain"


@fault("wrong-status")
def _(lab: Lab) -> None:
    client = lab.client()
    placed = client.new_order(lab.name()).ok(201)
    lab.ca.fault("wrong-status")
    assert [client.post(placed.location).json()["status"] for _ in range(2)] == ["confused", "pending"]


@fault("unknown-members")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("unknown-members")
    assert client.new_order(lab.name()).ok(201).json()["future"] == {"members": [None, 1.5, {}]}


@fault("missing-member")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("missing-member", member="finalize")
    assert "finalize" not in client.new_order(lab.name()).ok(201).json()


@fault("authorizations-shuffled")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("authorizations-shuffled")
    order = client.new_order("a.test", "b.test").ok(201).json()
    assert [found["identifier"]["value"] for _, found in lab.authorizations(client, order)] == ["b.test", "a.test"]


@fault("missing-location")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("missing-location")
    assert client.new_order(lab.name()).ok(201).location == ""


@fault("missing-nonce")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("missing-nonce")
    assert "Replay-Nonce" not in client.request("HEAD", client.directory["newNonce"]).ok().headers


@fault("garbage-nonce")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("garbage-nonce")
    assert client.nonce() == "no base64url!"


@fault("garbage-retry-after")
def _(lab: Lab) -> None:
    client = lab.client()
    placed = client.new_order(lab.name()).ok(201)
    lab.ca.fault("garbage-retry-after")
    assert client.post(placed.location).headers["Retry-After"] == "soon"


@fault("clock-off")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("clock-off", hours=-5)
    dates = client.request("GET", client.directory_url).headers.get_all("Date") or []
    assert len(dates) == 1
    assert timedelta(hours=4.9) < lab.clock() - parsedate_to_datetime(dates[0]) < timedelta(hours=5.1)


@fault("unknown-challenges-only")
def _(lab: Lab) -> None:
    assert [entry["type"] for entry in challenges(lab, "unknown-challenges-only")] == ["http-99"]


@fault("unknown-challenges-among")
def _(lab: Lab) -> None:
    assert [entry["type"] for entry in challenges(lab, "unknown-challenges-among")] == ["http-99", "dns-00", "http-01"]


@fault("challenge-without-token")
def _(lab: Lab) -> None:
    found = challenges(lab, "challenge-without-token")
    assert [(entry["type"], "token" in entry) for entry in found] == [("dns-persist-01", False), ("http-01", True)]


@fault("http-01-without-token")
def _(lab: Lab) -> None:
    assert [(entry["type"], "token" in entry) for entry in challenges(lab, "http-01-without-token")] == [("http-01", False)]


@fault("secondary-validation-fails")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("secondary-validation-fails", type="dns")
    order = client.new_order(lab.name()).ok(201).json()
    lab.respond(client, order)
    found = client.poll(order["authorizations"][0], until=lambda found: found["status"] != "pending")
    assert found["status"] == "invalid"
    problem = found["challenges"][0]["error"]
    assert problem["type"] == "urn:ietf:params:acme:error:dns"
    assert problem["detail"].startswith("during secondary validation")
    assert lab.site.asked, "the first perspective has looked"


@fault("processing")
def _(lab: Lab) -> None:
    client = lab.client()
    url, order = lab.ready(client)
    lab.ca.fault("processing", polls=3)
    statuses = [lab.finalize(client, order).ok().json()["status"]]
    while statuses[-1] == "processing":
        answer = client.post(url).ok()
        statuses.append(answer.json()["status"])
    assert statuses == ["processing", "processing", "processing", "valid"]


@fault("finalize-fails")
def _(lab: Lab) -> None:
    client = lab.client()
    url, order = lab.ready(client)
    lab.ca.fault("finalize-fails", type="caa")
    answer = lab.finalize(client, order).ok()
    for document in (answer.json(), client.post(url).ok().json()):
        assert document["status"] == "invalid"
        assert document["error"]["type"].endswith(":caa")
        assert "certificate" not in document


@fault("valid-without-certificate")
def _(lab: Lab) -> None:
    client = lab.client()
    url, order = lab.ready(client)
    lab.ca.fault("valid-without-certificate")
    answer = lab.finalize(client, order).ok().json()
    assert (answer["status"], "certificate" in answer) == ("valid", False)
    assert "certificate" in client.post(url).ok().json()


@fault("expired-order")
def _(lab: Lab) -> None:
    client = lab.client()
    url, order = lab.ready(client)
    lab.ca.fault("expired-order")
    lab.finalize(client, order).refused("orderNotReady", 403)
    assert client.post(url).ok().json()["status"] == "invalid"


@fault("order-vanished")
def _(lab: Lab) -> None:
    client = lab.client()
    placed = client.new_order(lab.name()).ok(201)
    lab.ca.fault("order-vanished")
    for _ in range(2):
        client.post(placed.location).refused("malformed", 404)


@fault("authorization-deactivated")
def _(lab: Lab) -> None:
    client = lab.client()
    placed = client.new_order(lab.name()).ok(201)
    lab.ca.fault("authorization-deactivated")
    assert client.post(placed.json()["authorizations"][0]).ok().json()["status"] == "deactivated"
    assert client.post(placed.location).ok().json()["status"] == "invalid"


@fault("account-unknown")
def _(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("account-unknown")
    for _ in range(2):
        client.new_order(lab.name()).refused("accountDoesNotExist", 400)
    client.register().ok(201)
    client.new_order(lab.name()).ok(201)


@fault("truncated-chain")
def _(lab: Lab) -> None:
    assert len(download(lab, "truncated-chain")) == 1


@fault("reversed-chain")
def _(lab: Lab) -> None:
    chain = download(lab, "reversed-chain")
    chain[-1].verify_directly_issued_by(chain[0])
    assert len(chain) == 2


@fault("foreign-chain")
def _(lab: Lab) -> None:
    leaf, above = download(lab, "foreign-chain")
    with pytest.raises((InvalidSignature, ValueError)):
        leaf.verify_directly_issued_by(above)


@fault("garbage-certificate")
def _(lab: Lab) -> None:
    with pytest.raises(ValueError, match="PEM"):
        download(lab, "garbage-certificate")


@fault("certificate-for-another-key")
def _(lab: Lab) -> None:
    key = new_key()
    leaf, above = download(lab, "certificate-for-another-key", key=key)
    assert leaf.public_key() != key.public_key()
    leaf.verify_directly_issued_by(above)


@fault("certificate-for-another-name")
def _(lab: Lab) -> None:
    leaf, _ = download(lab, "certificate-for-another-name")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["other.test"]


@fault("certificate-expired")
def _(lab: Lab) -> None:
    assert download(lab, "certificate-expired")[0].not_valid_after_utc < lab.clock()


@fault("ari-not-json")
def _(lab: Lab) -> None:
    with pytest.raises(json.JSONDecodeError):
        renewal_info(lab, "ari-not-json").json()


@fault("ari-malformed")
def _(lab: Lab) -> None:
    assert renewal_info(lab, "ari-malformed").json()["suggestedWindow"] == {"start": "tomorrow"}


@fault("ari-inverted")
def _(lab: Lab) -> None:
    start, end = window(renewal_info(lab, "ari-inverted"))
    assert start > end


@fault("ari-without-offset")
def _(lab: Lab) -> None:
    start, end = window(renewal_info(lab, "ari-without-offset"))
    assert start.tzinfo is end.tzinfo is None


@fault("ari-after-expiry")
def _(lab: Lab) -> None:
    start, end = window(renewal_info(lab, "ari-after-expiry"))
    assert start < lab.clock() + timedelta(days=90) < end


def challenges(lab: Lab, name: str) -> list[dict[str, str]]:
    client = lab.client()
    order = client.new_order(lab.name()).ok(201).json()
    lab.ca.fault(name)
    [(_, found)] = lab.authorizations(client, order)
    return list(found["challenges"])


def download(lab: Lab, name: str, **more: object) -> list[x509.Certificate]:
    client = lab.client()
    url, order = lab.ready(client)
    lab.finalize(client, order, **more).ok()  # type: ignore[arg-type]
    certificate = client.post(url).ok().json()["certificate"]
    lab.ca.fault(name)
    return x509.load_pem_x509_certificates(client.post(certificate).ok().body)


def renewal_info(lab: Lab, name: str) -> Answer:
    client = lab.client()
    issued = lab.issue(client)
    lab.ca.fault(name)
    return client.request("GET", f"{client.directory['renewalInfo']}/{certificate_id(issued.leaf)}").ok()


def window(answer: Answer) -> tuple[datetime, datetime]:
    found = answer.json()["suggestedWindow"]
    return datetime.fromisoformat(found["start"]), datetime.fromisoformat(found["end"])


def test_fault_happens_as_often_as_it_was_said_and_after_what_it_is_to_skip(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("server-error", 2, where="account", skip=1)
    assert [client.post(client.account).status for _ in range(4)] == [200, 500, 500, 200]


def test_fault_for_ever_happens_to_every_request_of_its_place(lab: Lab) -> None:
    client = lab.client()
    scripted = lab.ca.fault("server-error", None, where=["account", "orders"])
    assert [client.post(url).status for url in (client.account, f"{client.account}/orders", client.account)] == [500] * 3
    client.new_order(lab.name()).ok(201)
    assert scripted.met == 3
    lab.ca.check()


def test_faults_of_one_place_happen_in_the_order_of_the_script(lab: Lab) -> None:
    client = lab.client()
    for name in ("server-error", "bad-nonce", "rate-limited"):
        lab.ca.fault(name, where="account")
    problems = [client.post(client.account).problem for _ in range(4)]
    assert problems == ["serverInternal", "badNonce", "rateLimited", ""]


def test_fault_at_every_place_meets_whatever_is_asked_first(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("unavailable", where="*")
    assert client.request("GET", client.directory_url).status == 503


def test_fault_that_a_request_cannot_have_waits_for_one_that_can(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("missing-location", where="order")
    client.post(f"{client.directory_url.removesuffix('directory')}order/none").refused("malformed", 404)
    with pytest.raises(FaultsLeft):
        lab.ca.check()
    assert client.post(client.new_order(lab.name()).location).location == ""


def test_fault_that_no_request_met_makes_the_run_fail() -> None:
    with (
        pytest.raises(FaultsLeft, match=r"no request has met processing at finalize \(1 times more\)") as caught,
        LocalCA() as ca,
    ):
        ca.fault("processing")
    assert "the test did not try what it says" in caught.value.hint


def test_fault_that_was_met_less_often_than_said_makes_the_run_fail(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("server-error", 3, where="account")
    client.post(client.account).refused("serverInternal", 500)
    with pytest.raises(FaultsLeft, match="server-error at account"):
        lab.ca.stop()


def test_fault_for_ever_that_nobody_met_makes_the_run_fail(lab: Lab) -> None:
    lab.ca.fault("server-error", None)
    with pytest.raises(FaultsLeft, match=r"server-error at new-order \(always\)"):
        lab.ca.stop()


def test_what_failed_is_not_hidden_by_the_faults_that_it_did_not_come_to() -> None:
    def fail(ca: LocalCA) -> None:
        ca.fault("processing")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), LocalCA() as ca:
        fail(ca)


def test_cleared_script_is_no_reason_to_fail() -> None:
    with LocalCA() as ca:
        ca.fault("processing")
        ca.faults.clear()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param(lambda ca: ca.fault("badnonce"), "no fault 'badnonce'; did you mean bad-nonce", id="no such fault"),
        pytest.param(lambda ca: ca.fault("bad-nonce", where="newOrder"), "place for this fault 'newOrder'", id="no such place"),
        pytest.param(
            lambda ca: ca.fault("bad-nonce", where="validation"), "'validation'", id="a request's fault in a validation"
        ),
        pytest.param(
            lambda ca: ca.fault("secondary-validation-fails", where="order"), "'order'", id="a validation's fault in a request"
        ),
        pytest.param(
            lambda ca: ca.fault("rate-limited", after=3), "no parameter of rate-limited 'after'", id="no such parameter"
        ),
    ],
)
def test_fault_that_cannot_be_is_refused_when_it_is_scripted(script: Callable[[LocalCA], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        script(LocalCA())
    assert caught.value.hint.startswith("there are: ")


def test_client_goes_on_over_the_same_connection_after_a_refusal(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("rate-limited")
    client.new_order(lab.name())
    port = client.connection.sock.getsockname()[1]
    name = lab.name()
    client.new_order(name).ok(201)
    assert client.connection.sock.getsockname()[1] == port
    client.post(client.account, {"csr": der(csr(new_key(), [name]))}).ok()
    assert client.connection.sock.getsockname()[1] == port
