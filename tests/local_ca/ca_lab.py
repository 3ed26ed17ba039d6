"""A CA, clients that speak to it by hand, and a site that answers its challenges."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from raw_acme import Answer, Client, Key, algorithm, certificate_id, connected, csr, der, jwk, jws, new_key

from acme_middleware.local_ca import LocalCA

PREFIX = "/.well-known/acme-challenge/"


class Clock:
    """A clock that a test moves; between its moves it goes on."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def travel(self, **span: float) -> None:
        self.ahead += timedelta(**span)


@dataclass
class Site:
    """Answers http-01. ``tokens`` holds what it has, ``asked`` the paths that were asked for."""

    tokens: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: str = "200 OK"

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.asked.append(path)
        body = self.tokens.get(path.removeprefix(PREFIX))
        status = self.status if body is not None else "404 Not Found"
        start_response(status, [("Content-Length", str(len(body or b"")))])
        return [body or b""]


class Lab:
    """
    A CA that is started when it is first needed, for the length of a block.

    Args:
        state: Where its keys are; several labs may share it.
        broken: Clauses that do not hold in it.
    """

    def __init__(self, state: Path, broken: Iterable[str] = ()) -> None:
        self.state, self.broken = state, tuple(broken)
        self.site, self.clock = Site(), Clock()
        self._stack = ExitStack()
        self._ca: LocalCA | None = None
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, where)

    def start(self, **settings: Any) -> LocalCA:
        """Start the CA with settings of its own."""
        assert self._ca is None, "the CA runs already"
        settings = {"resolve": {"*": self.site}, "perspectives": 1, "clock": self.clock, **settings}
        self._ca = self._stack.enter_context(LocalCA(state=self.state, broken=self.broken, **settings))
        return self._ca

    @property
    def ca(self) -> LocalCA:
        return self._ca or self.start()

    def stranger(self, key: Key | None = None) -> Client:
        """A client without an account."""
        return self._stack.enter_context(connected(self.ca.directory_url, self.ca.ca_bundle, key))

    def client(self, key: Key | None = None) -> Client:
        """A client with an account."""
        client = self.stranger(key)
        client.register().ok(201)
        return client

    def name(self) -> str:
        """A name that no order was for."""
        return f"name-{next(self._numbers)}.test"

    def authorizations(self, client: Client, order: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        return [(url, client.post(url).ok().json()) for url in order["authorizations"]]

    def respond(self, client: Client, order: dict[str, Any]) -> None:
        """Let the site answer all challenges of an order, and say so."""
        for _, authorization in self.authorizations(client, order):
            if authorization["status"] == "pending":
                challenge = authorization["challenges"][0]
                self.site.tokens[challenge["token"]] = client.key_authorization(challenge["token"]).encode()
                client.post(challenge["url"], {}).ok()

    def ready(self, client: Client, *names: str, **more: Any) -> tuple[str, dict[str, Any]]:
        """The URL and the object of an order that is ready."""
        placed = client.new_order(*(names or [self.name()]), **more).ok(201)
        self.respond(client, placed.json())
        order = client.poll(placed.location, until=lambda order: order["status"] != "pending")
        assert order["status"] == "ready", order
        return placed.location, order

    def finalize(self, client: Client, order: dict[str, Any], key: Key | None = None) -> Answer:
        names = [entry["value"] for entry in order["identifiers"]]
        return client.post(order["finalize"], {"csr": der(csr(key or new_key(), names))})

    def issue(self, client: Client, *names: str, key: Key | None = None, **more: Any) -> Issued:
        """A certificate, from order to download."""
        url, order = self.ready(client, *names, **more)
        used = key or new_key()
        self.finalize(client, order, used).ok()
        order = client.poll(url, until=lambda order: order["status"] != "processing")
        assert order["status"] == "valid", order
        answer = client.post(order["certificate"]).ok()
        return Issued(order["certificate"], used, x509.load_pem_x509_certificates(answer.body), answer, url)


@dataclass(frozen=True)
class Issued:
    url: str
    key: Key
    chain: list[x509.Certificate]
    answer: Answer
    order_url: str

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]


def key_change(client: Client, new: Key, *, protected: Callable[[dict[str, Any]], object] = bool, **payload: Any) -> Answer:
    """Section 7.3.5: the inner JWS, spoilt or not, inside of the outer one."""
    url = client.directory["keyChange"]
    header: dict[str, Any] = {"alg": algorithm(new), "jwk": jwk(new), "url": url}
    protected(header)
    inner = {"account": client.account, "oldKey": jwk(client.key), **payload}
    return client.post(url, jws(new, header, json.dumps(inner).encode()))


def renewal_info(client: Client, leaf: x509.Certificate) -> Answer:
    return client.request("GET", f"{client.directory['renewalInfo']}/{certificate_id(leaf)}").ok()
