"""
Certificate authorities, as data: every number and quirk of a CA that the project knows stands here and nowhere else.

Last checked against the CAs' own documentation in November 2026.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from acme_middleware.errors import ConfigurationError


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


def local_state() -> Path:
    """Where the CA of ``acme-middleware ca`` keeps its keys and its root: ``$XDG_STATE_HOME/acme-middleware/local-ca``."""
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "acme-middleware" / "local-ca"


LOCAL_PORT = 14443
"""Where ``acme-middleware ca`` listens."""

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
        ),
        Authority(
            "letsencrypt-staging",
            "Let's Encrypt (staging)",
            "https://acme-staging-v02.api.letsencrypt.org/directory",
            trusted=False,
            max_names=_LETSENCRYPT_NAMES,
            ip_profile="shortlived",
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
            when_down="start it in another terminal: `acme-middleware ca` (in Django: `manage.py acme ca`)",
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
