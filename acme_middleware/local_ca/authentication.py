"""Who sent a request: content type, JWS, URL, nonce and account (RFC 8555 section 6)."""

from __future__ import annotations

from urllib.parse import urlsplit

from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from acme_middleware.local_ca import base64url, jws
from acme_middleware.local_ca.call import Call, Desk
from acme_middleware.local_ca.model import Account
from acme_middleware.local_ca.problems import Refused

CONTENT_TYPE = "application/jose+json"

BY_KEY = {"new-account"}
BY_EITHER = {"revoke-certificate"}
"""Resources that are signed with a key that the request brings; all others by an account (section 6.2)."""


def authenticate(call: Call, desk: Desk) -> None:
    """
    Check the signature of a POST, and note in ``call`` who made it.

    Raises:
        Refused: one of the many reasons of section 6.
    """
    desk.demand(
        "8555-6.2-content-type",
        # With or without parameters: it is the media type that section 6.2 prescribes.
        call.request.mimetype == CONTENT_TYPE,
        Refused("malformed", f"the content type of a POST is {CONTENT_TYPE}", status=415),
    )
    signed = jws.parse(call.request.get_data(), desk.rules)
    jws.demand_algorithm(signed.protected, desk.rules)
    _demand_url(call, signed, desk)
    _spend_nonce(signed, desk)
    has_key, has_account = "jwk" in signed.protected, "kid" in signed.protected
    desk.demand(
        "8555-6.2-jwk-or-kid",
        has_key != has_account,
        Refused("malformed", "the protected header needs either `jwk` or `kid`, and not both"),
    )
    by_key = has_key and not (has_account and call.resource not in BY_KEY)
    if call.resource not in BY_EITHER:
        desk.demand(
            "8555-6.2-jwk-for-new-accounts",
            by_key or call.resource not in BY_KEY,
            Refused("malformed", f"{call.resource} is signed with `jwk`, not with `kid`"),
        )
        desk.demand(
            "8555-6.2-kid-for-all-else",
            not by_key or call.resource in BY_KEY,
            Refused("malformed", f"{call.resource} is signed with `kid`, the URL of an account"),
        )
    if by_key:
        call.key = jws.load_key(signed.protected["jwk"], desk.rules)
        if call.resource not in BY_KEY | BY_EITHER:
            # Only where a clause is broken on purpose.
            call.account = desk.state.account_of_key(jws.thumbprint(call.key))
    else:
        call.account = _account(signed.protected.get("kid"), call.urls, desk)
        call.key = call.account.key
    signed.verify(call.key, desk.rules)
    if call.account is not None:
        desk.demand(
            "8555-7.3.6-deactivated-account",
            call.account.status == "valid",
            Refused("unauthorized", f"the account is {call.account.status}", status=401),
        )
    call.payload, call.signed = signed.payload, signed


def _demand_url(call: Call, signed: jws.Jws, desk: Desk) -> None:
    url = signed.protected.get("url")
    desk.demand(
        "8555-6.4-url",
        url == call.here,
        Refused("unauthorized", f"the JWS was signed for {url!r} and sent to {call.here}"),
    )


def _spend_nonce(signed: jws.Jws, desk: Desk) -> None:
    nonce = signed.protected.get("nonce")
    try:
        base64url.decode(nonce)
    except ValueError:
        desk.demand(
            "8555-6.5.2-nonce-is-base64url", False, Refused("malformed", "the protected header has no `nonce` in base64url")
        )
    desk.demand(
        "8555-6.5-nonce-used-once",
        desk.nonces.spend(str(nonce)),
        Refused("badNonce", f"the nonce {nonce!r} was used before, or was never given out: use the one that comes with this"),
    )


def _account(kid: object, urls: MapAdapter, desk: Desk) -> Account:
    found = desk.state.accounts.get(account_id(kid, urls))
    if found is None:
        raise Refused("accountDoesNotExist", f"there is no account {kid!r}")
    return found


def account_id(url: object, urls: MapAdapter) -> str:
    """The id in an account's URL, "" where it is another URL."""
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or (parts.scheme, parts.netloc) != (urls.url_scheme, urls.server_name) or parts.query or parts.fragment:
        return ""
    try:
        resource, arguments = urls.match(parts.path, method="GET")
    except HTTPException:
        return ""
    return str(arguments["id"]) if resource == "account" else ""
