"""From a request to its answer: routes, methods, headers that every answer has, and the faults on the way."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from acme_middleware.local_ca import accounts, authorizations, certificates, orders
from acme_middleware.local_ca.authentication import authenticate
from acme_middleware.local_ca.call import URLS, Call, Desk, refuse, reply
from acme_middleware.local_ca.faults import Faults, Scene, Stage
from acme_middleware.local_ca.model import Challenge
from acme_middleware.local_ca.problems import CONTENT_TYPE, Refused

logger = logging.getLogger(__name__)

SERVED_KEPT = 10_000

BY_GET = {"directory", "terms", "new-nonce", "renewal-info"}
BY_GET_OR_POST = {"directory", "new-nonce"}
READ_ONLY = {"orders", "order", "certificate", "directory", "new-nonce"}
"""Resources that a POST can only read (RFC 8555 section 6.3)."""

Handler = Callable[[Call, Desk], Response]

HANDLERS: dict[str, Handler] = {
    "new-account": accounts.new_account,
    "account": accounts.account,
    "orders": accounts.orders,
    "key-change": accounts.key_change,
    "new-order": orders.new_order,
    "order": orders.order,
    "finalize": orders.finalize,
    "authorization": authorizations.authorization,
    "certificate": certificates.certificate,
    "revoke-certificate": certificates.revoke,
    "renewal-info": certificates.renewal_info,
}


@dataclass(frozen=True, slots=True)
class Served:
    """A request that was answered; ``status`` is 0 where a fault cut the connection."""

    method: str
    resource: str
    path: str
    status: int


class Application:
    """
    The CA as a function from requests to answers.

    Args:
        begin: Starts the validation of a challenge.
        hosts: What clients may call this server; URLs in answers begin with the one they used, or else with the first.
    """

    def __init__(self, desk: Desk, faults: Faults, begin: Callable[[Challenge], None], hosts: list[str]) -> None:
        self.desk, self.faults, self.begin, self.hosts = desk, faults, begin, hosts
        self.served: deque[Served] = deque(maxlen=SERVED_KEPT)
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response:
        """Answer a request. Raises Cut where a fault ends the connection instead."""
        status, call = 0, self._call(request)
        try:
            answer = self._answer(call)
            status = answer.status_code
            return answer
        finally:
            entry = Served(request.method, call.resource, request.path, status)
            logger.info("%s %s %s", entry.method, entry.path, status or "(cut)")
            with self._lock:
                self.served.append(entry)

    def _call(self, request: Request) -> Call:
        host = request.host if request.host in self.hosts else self.hosts[0]
        urls = URLS.bind(host, url_scheme="https")
        try:
            resource, arguments = urls.match(request.path, method="GET")
        except HTTPException:
            resource, arguments = "", {}
        return Call(request, resource, arguments, urls)

    def _answer(self, call: Call) -> Response:
        instead = self.faults.meet(Stage.BEFORE, call.resource, Scene(self.desk, {}, call))
        answer = instead if isinstance(instead, Response) else self._respond(call)
        self._add_headers(call, answer)
        changed = self.faults.meet(Stage.AFTER, call.resource, Scene(self.desk, {}, call, answer))
        return changed if isinstance(changed, Response) else answer

    def _respond(self, call: Call) -> Response:
        try:
            return self._dispatch(call)
        except Refused as refusal:
            return refuse(refusal)
        except Exception:
            logger.exception("%s %s", call.request.method, call.request.path)
            return refuse(Refused("serverInternal", "this CA has a bug: its log says more"))

    def _dispatch(self, call: Call) -> Response:
        method, resource = call.request.method, call.resource
        if not resource:
            raise Refused("malformed", f"there is nothing at {call.request.path}", status=404)
        posted = self.desk.rules.kept("8555-6.3-directory-by-post")
        allowed = ({"GET", "HEAD"} if resource in BY_GET else set()) | (
            {"POST"} if resource not in BY_GET or (resource in BY_GET_OR_POST and posted) else set()
        )
        if method not in allowed and (method != "GET" or self.desk.rules.kept("8555-6.3-post-as-get")):
            allow = {"Allow": ", ".join(sorted(allowed))}
            raise Refused(
                "malformed", f"{resource} is asked for by {allow['Allow']}, not by {method}", status=405, headers=allow
            )
        self.desk.demand(
            "8555-6.1-user-agent",
            bool(call.request.headers.get("User-Agent")) or resource == "terms",
            Refused("malformed", "the request has no User-Agent"),
        )
        with self.desk.state.lock:
            if method == "POST":
                authenticate(call, self.desk)
                self.desk.demand(
                    "8555-6.3-empty-payload",
                    not call.payload or resource not in READ_ONLY,
                    Refused("malformed", f"{resource} can only be read: its payload is empty"),
                )
            elif resource not in BY_GET:
                return reply({"broken": "8555-6.3-post-as-get"})
            return self._handle(call)

    def _handle(self, call: Call) -> Response:
        match call.resource:
            case "directory":
                return self._directory(call)
            case "terms":
                return Response("This CA is for development and tests: trust nothing that it signs.\n", mimetype="text/plain")
            case "new-nonce":
                as_said = self.desk.rules.kept("8555-7.2-head-200")
                return Response(status=(200 if call.request.method == "HEAD" else 204) if as_said else 202)
            case "challenge":
                answer, begun = authorizations.challenge(call, self.desk)
                if begun is not None:
                    self.begin(begun)
                return answer
        return HANDLERS[call.resource](call, self.desk)

    def _directory(self, call: Call) -> Response:
        settings, rules = self.desk.settings, self.desk.rules
        meta: dict[str, Any] = {}
        if rules.kept("profiles-3-listed"):
            meta["profiles"] = {name: f"valid for {span}" for name, span in settings.profiles.items()}
        if settings.terms and rules.kept("8555-7.1.1-terms-in-meta"):
            meta["termsOfService"] = call.url("terms")
        if settings.eab and rules.kept("8555-7.1.1-binding-in-meta"):
            meta["externalAccountRequired"] = True
        return reply(
            {
                "newNonce": call.url("new-nonce"),
                "newAccount": call.url("new-account"),
                "newOrder": call.url("new-order"),
                "revokeCert": call.url("revoke-certificate"),
                "keyChange": call.url("key-change"),
                # Without an id: clients append it (RFC 9773 section 4.1).
                "renewalInfo": call.url("renewal-info", id="").rstrip("/"),
                "meta": meta,
            }
        )

    def _add_headers(self, call: Call, answer: Response) -> None:
        rules, headers = self.desk.rules, answer.headers
        if call.resource != "directory" and rules.kept("8555-7.1-link-index"):
            headers.add("Link", f'<{call.url("directory")}>;rel="index"')
        if call.resource == "new-nonce" or (call.request.method == "POST" and rules.kept("8555-6.5-nonce-in-replies")):
            headers["Replay-Nonce"] = self.desk.nonces.issue()
        if call.resource == "new-nonce" and rules.kept("8555-7.2-no-store"):
            headers["Cache-Control"] = "no-store"
        if rules.kept("8555-6.1-cors"):
            headers["Access-Control-Allow-Origin"] = "*"
        if answer.content_type == CONTENT_TYPE and not rules.kept("8555-6.7-problem-type"):
            answer.content_type = "application/json"
