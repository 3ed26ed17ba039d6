"""A CA's directory: where its resources are, and what it offers (RFC 8555 section 7.1.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from acme_middleware import clock
from acme_middleware.errors import CARefused, ConfigurationError, UnexpectedAnswer
from acme_middleware.protocol.network import Network


class Directory(NamedTuple):
    """
    What the directory said.

    Attributes:
        renewal_info: The base URL of renewal information (RFC 9773), or "" where the CA has none.
        terms: The URL of the terms of service, or "".
        profiles: The certificate profiles it offers, each with a description.
        eab_required: Whether a new account needs an external account binding.
        clock_ahead: Seconds that this machine's clock is ahead of the CA's, or None where the CA sent no Date.
        revoke_cert: Where certificates are revoked, or "".
        key_change: Where an account's key is changed, or "".
    """

    new_account: str
    new_order: str
    renewal_info: str
    terms: str
    profiles: Mapping[str, str]
    eab_required: bool
    clock_ahead: float | None
    revoke_cert: str = ""
    key_change: str = ""


def fetch(network: Network, url: str) -> Directory:
    """
    Fetch the directory, and set the network's place for new nonces.

    Raises:
        ConfigurationError: what is at ``url`` is no ACME directory.
        CAUnreachable, CARefused: as :class:`Network`.
    """
    try:
        reply = network.get(url)
        document = reply.json()
    except UnexpectedAnswer as error:
        raise _no_directory(url, str(error)) from error
    except CARefused as error:
        if error.status >= 500 or error.status == 429:
            raise
        raise _no_directory(url, f"it answered HTTP {error.status}") from error
    missing = [name for name in ("newNonce", "newAccount", "newOrder") if not _is_url(document.get(name))]
    if missing:
        raise _no_directory(url, f"it has no {', '.join(missing)}")
    meta = document.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    profiles = meta.get("profiles")
    renewal_info, terms = document.get("renewalInfo"), meta.get("termsOfService")
    network.new_nonce_url = document["newNonce"]
    return Directory(
        new_account=document["newAccount"],
        new_order=document["newOrder"],
        renewal_info=renewal_info if isinstance(renewal_info, str) and _is_url(renewal_info) else "",
        terms=terms if isinstance(terms, str) else "",
        profiles={str(name): str(text) for name, text in profiles.items()} if isinstance(profiles, dict) else {},
        eab_required=meta.get("externalAccountRequired") is True,
        clock_ahead=(clock.now() - reply.date).total_seconds() if reply.date else None,
        revoke_cert=document["revokeCert"] if _is_url(document.get("revokeCert")) else "",
        key_change=document["keyChange"] if _is_url(document.get("keyChange")) else "",
    )


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "http://"))


def _no_directory(url: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{url} is no ACME directory: {reason}",
        hint="--ca takes the name of a CA, or the full URL of its directory, which often ends in /directory",
        option="ca",
    )
