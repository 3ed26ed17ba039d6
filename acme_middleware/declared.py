"""The option CERTIFICATES: certificates that the configuration says there shall be."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

KEYS = ("names", "profile", "key_type", "deploy")


class Declared(NamedTuple):
    """
    A certificate that shall be there.

    Attributes:
        name: What it is known by.
        names: What it shall be for, as they were written.
        profile, key_type, deploy: Its own, where they are not those of the other options.
    """

    name: str
    names: tuple[str, ...]
    profile: str | None = None
    key_type: str | None = None
    deploy: tuple[str, ...] | None = None


def read(value: Any, *, key_type: Callable[[Any], str], deploy: Callable[[Any], tuple[str, ...]]) -> tuple[Declared, ...]:
    """
    Read a table from names to what they shall be: a dictionary, JSON, or what this returned before.

    Whether each name can be in a certificate is not looked at here: one bad name must not stop the others.

    Raises:
        ValueError: it is no such table; says what is valid.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"is no JSON ({error})") from None
    if isinstance(value, tuple) and all(isinstance(entry, Declared) for entry in value):
        return value
    if not isinstance(value, Mapping):
        raise ValueError('takes a table such as {"example.com": {"names": ["example.com", "www.example.com"]}}')
    return tuple(_entry(name, entry, key_type, deploy) for name, entry in value.items())


def _entry(name: Any, entry: Any, key_type: Callable[[Any], str], deploy: Callable[[Any], tuple[str, ...]]) -> Declared:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"has the name {name!r}, which is no text")
    if not isinstance(entry, Mapping):
        entry = {"names": entry}
    unknown = [key for key in entry if key not in KEYS]
    if unknown:
        raise ValueError(f"has {unknown[0]!r} for {name}, where only {', '.join(KEYS)} are known")
    names = entry.get("names") or (name,)
    names = names.replace(",", " ").split() if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
        raise ValueError(f"has names for {name} that are no list of texts")
    profile = entry.get("profile") or None
    if profile is not None and not isinstance(profile, str):
        raise ValueError(f"has a profile for {name} that is no text")
    own: dict[str, Any] = {}
    for key, parse in (("key_type", key_type), ("deploy", deploy)):
        given = entry.get(key)
        if given is None or given == "":
            continue
        try:
            own[key] = parse(given)
        except ValueError as error:
            raise ValueError(f"has the {key} {given!r} for {name}, which {error}") from None
    return Declared(name, tuple(names), profile, **own)
