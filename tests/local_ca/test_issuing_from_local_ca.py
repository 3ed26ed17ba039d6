"""This project's own issuer at the CA, as it is and with every fault: what comes of it, and what is left."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import local_ports
import pytest
from cryptography import x509
from pebble_lab import COMMAND, Ended, environment, finish, load_pair, names_of, serving, site_app

from acme_middleware import clock, events, options
from acme_middleware.errors import AcmeMiddlewareError
from acme_middleware.issuance.issuer import Action, Issuer, Outcome
from acme_middleware.local_ca import LocalCA
from acme_middleware.local_ca.fault_kinds import KINDS
from acme_middleware.stores.directory import DirectoryStore

NAME = "shop.test"


@dataclass
class Shop:
    """A site with a directory store, and a CA that finds it."""

    ca: LocalCA
    folder: Path
    via: str
    events: list[events.Event] = field(default_factory=list)

    @property
    def options(self) -> dict[str, Any]:
        return {
            "store": f"file:{self.folder / 'store'}",
            "ca": self.ca.directory_url,
            "ca_bundle": str(self.ca.ca_bundle),
            "agree_tos": True,
            "email": "ops@example.com",
            "self_check_via": self.via,
        }

    def issue(self, *names: str, force: bool = False, **more: Any) -> Outcome:
        issuer = Issuer(options.read(("test", {**self.options, **more})), listener=self.events.append)
        return issuer.issue(names or (NAME,), force=force)

    def run(self, *words: str, env: dict[str, str] | None = None, **more: Any) -> Ended:
        """Run the command to its end."""
        given = {name: value for name, value in {**self.options, **more}.items() if value is not None}
        flags = [
            word
            for option, value in given.items()
            for word in [f"--{option.replace('_', '-')}", *([] if value is True else [str(value)])]
        ]
        return finish(
            subprocess.Popen(
                [*COMMAND, "issue", *flags, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=self.folder,
                env=environment(env),
            )
        )

    @property
    def current(self) -> Path:
        return self.folder / "store/live" / NAME / "current"

    def tokens(self) -> list[str]:
        folder = self.folder / "store/challenges/.well-known/acme-challenge"
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []

    def published(self) -> dict[str, bytes | str]:
        """What is in use, byte by byte, and which version that is."""
        found: dict[str, bytes | str] = {"": os.readlink(self.current)}
        return found | {path.name: path.read_bytes() for path in sorted(self.current.iterdir())}

    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, events.Warned)]


@pytest.fixture
def open_shop(ca_state: Path, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    with ExitStack() as stack:

        def start(**settings: Any) -> Shop:
            [port] = stack.enter_context(local_ports.reserve(1))
            ca = stack.enter_context(LocalCA(state=ca_state, resolve={"*": f"127.0.0.1:{port}"}, **settings))
            shop = Shop(ca, tmp_path, f"127.0.0.1:{port}")
            stack.enter_context(serving(site_app(shop.options["store"]), port))
            return shop

        yield start


def test_issuing_leaves_files_that_a_server_can_load(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    outcome = shop.issue("shop.test", "www.shop.test", "127.0.0.1")
    assert outcome.action is Action.ISSUED
    load_pair(shop.current)
    leaf = x509.load_pem_x509_certificate((shop.current / "cert.pem").read_bytes())
    assert names_of(leaf) == {"shop.test", "www.shop.test", "127.0.0.1"}
    assert shop.tokens() == []
    assert outcome.record.ari is not None


def test_command_issues(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    ended = shop.run(NAME, "--json")
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["action"] == "issued"
    load_pair(shop.current)


def test_renewal_is_told_by_the_window_and_replaces(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    first = shop.issue()
    assert shop.issue().action is Action.NOT_DUE
    with clock.replaced(lambda: datetime.now(UTC) + timedelta(days=75)):
        outcome = shop.issue()
    assert outcome.action is Action.RENEWED
    assert outcome.record.serial != first.record.serial
    with shop.ca.state.lock:
        replaced = [order.replaces for order in shop.ca.state.orders.values()]
    assert replaced[0] == ""
    assert int.from_bytes(_unb64(replaced[1].partition(".")[2]), "big") == int(first.record.serial, 16)


def test_account_is_bound_to_an_external_one(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(eab={"customer-7": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I"})
    outcome = shop.issue(eab_kid="customer-7", eab_hmac_key="c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I=")
    assert outcome.action is Action.ISSUED
    [account] = shop.ca.state.accounts.values()
    assert account.binding is not None


def test_alternate_chain_is_chosen_by_the_name_of_its_root(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(alternates=2, chain_length=2)
    root = x509.load_pem_x509_certificate(shop.ca.root(2).encode())
    [common] = root.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    shop.issue(preferred_chain=common.value)
    chain = x509.load_pem_x509_certificates((shop.current / "chain.pem").read_bytes())
    chain[-1].verify_directly_issued_by(root)
    assert shop.warnings() == []


GOES_WELL = ""

# Each fault: what it is given, and how the error begins; GOES_WELL where a certificate comes of it all the same.
OUTCOMES: dict[str, tuple[dict[str, Any], str, int]] = {
    "bad-nonce": ({"times": 5}, GOES_WELL, 0),
    "rate-limited": ({}, "the CA refused: too many requests", 75),
    "rate-limited-until": ({}, "the CA refused: too many requests", 75),
    "rate-limited-silently": ({}, "the CA refused: too many requests", 75),
    "paused": ({}, "the CA refused: your account is paused", 75),
    "server-error": ({"times": 2}, "the CA refused: something went wrong", 75),
    "unavailable": ({"where": "order"}, GOES_WELL, 0),
    "terms-changed": ({}, "the CA refused: the terms of service have changed", 1),
    "names-refused": ({}, "the CA refused: some identifiers are refused", 1),
    "already-replaced": ({}, GOES_WELL, 0),
    "bad-csr": ({}, "the CA refused: the key of the CSR", 1),
    "no-document": ({"times": 2}, "the CA refused: HTTP 400, with no problem document", 1),
    "reset-before": ({"where": "finalize"}, GOES_WELL, 0),
    "reset-after": ({"where": "finalize"}, GOES_WELL, 0),
    "closed-before": ({"where": "order"}, GOES_WELL, 0),
    "closed-after": ({"where": "challenge"}, GOES_WELL, 0),
    "cut-short": ({"where": "certificate"}, GOES_WELL, 0),
    "timeout": ({"where": "order", "seconds": 0.5}, GOES_WELL, 0),
    "slow": ({"seconds": 0.3}, GOES_WELL, 0),
    "html-page": ({}, "https://localhost:", 1),
    "redirect": ({}, "https://localhost:", 1),
    "garbage-json": ({}, "https://localhost:", 1),
    "json-array": ({}, "https://localhost:", 1),
    "huge-reply": ({}, "https://localhost:", 1),
    "wrong-content-type": ({}, GOES_WELL, 0),
    "wrong-status": ({}, "https://localhost:", 1),
    "unknown-members": ({"times": 3}, GOES_WELL, 0),
    "missing-member": ({}, "https://localhost:", 1),
    "authorizations-shuffled": ({}, GOES_WELL, 0),
    "missing-location": ({}, "https://localhost:", 1),
    "missing-nonce": ({}, "https://localhost:", 1),
    "garbage-nonce": ({}, "https://localhost:", 1),
    "garbage-retry-after": ({}, GOES_WELL, 0),
    "clock-off": ({}, "this machine's clock is 5.0 h ahead", 2),
    "unknown-challenges-only": ({}, "the CA does not offer http-01", 1),
    "unknown-challenges-among": ({}, GOES_WELL, 0),
    "challenge-without-token": ({}, GOES_WELL, 0),
    "http-01-without-token": ({}, "the CA", 1),
    "secondary-validation-fails": ({}, f"the CA could not validate {NAME}", 1),
    "processing": ({}, GOES_WELL, 0),
    "finalize-fails": ({}, "the CA did not issue the certificate", 1),
    "valid-without-certificate": ({}, "the CA did not issue the certificate", 1),
    "expired-order": ({"where": "order"}, "the CA", 1),
    "order-vanished": ({"where": "finalize"}, "the CA refused: there is no such order", 1),
    "authorization-deactivated": ({}, "the CA could not validate", 1),
    "account-unknown": ({}, GOES_WELL, 0),
    "truncated-chain": ({}, "the CA sent the certificate without the chain", 1),
    "reversed-chain": ({}, "the CA's certificate is for another key", 1),
    "foreign-chain": ({}, "the CA's chain is broken", 1),
    "garbage-certificate": ({}, "what the CA sent as the certificate cannot be read", 1),
    "certificate-for-another-key": ({}, "the CA's certificate is for another key", 1),
    "certificate-for-another-name": ({}, "the CA's certificate is for other names", 1),
    "certificate-expired": ({}, "the CA's certificate", 1),
    "ari-not-json": ({}, GOES_WELL, 0),
    "ari-malformed": ({}, GOES_WELL, 0),
    "ari-inverted": ({}, GOES_WELL, 0),
    "ari-without-offset": ({}, GOES_WELL, 0),
    "ari-after-expiry": ({}, GOES_WELL, 0),
}


def test_every_fault_has_its_outcome() -> None:
    assert set(OUTCOMES) == {kind.name for kind in KINDS}


def attempt(shop: Shop) -> Outcome | AcmeMiddlewareError:
    try:
        return shop.issue(force=True)
    except AcmeMiddlewareError as error:
        return error


@pytest.mark.parametrize("name", OUTCOMES)
def test_fault_ends_in_a_certificate_or_in_an_error_that_leaves_the_old_one(name: str, open_shop: Callable[..., Shop]) -> None:
    given, message, code = OUTCOMES[name]
    shop = open_shop(authz_reuse=False)
    shop.issue()
    before = shop.published()
    shop.ca.fault(name, **given)
    result = attempt(shop)
    if message:
        assert isinstance(result, AcmeMiddlewareError)
        assert str(result).startswith(message)
        assert result.exit_code == code
        assert shop.published() == before
        assert isinstance(shop.events[-1], events.Failed)
        shop.ca.check()
        # Once the fault is over, the same command gets the certificate.
        result = attempt(shop)
    assert isinstance(result, Outcome), result
    assert result.action is Action.RENEWED
    assert shop.published() != before
    assert shop.tokens() == []
    assert DirectoryStore(shop.folder / "store").get(f"order/{NAME}") is None
    load_pair(shop.current)


@pytest.mark.parametrize("name", [kind.name for kind in KINDS if kind.name.startswith("ari-")])
def test_window_that_makes_no_sense_is_told_and_ignored(name: str, open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    shop.ca.fault(name)
    record = shop.issue().record
    assert record.ari is None
    assert len([warning for warning in shop.warnings() if warning.startswith("no renewal information")]) == 1


@pytest.mark.parametrize(
    ("name", "given", "code", "says"),
    [
        pytest.param("paused", {}, 75, "https://ca.test/unpause", id="a pause shows where to go"),
        pytest.param("rate-limited", {"retry_after": 600}, 75, "600 s", id="a limit shows how long to wait"),
        pytest.param("terms-changed", {}, 1, "https://ca.test/terms/2", id="new terms show where they are"),
        pytest.param("names-refused", {"times": 1}, 1, f"{NAME} is on a list", id="refused names show why"),
        pytest.param("secondary-validation-fails", {}, 1, "during secondary validation", id="a failed validation shows why"),
    ],
)
def test_command_says_what_the_ca_said(
    name: str, given: dict[str, Any], code: int, says: str, open_shop: Callable[..., Shop]
) -> None:
    shop = open_shop()
    shop.ca.fault(name, **given)
    ended = shop.run(NAME)
    assert ended.code == code, ended.text
    assert says in ended.err
    assert ended.err.startswith("error: ")
    assert shop.tokens() == []


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
