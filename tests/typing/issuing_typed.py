"""Issuing from an app's own code: options, the issuer, its events, its errors."""

from datetime import datetime
from pathlib import Path
from typing import assert_type

from acme_middleware import events, options
from acme_middleware.errors import AcmeMiddlewareError, CARefused
from acme_middleware.issuance.issuer import Action, Issuer, Outcome

chosen = options.read(("setting", {"store": "memory:", "agree_tos": True}))
assert_type(chosen, options.Options)
assert_type(chosen.ca, str)
assert_type(chosen.ca_bundle, Path | None)
options.Options(agree_tos="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
chosen.email = "ops@example.com"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def tell(event: events.Event) -> None:
    if isinstance(event, events.Issued):
        assert_type(event.names, tuple[str, ...])
        assert_type(event.name, str)


def tell_text(event: str) -> None:
    print(event)


def certificate() -> Path | None:
    issuer = Issuer(chosen, listener=tell)
    Issuer(chosen, listener=tell_text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    try:
        outcome = issuer.issue(["example.com", "www.example.com"], force=True)
    except CARefused as error:
        assert_type(error.hint, str)
        return None
    except AcmeMiddlewareError as error:
        assert_type(error.exit_code, int)
        raise
    assert_type(outcome, Outcome)
    assert_type(outcome.action, Action)
    assert_type(outcome.record.not_before, datetime)
    assert_type(outcome.record.names, tuple[str, ...])
    assert_type(outcome.published, Path | None)
    issuer.issue(["example.com"], name=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return outcome.published
