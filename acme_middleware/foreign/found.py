"""What a reader finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    An account at a CA.

    Attributes:
        directory: The URL of the CA's directory, or "" where the format does not say.
        host: Where ``directory`` is "": the CA's host and port, as far as the format says.
        url: The account's URL, or "".
        key_pem: Its key in PEM (PKCS#8).
        eab_kid: The key id of its external account binding, where the format keeps it.
    """

    directory: str = ""
    host: str = ""
    url: str = ""
    key_pem: str = field(repr=False)
    email: str = ""
    eab_kid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """
    A certificate with the key that belongs to it.

    Attributes:
        name: What the other client knows it by.
        names: What it is for, from the certificate itself.
        key_type: As the option KEY_TYPE has it, or "" for another kind of key.
        directory: As for an account.
        host: As for an account.
        account_url: The account that ordered it, or "".
        options: What the other client would do at its renewal, as our options.
    """

    name: str
    names: tuple[str, ...]
    key_pem: str = field(repr=False)
    key_type: str
    cert_pem: str
    chain_pem: str
    not_before: datetime
    not_after: datetime
    directory: str = ""
    host: str = ""
    account_url: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What could not be read: a certificate's name or a file, and why, in a few words without secrets."""

    name: str
    reason: str


@dataclass(slots=True)
class Found:
    """All that a tree has."""

    accounts: list[Account] = field(default_factory=list)
    lineages: list[Lineage] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
