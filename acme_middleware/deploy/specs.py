"""The form that the strings of DEPLOY have in common: ``scheme:place?word=value&word=value``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from acme_middleware.errors import ConfigurationError

__all__ = ["Parts", "absolute", "parts", "query", "refused", "seconds"]


class Parts(NamedTuple):
    """
    A string of DEPLOY, taken apart.

    Attributes:
        place: What stands between the scheme and the question mark, ``%`` escapes decoded.
        words: What stands behind it.
    """

    place: str
    words: Mapping[str, str]


def parts(spec: str, *known: str) -> Parts:
    """
    Take a string of DEPLOY apart.

    Args:
        known: The words that it may have behind the question mark.

    Raises:
        ConfigurationError: it has another, or one twice.
    """
    place, _, rest = spec.partition(":")[2].partition("?")
    return Parts(unquote(place), query(spec, rest, *known))


def query(spec: str, rest: str, *known: str) -> dict[str, str]:
    """The words behind the question mark. Raises ConfigurationError as :func:`parts` does."""
    words: dict[str, str] = {}
    for entry in filter(None, rest.split("&")):
        word, equals, value = entry.partition("=")
        if not equals or word not in known:
            raise refused(spec, f"knows no {entry!r}", hint=f"it takes {', '.join(f'{name}=' for name in known) or 'no words'}")
        if word in words:
            raise refused(spec, f"has {word}= twice")
        words[word] = unquote(value)
    return words


def absolute(spec: str, path: str, *, what: str) -> Path:
    """A path that does not depend on where a command runs. Raises ConfigurationError for any other."""
    if not path.startswith("/"):
        raise refused(spec, f"has {path!r} where the absolute path of {what} should be")
    return Path(path)


def seconds(spec: str, words: Mapping[str, str], default: float) -> float:
    """The word ``timeout``. Raises ConfigurationError where it is no number of seconds."""
    try:
        number = float(words.get("timeout", default))
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise refused(spec, f"has timeout={words['timeout']}", hint="it takes a number of seconds, above 0")
    return number


def refused(spec: str, why: str, *, hint: str = "") -> ConfigurationError:
    """The error to raise for a string of DEPLOY that cannot be followed."""
    return ConfigurationError(f"DEPLOY: {spec!r} {why}", hint=hint, option="deploy")
