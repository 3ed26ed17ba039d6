"""Certificates from a program's own code, called and awaited, in each place that has it."""

from typing import assert_type

import django_acme_middleware
import flask_acme_middleware
from flask import Flask

from acme_middleware import aissue, astatus, delete, issue, revoke, status, statuses
from acme_middleware.errors import NotAllowed, NotYet
from acme_middleware.issuance.deleting import Deleted
from acme_middleware.issuance.records import RenewalRecord
from acme_middleware.issuance.results import Action, Outcome
from acme_middleware.issuance.revoking import Revocation
from acme_middleware.issuance.standing import Standing

STORE = "file:///var/lib/acme-middleware"


def is_ours(name: str) -> bool:
    return name.endswith(".example")


def by_number(number: int) -> bool:
    return number > 0


def certificate() -> Action | None:
    try:
        outcome = issue("shop.example", allow=is_ours, hourly_per_domain=5, hourly=300, store=STORE, key_type="ec384")
    except (NotAllowed, NotYet) as error:
        assert_type(error.hint, str)
        return None
    assert_type(outcome, Outcome)
    issue(["shop.example", "www.shop.example"], name="shop", by_hand=True)
    issue("shop.example", allow=by_number)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    issue("shop.example", hourly="many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    issue(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return outcome.action


async def awaited() -> None:
    assert_type(await aissue("shop.example", allow=is_ours, store=STORE), Outcome)
    assert_type(await astatus("shop.example"), Standing)
    assert_type(await django_acme_middleware.aissue("shop.example"), Outcome)
    assert_type(await flask_acme_middleware.astatuses(), list[Standing])
    await aissue("shop.example", hourly="many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


assert_type(revoke("shop.example", reason="superseded"), Revocation)
assert_type(delete("shop.example"), Deleted)
assert_type(status("shop.example").record, RenewalRecord | None)
for one in statuses(store=STORE):
    assert_type(one.name, str)
assert_type(django_acme_middleware.issue("shop.example"), Outcome)
assert_type(flask_acme_middleware.issue("shop.example", app=Flask("shop")), Outcome)
