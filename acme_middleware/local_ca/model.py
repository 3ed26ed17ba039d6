"""What the CA knows: accounts, orders, authorizations, challenges and certificates (RFC 8555 section 7.1)."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from josepy.jwk import JWK

from acme_middleware.local_ca.clauses import Rules
from acme_middleware.local_ca.problems import Problem


def new_id() -> str:
    """An id for a URL, not to be guessed."""
    return secrets.token_urlsafe(9)


@dataclass(frozen=True, slots=True)
class Identifier:
    """What a certificate is for: ``type`` is "dns" or "ip"."""

    type: str
    value: str

    def document(self) -> dict[str, str]:
        return {"type": self.type, "value": self.value}


@dataclass(slots=True)
class Account:
    """
    The holder of a key.

    Attributes:
        binding: The external account binding that it was made with, as it came.
        authorizations: For each identifier, the newest one that was valid.
    """

    id: str
    key: JWK
    thumbprint: str
    contact: list[str]
    status: str = "valid"
    binding: Mapping[str, Any] | None = None
    orders: list[Order] = field(default_factory=list)
    authorizations: dict[Identifier, Authorization] = field(default_factory=dict)


@dataclass(slots=True)
class Challenge:
    """One way to show it."""

    id: str
    type: str
    token: str
    authorization: Authorization
    status: str = "pending"
    validated: datetime | None = None
    problem: Problem | None = None


@dataclass(slots=True)
class Authorization:
    """Whether an account has shown that an identifier is its own."""

    id: str
    account: Account
    identifier: Identifier
    expires: datetime
    status: str = "pending"
    challenges: list[Challenge] = field(default_factory=list)

    def status_at(self, now: datetime) -> str:
        """Its status; what is pending or valid expires (section 7.1.6)."""
        return "expired" if self.status in ("pending", "valid") and now >= self.expires else self.status


@dataclass(slots=True)
class Order:
    """
    A request for one certificate.

    Attributes:
        replaces: The certificate id (RFC 9773 section 5) that the client gave, or "".
        csr: The request that it was finalized with.
        polls_left: How often it is still shown as "processing".
    """

    id: str
    account: Account
    identifiers: tuple[Identifier, ...]
    authorizations: list[Authorization]
    expires: datetime
    profile: str
    replaces: str = ""
    status: str = "pending"
    problem: Problem | None = None
    csr: x509.CertificateSigningRequest | None = None
    polls_left: int = 0
    certificate: Certificate | None = None

    def settle(self, now: datetime, rules: Rules) -> None:
        """Bring the status up to date with time and with the authorizations (section 7.1.6)."""
        expired = now >= self.expires and rules.kept("8555-7.1.6-order-expires")
        if expired and self.status in ("pending", "ready", "processing"):
            self.fail(Problem("malformed", "the order has expired"))
        if self.status not in ("pending", "ready"):
            return
        states = {entry.status_at(now) for entry in self.authorizations}
        if states <= {"valid"} or ("valid" in states and not rules.kept("8555-7.1.6-ready-when-all-valid")):
            self.status = "ready"
        elif states - {"pending", "valid"} and rules.kept("8555-7.1.6-invalid-with-one"):
            bad = [entry for entry in self.authorizations if entry.status_at(now) not in ("pending", "valid")]
            self.fail(Problem("unauthorized", f"the authorization of {bad[0].identifier.value} is {bad[0].status_at(now)}"))

    def fail(self, problem: Problem) -> None:
        """End the order without a certificate."""
        self.status, self.problem = "invalid", problem


@dataclass(slots=True)
class Certificate:
    """
    A certificate that was issued.

    Attributes:
        leaf: The certificate itself.
        chains: The chains that it is offered with, in PEM, the default one first.
        revoked: When, and for what reason code.
        window: The renewal window that was set for it (start, end), in place of the usual one.
        explanation: The URL beside that window, or "".
    """

    id: str
    account: Account
    identifiers: tuple[Identifier, ...]
    leaf: x509.Certificate
    chains: list[bytes]
    revoked: tuple[datetime, int] | None = None
    window: tuple[datetime, datetime] | None = None
    explanation: str = ""

    @property
    def lifetime(self) -> timedelta:
        return self.leaf.not_valid_after_utc - self.leaf.not_valid_before_utc


class State:
    """
    All of it, in memory.

    Certificates are by their ids of RFC 9773, ``replacements`` holds the newest order that replaces one.

    Whoever reads or writes holds ``lock``. It is let go of while names are validated and while a fault makes a request wait.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.accounts: dict[str, Account] = {}
        self.orders: dict[str, Order] = {}
        self.authorizations: dict[str, Authorization] = {}
        self.challenges: dict[str, Challenge] = {}
        self.certificates: dict[str, Certificate] = {}
        self.replacements: dict[str, Order] = {}

    def account_of_key(self, thumbprint: str) -> Account | None:
        return next((entry for entry in self.accounts.values() if entry.thumbprint == thumbprint), None)
