"""The names that a certificate is for: what a person typed, made into ACME identifiers or refused with the reason."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

import idna

from acme_middleware.authorities import Authority
from acme_middleware.errors import ConfigurationError, NameRefused
from acme_middleware.protocol.identifier import Identifier

# RFC 1123 section 2.1, in lower case: letters, digits and inner hyphens.
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LONGEST_NAME = 253
LINEAGE = re.compile(r"[^/:*\x00-\x20\x7f\\]{1,253}")


def identifiers(names: Sequence[str]) -> tuple[Identifier, ...]:
    """
    Make names into identifiers: lower case, IDN to A-labels (RFC 5891), no trailing dot, no duplicates, in the order given.

    Raises:
        NameRefused: a name that cannot be in a certificate, or not by http-01; the message says why.
    """
    if not names:
        raise NameRefused("no name was given", hint="name the site, for example example.com www.example.com", name="")
    return tuple(dict.fromkeys(map(identifier, names)))


def identifier(name: str) -> Identifier:
    """One name as :func:`identifiers` has it."""
    text = name.strip()
    try:
        # An IPv6 address may be typed as in a URL.
        address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]")).compressed
    except ValueError:
        pass
    else:
        # RFC 4007 section 11: any text may follow the %, line feeds as well, and ipaddress takes it all.
        if "%" in address:
            raise _refused(
                name,
                "has a zone, which means something on one machine only; no certificate has any",
                "name the address alone, without the % and what follows it",
            )
        return Identifier("ip", address)
    text = text.rstrip(".").lower() if text.count("..") == 0 else text
    if not text:
        raise _refused(name, "is empty")
    if text.startswith("*"):
        raise _refused(
            name,
            "is a wildcard, and a CA gives those out for a DNS record only (dns-01), which this program does not make yet",
            "name each host instead, or get this one certificate with a client that can edit your DNS zone",
        )
    if "://" in text or "/" in text or "@" in text:
        raise _refused(name, "is no host name", "give the name alone, for example example.com")
    if ":" in text:
        raise _refused(name, "has a port", "certificates are for names; the CA always validates on port 80")
    if "_" in text:
        raise _refused(name, "has an underscore, which no host name in a certificate may have (RFC 1123)")
    if not text.isascii():
        try:
            text = idna.encode(text, uts46=True).decode()
        except idna.IDNAError as error:
            raise _refused(name, f"is no valid internationalised name: {error}") from None
    if len(text) > LONGEST_NAME:
        raise _refused(name, f"is longer than {LONGEST_NAME} characters")
    labels = text.split(".")
    for label in labels:
        if not LABEL.fullmatch(label):
            raise _refused(name, f"has the part {label!r}, which is no host name's (letters, digits, inner hyphens; 1 to 63)")
    if labels[-1].isdigit():
        raise _refused(name, "ends in a number but is no IP address")
    return Identifier("dns", text)


def _refused(name: str, reason: str, hint: str = "") -> NameRefused:
    shown = name if len(name) <= 80 else name[:77] + "..."
    return NameRefused(f"{shown!r} {reason}", hint=hint or "nothing was sent to the CA", name=name)


def lineage(name: str | None, wanted: Sequence[Identifier]) -> str:
    """
    The name that a certificate is known by: ``name``, or the first identifier.

    Raises:
        ConfigurationError: a name that could not be a folder's.
    """
    if name is None:
        return wanted[0].value
    if name == wanted[0].value:  # a renewal names what the first issue had left out: an IPv6 address has colons
        return name
    # What an address or a wildcard becomes as a folder must not be another certificate's name.
    if not LINEAGE.fullmatch(name) or name.startswith((".", "_.")):
        raise ConfigurationError(
            f"--name {name!r} cannot be the name of a certificate",
            hint="it becomes a folder: no slash, colon, asterisk or white space, no dot at its beginning",
            option="name",
        )
    return name


def check_profile(wanted: Sequence[Identifier], authority: Authority, profile: str | None) -> str:
    """
    The profile to ask ``authority`` for, from what its row in the table says about the names. "" is the CA's default.

    Raises:
        NameRefused: more names than the profile takes, or an address where the profile takes none.
    """
    addresses = [entry.value for entry in wanted if entry.type == "ip"]
    if addresses and authority.ip_profile:
        if profile not in (None, authority.ip_profile):
            raise _refused(
                addresses[0],
                f"is an IP address, and {authority.title} puts those only into profile {authority.ip_profile}",
                f"leave --profile out, or say --profile {authority.ip_profile}",
            )
        profile = authority.ip_profile
    limit = authority.max_names.get(profile or "")
    if limit is not None and len(wanted) > limit:
        raise NameRefused(
            f"{len(wanted)} names are more than the {limit} that {authority.title} puts into one certificate"
            + (f" of profile {profile}" if profile else ""),
            hint="ask for several certificates, each with some of the names",
            name=wanted[limit].value,
        )
    return profile or ""
