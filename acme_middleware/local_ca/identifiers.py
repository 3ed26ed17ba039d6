"""What certificates can be had for: DNS names (RFC 8555 section 7.1.4) and IP addresses (RFC 8738), by http-01."""

from __future__ import annotations

import ipaddress
import re

from acme_middleware.local_ca.call import Desk
from acme_middleware.local_ca.model import Identifier
from acme_middleware.local_ca.problems import Problem, Refused

LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
MOST = 100
"""As many as public CAs take in one order."""


def read(given: object, desk: Desk) -> tuple[Identifier, ...]:
    """
    Read the identifiers of a new order, each once, in lower case.

    Raises:
        Refused: all that is wrong with them, a subproblem each (section 6.7.1).
    """
    if not isinstance(given, list) or not given:
        raise Refused("malformed", "`identifiers` is a list of at least one")
    if len(given) > MOST:
        raise Refused("malformed", f"{len(given)} identifiers: an order takes {MOST}")
    found: dict[Identifier, None] = {}
    problems: list[Problem] = []
    for entry in given:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(part), str) for part in ("type", "value")):
            raise Refused("malformed", "an identifier is an object with `type` and `value`")
        identifier = Identifier(entry["type"], entry["value"].lower())
        found[identifier] = None
        problem = _problem(identifier, desk)
        problems += [problem] if problem else []
    if problems:
        several = len(problems) > 1 and desk.rules.kept("8555-6.7.1-subproblems")
        detail = "several identifiers are refused" if several else problems[0].detail
        kind = "compound" if several and len({entry.type for entry in problems}) > 1 else problems[0].type
        identifier_document = None if several else problems[0].identifier
        raise Refused(kind, detail, identifier=identifier_document, subproblems=problems if several else ())
    return tuple(found)


def _problem(identifier: Identifier, desk: Desk) -> Problem | None:
    kind, value = identifier.type, identifier.value
    about = identifier.document()
    if kind == "ip":
        try:
            canonical = ipaddress.ip_address(value).compressed == value
        except ValueError:
            return Problem("malformed", f"{value!r} is no IP address", about)
        if not canonical and desk.rules.kept("8738-3-canonical-address"):
            return Problem("malformed", f"{value!r} is not the short form of an address (RFC 5952)", about)
        return None
    if kind != "dns":
        unknown = desk.rules.kept("8555-7.4-identifier-type")
        return Problem("unsupportedIdentifier", f"this CA has no identifiers of the type {kind!r}", about) if unknown else None
    if value.startswith("*."):
        wildcard = desk.rules.kept("8555-7.1.3-wildcard")
        return (
            Problem("rejectedIdentifier", "a wildcard needs dns-01, which this CA does not offer", about) if wildcard else None
        )
    good = len(value) <= 253 and all(LABEL.fullmatch(label) for label in value.split(".")) and not _is_address(value)
    if not good and desk.rules.kept("8555-7.1.4-dns-name"):
        return Problem("malformed", f"{value!r} is no DNS name in ASCII", about)
    return None


def _is_address(value: str) -> bool:
    return value.rpartition(".")[2].isdigit()
