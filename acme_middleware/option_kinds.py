"""What an option's value may be: each kind takes what somebody wrote, and gives it back checked, or says what it takes."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def text(value: Any) -> str:
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    raise ValueError(f"takes text, not {type(value).__name__}")


def boolean(value: Any) -> bool:
    word = str(value).lower()
    if word in TRUE | FALSE:
        return word in TRUE
    raise ValueError("takes one of 1, true, yes, on, 0, false, no, off")


def path(value: Any) -> Path:
    return Path(text(value)).expanduser()


def seconds(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError("takes a number of seconds, 0 or more")
    return number


def store(value: Any) -> Any:
    """A URL, or from Python's own settings a folder's Path or an object that is a store already: open_store() takes all."""
    return value


def words(value: Any) -> str:
    """Several words, with commas or spaces between them or in a list; kept as text, with commas."""
    given = value if isinstance(value, list | tuple) else text(value).replace(",", " ").split()
    return ",".join(map(text, given))


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts; as one text in JSON, or one a line."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"is no list in JSON ({error})") from None
    given = value.splitlines() if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise ValueError("takes a list of texts; as one text in JSON, or one a line")
    return tuple(filter(None, (one.strip() for one in given)))


def one_of(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        word = str(value)  # a setting may have the number 404
        if word not in choices:
            near = difflib.get_close_matches(word, choices, n=1)
            raise ValueError(f"takes one of {', '.join(choices)}" + (f"; did you mean {near[0]}?" if near else ""))
        return word

    parse.choices = choices  # type: ignore[attr-defined]
    return parse


def host_port(value: Any) -> str:
    host, _, port = text(value).rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("takes HOST:PORT, for example 127.0.0.1:8000")
    return f"{host}:{port}"


def email(value: Any) -> str:
    address = text(value).strip()
    local, _, domain = address.rpartition("@")
    if not local or "." not in domain or any(c.isspace() or c == "," for c in address):
        raise ValueError("takes one email address")
    return address
