"""Accounts (RFC 8555 section 7.3): registering, finding, changing, new keys, external binding, deactivation."""

from __future__ import annotations

import re
from typing import Any

from werkzeug.wrappers import Response

from acme_middleware.local_ca import base64url, jws
from acme_middleware.local_ca.authentication import account_id
from acme_middleware.local_ca.call import Call, Desk, reply
from acme_middleware.local_ca.model import Account, new_id
from acme_middleware.local_ca.problems import Refused

MAILTO = re.compile(r"mailto:[^@\s,?]+@[^@\s,?]+\.[^@\s,?.]+", re.IGNORECASE)
ORDERS_PER_PAGE = 100


def new_account(call: Call, desk: Desk) -> Response:
    """Section 7.3: register a key, or find the account that it has."""
    if call.key is None:
        raise Refused("malformed", "newAccount is signed with `jwk`")
    request, thumbprint = call.object(), jws.thumbprint(call.key)
    account = desk.state.account_of_key(thumbprint)
    if account is not None and desk.rules.kept("8555-7.3.1-account-found-by-key"):
        desk.demand(
            "8555-7.3.6-deactivated-key",
            account.status == "valid",
            Refused("unauthorized", "the account of this key is deactivated"),
        )
        return _show(call, account)
    desk.demand(
        "8555-7.3.1-only-return-existing",
        request.get("onlyReturnExisting") is not True,
        Refused("accountDoesNotExist", "this key has no account"),
    )
    desk.demand(
        "8555-7.3-terms-agreed",
        not desk.settings.terms or request.get("termsOfServiceAgreed") is True,
        Refused("userActionRequired", "the terms of service must be agreed to", members={"instance": call.url("terms")}),
    )
    account = Account(new_id(), call.key, thumbprint, _contact(request.get("contact", []), desk))
    account.binding = _bind(call, request, thumbprint, desk)
    desk.state.accounts[account.id] = account
    return _show(call, account, 201 if desk.rules.kept("8555-7.3-created") else 200)


def account(call: Call, desk: Desk) -> Response:
    """Section 7.3.2 and 7.3.6: show, change or deactivate an account. What is not to be changed is ignored."""
    _demand_own(call, desk)
    if call.payload:
        request = call.object()
        if "contact" in request:
            call.owner.contact = _contact(request["contact"], desk)
        status = request.get("status")
        if status is not None and status != "deactivated":
            desk.demand("8555-7.3.2-status-not-set", False, Refused("malformed", f"an account cannot be made {status!r}"))
            call.owner.status = str(status)
        elif status is not None:
            call.owner.status = "deactivated"
            # Section 7.3.6: its pending authorizations are of no use any more; what was issued stays.
            for entry in desk.state.authorizations.values():
                too = entry.account is call.owner and desk.rules.kept("8555-7.3.6-authorizations-too")
                if too and entry.status == "pending":
                    entry.status = "deactivated"
    return _show(call, call.owner)


def orders(call: Call, desk: Desk) -> Response:
    """Section 7.1.2.1: the orders of an account that are of use, page by page."""
    _demand_own(call, desk)
    try:
        page = max(0, int(call.request.args.get("page", "0")))
    except ValueError:
        raise Refused("malformed", "there is no such page", status=404) from None
    for order in call.owner.orders:
        desk.settle(order)
    listed = desk.rules.kept("8555-7.1.2.1-orders-listed")
    useful = [order for order in call.owner.orders if listed and order.status != "invalid"]
    shown = useful[page * ORDERS_PER_PAGE : (page + 1) * ORDERS_PER_PAGE]
    answer = reply({"orders": [call.url("order", id=order.id) for order in shown]})
    if len(useful) > (page + 1) * ORDERS_PER_PAGE:
        answer.headers.add("Link", f'<{call.url("orders", id=call.id)}?page={page + 1}>;rel="next"')
    return answer


