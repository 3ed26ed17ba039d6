"""
Certificate authorities, as data: every number and quirk of a CA that the project knows stands here and nowhere else.

Last checked against the CAs' own documentation in November 2026.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from acme_middleware.errors import ConfigurationError


class Limit(NamedTuple):
    """So many in any stretch of so long."""

    most: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What a CA allows one account; None where that is more than anybody comes to.

    Attributes:
        orders: New orders.
        failures: Failed validations of one name.
        same_names: Certificates for one exact set of names.
        domain: Certificates for one registered domain and all that is below it.
        requests_per_second: Of all kinds, from one address. Who asks faster is slowed down, not refused.
    """

    orders: Limit | None = None
    failures: Limit | None = None
    same_names: Limit | None = None
    domain: Limit | None = None
    requests_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Authority:
    """
    A CA.

    Attributes:
        id: What stands in the keys of records: the table's name, or host, port and a hash of the directory URL.
        title: The name for people.
        directory: The URL of its ACME directory (RFC 8555 section 7.1.1).
        staging: The id of its staging twin, where it has one.
        trusted: Whether browsers trust it. A certificate of an untrusted CA never replaces a valid one of a trusted CA. A CA
            given by URL counts as trusted: it is the one that its user wants.
        max_names: Profile -> how many names it takes; "" is the default profile.
        ip_profile: The profile that IP addresses need there, or "".
        ca_bundle: The roots to trust for its own HTTPS where those are not the system's; CA_BUNDLE beats it.
        self_check: What SELF_CHECK is for it where that is not set.
        when_down: What to do when it does not answer, where that is not just to try again later.
        limits: What it allows, where that is known; it is then refused here before it is refused there.
        takes_eab: Whether an external account binding is of use to it; where one is set for another CA of the list, it is not
            sent to those that take none.
    """

    id: str
    title: str
    directory: str
    staging: str | None = None
    trusted: bool = True
    max_names: Mapping[str, int] = field(default_factory=dict)
    ip_profile: str = ""
    ca_bundle: Path | None = None
    self_check: str = "warn"
    when_down: str = ""
    limits: Limits | None = None
    takes_eab: bool = True


def local_state() -> Path:
    """Where the CA of ``acme-middleware ca`` keeps its keys and its root: ``$XDG_STATE_HOME/acme-middleware/local-ca``."""
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "acme-middleware" / "local-ca"


LOCAL_PORT = 14443
"""Where ``acme-middleware ca`` listens."""

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

_LETSENCRYPT_NAMES = {"": 100, "classic": 100, "tlsserver": 25, "shortlived": 25}

AUTHORITIES: Mapping[str, Authority] = {
    authority.id: authority
    for authority in (
        Authority(
            "letsencrypt",
            "Let's Encrypt",
            "https://acme-v02.api.letsencrypt.org/directory",
            staging="letsencrypt-staging",
            max_names=_LETSENCRYPT_NAMES,
            ip_profile="shortlived",
            # https://letsencrypt.org/docs/rate-limits/
            limits=Limits(
                orders=Limit(300, 3 * HOUR), failures=Limit(5, HOUR), same_names=Limit(5, 7 * DAY), domain=Limit(50, 7 * DAY)
            ),
            takes_eab=False,
        ),
        Authority(
            "letsencrypt-staging",
            "Let's Encrypt (staging)",
            "https://acme-staging-v02.api.letsencrypt.org/directory",
            trusted=False,
            max_names=_LETSENCRYPT_NAMES,
            ip_profile="shortlived",
            # https://letsencrypt.org/docs/staging-environment/; 30,000 certificates in seven days are as good as no limit.
            limits=Limits(orders=Limit(1500, 3 * HOUR), failures=Limit(200, HOUR), requests_per_second=20),
            takes_eab=False,
        ),
        Authority("zerossl", "ZeroSSL", "https://acme.zerossl.com/v2/DV90"),
        Authority("google", "Google Trust Services", "https://dv.acme-v02.api.pki.goog/directory", staging="google-staging"),
        Authority(
            "google-staging",
            "Google Trust Services (staging)",
            "https://dv.acme-v02.test-api.pki.goog/directory",
            trusted=False,
        ),
        Authority("sslcom", "SSL.com", "https://acme.ssl.com/sslcom-dv-ecc"),
        Authority(
            "local",
            "the local CA",
            f"https://localhost:{LOCAL_PORT}/directory",
            trusted=False,
            ca_bundle=local_state() / "root.pem",
            # It finds the names where it is told to, not where the public finds them.
            self_check="skip",
            when_down="start it in another terminal: `acme-middleware ca`",
        ),
    )
}


def find(ca: str) -> Authority:
    """
    Look a CA up by its name or by the URL of its directory.

    Raises:
        ConfigurationError: neither a known name nor an http(s) URL; it lists the names.
    """
    if ca in AUTHORITIES:
        return AUTHORITIES[ca]
    for authority in AUTHORITIES.values():
        if authority.directory == ca:
            return authority
    try:
        parts = urlsplit(ca)
        host, port = parts.hostname, parts.port
    except ValueError:  # half an IPv6 address, a port that is none
        host = port = None
    # A password in the URL would stand in logs, and no CA asks for one: accounts have keys.
    if not host or parts.scheme not in ("http", "https") or parts.username is not None:
        shown = ca.rpartition("@")[2]
        near = difflib.get_close_matches(ca, AUTHORITIES, n=1)
        raise ConfigurationError(
            f"there is no CA called {shown!r}" + (f"; did you mean {near[0]}?" if near else ""),
            hint=f"CA is one of {', '.join(AUTHORITIES)}, or the URL of an ACME directory",
            option="ca",
        )
    digest = hashlib.sha256(ca.encode()).hexdigest()[:8]
    place = host if port is None else f"{host}_{port}"
    return Authority(f"{place}_{digest}", host if port is None else f"{host}:{port}", ca)


def find_all(cas: str) -> tuple[Authority, ...]:
    """
    Look up a list of CAs, as the option CA has it: names and URLs with commas or spaces between them.

    The first is the one that is used; the others are there for when it fails.

    Raises:
        ConfigurationError: as :func:`find`, or there is none.
    """
    found = map(find, re.split(r"[,\s]+", cas.strip(", \t\r\n")))
    return tuple({authority.id: authority for authority in found}.values())


def staging_of(authority: Authority) -> Authority:
    """
    The staging twin of a CA: what ``--staging`` asks.

    Raises:
        ConfigurationError: it has none.
    """
    if not authority.trusted:
        return authority
    if authority.staging is None:
        raise ConfigurationError(
            f"{authority.title} has no staging environment that this program knows",
            hint="leave --staging out, or name another CA with --ca",
            option="ca",
        )
    return AUTHORITIES[authority.staging]
