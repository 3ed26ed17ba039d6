"""
Every error that acme-middleware raises on purpose.

Each carries what a program needs as attributes, what a person should do next as ``hint``, and the exit code that the
commands end with. Errors are picklable, and none holds a private key, a token's key authorization or an EAB key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_TRY_LATER = 75


class AcmeMiddlewareError(Exception):
    """
    The base of all errors here; never raised itself.

    Args:
        message: What happened and why, in one sentence.
        hint: What to do about it; may have several lines, or be empty.
        facts: What a program may want to know; each becomes an attribute.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, hint: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.hint = hint
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        # `facts` itself is looked up here while an unpickled error has no attributes yet.
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(name)


class ConfigurationError(AcmeMiddlewareError):
    """An option is wrong or missing; nothing was tried. ``option`` names it where one option is to blame."""

    exit_code = EXIT_USAGE


class NameRefused(AcmeMiddlewareError):
    """A name that no certificate can be requested for over http-01. ``name`` is it, as given."""

    exit_code = EXIT_USAGE


class NotAllowed(AcmeMiddlewareError):
    """The app's own rule does not allow a certificate for ``name``; nothing was asked of the CA."""

    exit_code = EXIT_USAGE


class TermsNotAgreed(AcmeMiddlewareError):
    """The CA's terms of service must be agreed to first. ``url`` is where they are."""

    exit_code = EXIT_USAGE


class ClockOff(AcmeMiddlewareError):
    """This machine's clock is too far from the CA's. ``seconds`` is by how much; positive: this clock is ahead."""

    exit_code = EXIT_USAGE


class StoreMisconfigured(AcmeMiddlewareError):
    """A store cannot work as it is set up: a wrong URL, a missing driver or table, no rights."""

    exit_code = EXIT_USAGE


class RecordSealed(StoreMisconfigured):
    """
    A private record is encrypted, and none of ENCRYPTION_KEYS opens it, or it was changed since. ``record`` names it.

    It is there: nothing is issued in its place.
    """


class StoreUnavailable(AcmeMiddlewareError):
    """A store does not answer now and may later: its server is down, slow, locked or full."""

    exit_code = EXIT_TRY_LATER


class Conflict(AcmeMiddlewareError):
    """A compare-and-swap lost: the record is not the one that the writer had read. ``key`` names it."""

    exit_code = EXIT_TRY_LATER


class NoSuchCertificate(AcmeMiddlewareError):
    """The store has no certificate of that ``name``."""

    exit_code = EXIT_USAGE


class LeaseHeld(AcmeMiddlewareError):
    """Another process holds the lease. ``name`` and ``holder`` (a line for people) are attributes."""

    exit_code = EXIT_TRY_LATER


class LeaseLost(AcmeMiddlewareError):
    """This process held the lease but was too slow to keep it: another may have it now."""

    exit_code = EXIT_TRY_LATER


class CAUnreachable(AcmeMiddlewareError):
    """The CA did not answer: no route, refused, time-out, TLS failure. ``url`` is what was asked for."""

    exit_code = EXIT_TRY_LATER


class NotYet(AcmeMiddlewareError):
    """
    No order was placed, because it is too early: after failures there is a pause, CAs have limits, and an app may have its own.

    ``name`` is the certificate's name, ``allowed_at`` the time from which on it may be tried.
    """

    exit_code = EXIT_TRY_LATER


class UnexpectedAnswer(AcmeMiddlewareError):
    """The CA answered something that RFC 8555 does not allow: no ACME directory, garbage, an impossible status."""


@dataclass(frozen=True, slots=True)
class Problem:
    """
    A problem document (RFC 7807), as ACME uses it (RFC 8555 section 6.7).

    Attributes:
        type: The error type, without ``urn:ietf:params:acme:error:`` where it has that prefix.
        detail: The CA's words.
        identifier: The name that a subproblem is about.
        subproblems: One per identifier, where the CA lists them.
        instance: A URL for a person to visit, for example the new terms, or where a paused account is unpaused.
    """

    type: str
    detail: str
    identifier: str = ""
    subproblems: tuple[Problem, ...] = ()
    instance: str = ""

    def lines(self) -> list[str]:
        """All that the CA said, a line per (sub)problem."""
        about = f"{self.identifier}: " if self.identifier else ""
        return [f"{about}{self.detail} ({self.type})", *(line for sub in self.subproblems for line in sub.lines())]


class CARefused(AcmeMiddlewareError):
    """
    The CA answered a request with an error.

    Attributes:
        problem: The :class:`Problem`, with all that the CA said.
        status: The HTTP status.
        retry_after: Seconds that the CA asked to wait, or None.
        url: What was asked for.
    """

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """75 where waiting is the remedy: a rate limit, a 5xx, an asked-for delay."""
        later = self.status >= 500 or self.status == 429 or self.problem.type == "rateLimited" or self.retry_after
        return EXIT_TRY_LATER if later else EXIT_FAILED


class ValidationFailed(AcmeMiddlewareError):
    """
    The CA could not validate a name, or our own check of the token found that it could not.

    ``name``, and where the CA said no: ``problem``, ``token``, ``fetches`` (what the store's log saw, or None without one).
    """


class CertificateRejected(AcmeMiddlewareError):
    """What the CA issued is not what was asked for: another key or other names, or a broken chain. It was not saved."""


class PublishFailed(AcmeMiddlewareError):
    """The certificate is safe in the store, but its files could not be written. ``path`` is where."""


class DeployFailed(AcmeMiddlewareError):
    """
    The certificate is kept, but did not reach a server, which goes on with the one it has.

    ``name`` is the certificate's name, ``spec`` what DEPLOY has for that server, ``step`` what failed; the next run
    tries again.
    """