def key_change(call: Call, desk: Desk) -> Response:
    """Section 7.3.5: a JWS by the new key inside of one by the old key."""
    inner = jws.parse(call.payload, desk.rules)
    jws.demand_algorithm(inner.protected, desk.rules)
    desk.demand(
        "8555-7.3.5-inner-key",
        "jwk" in inner.protected,
        Refused("malformed", "the inner JWS does not bring the new key as `jwk`"),
    )
    new = jws.load_key(inner.protected.get("jwk"), desk.rules)
    inner.verify(new, desk.rules)
    outer_url = call.signed.protected["url"] if call.signed else ""
    desk.demand(
        "8555-7.3.5-inner-url",
        inner.protected.get("url") == outer_url,
        Refused("malformed", "the `url` of the inner JWS is not that of the outer one"),
    )
    desk.demand(
        "8555-7.3.5-no-inner-nonce",
        "nonce" not in inner.protected,
        Refused("malformed", "the inner JWS has a `nonce` of its own"),
    )
    request = jws.load_object(inner.payload, "the payload of the inner JWS is no JSON object")
    desk.demand(
        "8555-7.3.5-account",
        account_id(request.get("account"), call.urls) == call.owner.id,
        Refused("malformed", "`account` is not the account that signed the outer JWS"),
    )
    desk.demand(
        "8555-7.3.5-old-key",
        _thumbprint(request.get("oldKey"), desk) == call.owner.thumbprint,
        Refused("malformed", "`oldKey` is not the account's key"),
    )
    other = desk.state.account_of_key(jws.thumbprint(new))
    if other is not None:
        location = {"Location": call.url("account", id=other.id)}
        desk.demand(
            "8555-7.3.5-key-in-use",
            False,
            Refused("malformed", "the new key is that of an account already", status=409, headers=location),
        )
    if desk.rules.kept("8555-7.3.5-key-replaced"):
        call.owner.key, call.owner.thumbprint = new, jws.thumbprint(new)
    return _show(call, call.owner)


def _demand_own(call: Call, desk: Desk) -> None:
    desk.demand("8555-7.3-own-account", call.owner.id == call.id, Refused("unauthorized", "this is another account"))


def _thumbprint(jwk: object, desk: Desk) -> str:
    return jws.thumbprint(jws.load_key(jwk, desk.rules)) if jwk is not None else ""


def _contact(given: object, desk: Desk) -> list[str]:
    """Section 7.3: "mailto" URLs, with one address and no header fields."""
    if not isinstance(given, list) or not all(isinstance(entry, str) for entry in given):
        raise Refused("malformed", "`contact` is a list of URLs")
    for entry in given:
        desk.demand(
            "8555-7.3-contact-scheme",
            entry.lower().startswith("mailto:"),
            Refused("unsupportedContact", f"this CA cannot write to {entry!r}"),
        )
        desk.demand(
            "8555-7.3-contact-mailto",
            not entry.lower().startswith("mailto:") or MAILTO.fullmatch(entry) is not None,
            Refused("invalidContact", f"{entry!r} is not one mail address without header fields"),
        )
    return given


def _bind(call: Call, request: dict[str, Any], thumbprint: str, desk: Desk) -> dict[str, Any] | None:
    """Section 7.3.4: a MAC over the account's key, by a key that the CA has given its customer."""
    binding = request.get("externalAccountBinding")
    if not desk.settings.eab:
        return None
    if binding is None:
        refusal = Refused("externalAccountRequired", "this CA registers accounts only with an external account binding")
        desk.demand("8555-7.3.4-binding-required", False, refusal)
        return None
    if not isinstance(binding, dict):
        raise Refused("malformed", "`externalAccountBinding` is a JWS")
    signed = jws.parse(binding, desk.rules)
    desk.demand(
        "8555-7.3.4-binding-no-nonce", "nonce" not in signed.protected, Refused("malformed", "the binding has a `nonce`")
    )
    desk.demand(
        "8555-7.3.4-binding-url",
        signed.protected.get("url") == call.here,
        Refused("malformed", "the `url` of the binding is not that of the request"),
    )
    desk.demand(
        "8555-7.3.4-binding-key",
        _thumbprint(jws.load_object(signed.payload, "the payload of the binding is no key"), desk) == thumbprint,
        Refused("malformed", "the payload of the binding is not the account's key"),
    )
    mac_key = desk.settings.eab.get(str(signed.protected.get("kid")), "")
    desk.demand(
        "8555-7.3.4-binding-mac",
        bool(mac_key) and signed.verify_mac(base64url.decode(mac_key)),
        Refused("unauthorized", f"the MAC of the binding is not by the key {signed.protected.get('kid')!r}"),
    )
    return binding


def _show(call: Call, account: Account, status: int = 200) -> Response:
    url = call.url("account", id=account.id)
    document: dict[str, Any] = {"status": account.status, "contact": account.contact, "orders": f"{url}/orders"}
    if account.binding is not None:
        document["externalAccountBinding"] = dict(account.binding)
    return reply(document, status, Location=url)
