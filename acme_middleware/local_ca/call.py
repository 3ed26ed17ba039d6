"""One request to the CA, and what every resource shares: settings, state, rules."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from josepy.jwk import JWK
from werkzeug.routing import Map, MapAdapter, Rule
from werkzeug.wrappers import Request, Response

from acme_middleware.local_ca import base64url, jws
from acme_middleware.local_ca.clauses import Rules
from acme_middleware.local_ca.hierarchy import Hierarchy
from acme_middleware.local_ca.model import Account, Order, State
from acme_middleware.local_ca.nonces import Nonces
from acme_middleware.local_ca.problems import CONTENT_TYPE, Problem, Refused
from acme_middleware.local_ca.settings import Settings

URLS = Map(
    [
        Rule("/directory", endpoint="directory"),
        Rule("/terms", endpoint="terms"),
        Rule("/new-nonce", endpoint="new-nonce"),
        Rule("/new-account", endpoint="new-account"),
        Rule("/account/<id>", endpoint="account"),
        Rule("/account/<id>/orders", endpoint="orders"),
        Rule("/key-change", endpoint="key-change"),
        Rule("/new-order", endpoint="new-order"),
        Rule("/order/<id>", endpoint="order"),
        Rule("/order/<id>/finalize", endpoint="finalize"),
        Rule("/authorization/<id>", endpoint="authorization"),
        Rule("/challenge/<id>", endpoint="challenge"),
        Rule("/certificate/<id>", endpoint="certificate", defaults={"chain": 0}),
        Rule("/certificate/<id>/<int:chain>", endpoint="certificate"),
        Rule("/revoke-certificate", endpoint="revoke-certificate"),
        Rule("/renewal-info/<id>", endpoint="renewal-info"),
    ],
    redirect_defaults=False,
    merge_slashes=False,
)
"""Where the resources are; their endpoints are the names that faults go by."""

RESOURCES = tuple(sorted({rule.endpoint for rule in URLS.iter_rules()}))


@dataclass(slots=True)
class Desk:
    """What all resources share. ``wait`` sleeps, until the CA is stopped at the latest."""

    settings: Settings
    rules: Rules
    hierarchy: Hierarchy
    clock: Callable[[], datetime]
    wait: Callable[[float], object]
    state: State = field(default_factory=State)
    nonces: Nonces = field(default_factory=Nonces)

    def settle(self, order: Order) -> None:
        """Bring an order up to date."""
        order.settle(self.clock(), self.rules)

    def demand(self, clause: str, held: bool, refusal: Refused) -> None:
        """Refuse the request where what a clause demands is not so. Raises the refusal."""
        self.rules.demand(clause, held, refusal)


@dataclass(slots=True)
class Call:
    """
    A request.

    Attributes:
        resource: The name of what it is for, one of RESOURCES.
        arguments: The variable parts of its path.
        urls: Makes URLs of this CA, as this client spells its host.
        account: Who signed it, None where that was done with ``key`` alone.
        key: The key that signed it.
        payload: What was signed, b"" for POST-as-GET.
        signed: The JWS, once its signature was found good.
    """

    request: Request
    resource: str
    arguments: Mapping[str, Any]
    urls: MapAdapter
    account: Account | None = None
    key: JWK | None = None
    payload: bytes = b""
    signed: jws.Jws | None = None

    @property
    def id(self) -> str:
        return str(self.arguments["id"])

    @property
    def here(self) -> str:
        """The URL of this request, as this CA spells it."""
        query = f"?{self.request.query_string.decode('latin-1')}" if self.request.query_string else ""
        return f"{self.urls.url_scheme}://{self.urls.server_name}{self.request.path}{query}"

    @property
    def owner(self) -> Account:
        """The account that signed; for resources that take no other signature."""
        if self.account is None:
            raise RuntimeError(f"{self.resource} is signed by an account")
        return self.account

    def url(self, resource: str, **arguments: Any) -> str:
        return self.urls.build(resource, arguments, force_external=True)

    def peek(self) -> dict[str, Any]:
        """The payload as it was sent, with nothing checked: for what happens before anybody looks at the signature."""
        return _peek(self.request, "payload")

    def peek_kid(self) -> str:
        """The account that the request says it is from, with nothing checked."""
        return str(_peek(self.request, "protected").get("kid", ""))

    def object(self) -> dict[str, Any]:
        """The payload, which must be a JSON object. Raises Refused."""
        return jws.load_object(self.payload, "the payload is no JSON object")


def reply(document: Mapping[str, Any], status: int = 200, **headers: str) -> Response:
    """A JSON document; a header's name is given with underscores."""
    body = json.dumps(document, indent=2) + "\n"
    return Response(
        body, status, {name.replace("_", "-"): value for name, value in headers.items()}, mimetype="application/json"
    )


def refuse(refusal: Refused) -> Response:
    """The reply that a refusal is."""
    return problem_reply(refusal.problem, refusal.status, refusal.headers)


def problem_reply(problem: Problem, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """A problem document."""
    body = json.dumps(problem.document(status), indent=2) + "\n"
    return Response(body, status, dict(headers or {}), content_type=CONTENT_TYPE)


def timestamp(when: datetime) -> str:
    """A time as RFC 3339 has it."""
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")


def _peek(request: Request, part: str) -> dict[str, Any]:
    try:
        value = json.loads(base64url.decode(json.loads(request.get_data())[part]))
    except (ValueError, TypeError, KeyError):
        return {}
    return value if isinstance(value, dict) else {}
