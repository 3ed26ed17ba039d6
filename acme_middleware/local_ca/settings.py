"""How a CA is set up, and what of that cannot be."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from acme_middleware.errors import ConfigurationError
from acme_middleware.local_ca import base64url
from acme_middleware.local_ca.fetch import Place, address_and_port

PROFILES = {"default": timedelta(days=90), "shortlived": timedelta(days=6)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this CA is set up: the arguments of :class:`acme_middleware.local_ca.server.LocalCA`."""

    profiles: Mapping[str, timedelta]
    eab: Mapping[str, str]
    terms: bool
    resolve: dict[str, Place]
    perspectives: int
    validation_delay: float
    validation_timeout: float
    order_retry_after: int | None
    authz_reuse: bool
    finalize_polls: int
    renewal_retry_after: int
    order_lifetime: timedelta
    authz_lifetime: timedelta

    def __post_init__(self) -> None:
        for name, place in self.resolve.items():
            _check_place(name, place)
        for kid, mac_key in self.eab.items():
            _check_mac_key(kid, mac_key)
        if not self.profiles:
            raise ConfigurationError(
                "the CA has no profile", hint="leave profiles out to have the usual ones", option="profiles"
            )
        if self.perspectives < 1:
            raise ConfigurationError("a validation has a perspective at least")


def loopback(host: str, *, expose: bool) -> str:
    """
    Check the address to listen at.

    Raises:
        ConfigurationError: it is none, or others may reach it and ``expose`` does not agree to that.
    """
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        raise ConfigurationError(
            f"{host!r} is no address to listen at", hint="an address of this machine, such as 127.0.0.1"
        ) from None
    if not address.is_loopback and not expose:
        raise ConfigurationError(
            f"this CA signs for whoever reaches it, and {address} may be reached from elsewhere",
            hint="listen at 127.0.0.1, or pass expose (--expose) if that is what you want",
        )
    return str(address)


def _check_place(name: str, place: Place) -> None:
    if callable(place):
        return
    try:
        for entry in [place] if isinstance(place, str) else place:
            address_and_port(entry)
    except ValueError as error:
        raise ConfigurationError(
            f"resolve: {name} cannot be at {place!r}: {error}", hint="ADDRESS:PORT, for example 127.0.0.1:8000 or [::1]:8000"
        ) from None


def _check_mac_key(kid: str, mac_key: str) -> None:
    try:
        base64url.decode(mac_key)
    except ValueError as error:
        raise ConfigurationError(f"the MAC key of {kid} is {error}") from None
