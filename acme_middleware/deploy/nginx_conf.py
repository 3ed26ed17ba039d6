"""Read nginx's configuration, as ``nginx -T`` prints it: which server presents which certificate, where, for which names."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple

__all__ = ["Address", "Server", "servers"]

FILE = re.compile(r"^# configuration file (/.*):$", re.MULTILINE)
TOKEN = re.compile(
    r"""\s+ | \#[^\n]* | (?P<mark>[;{}])
    | (?P<quoted>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
    | (?P<bare>(?:\\. | \$\{[^}]*\} | [^\s;{}\\$] | \$)+)""",
    re.VERBOSE | re.DOTALL,
)
Address = tuple[str, int]
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class Directive(NamedTuple):
    """A line of the configuration, with what stands in its braces."""

    words: list[str]
    block: list[Directive]


@dataclass(frozen=True, slots=True)
class Server:
    """
    A ``server`` block that speaks TLS.

    Attributes:
        names: Its ``server_name``, in lower case.
        addresses: Where it listens for TLS, as one connects to it from this host; where one would get to another, left out.
        default_at: Those of them at which it answers who asks for a name that no server has.
        certificates: The absolute paths of its certificates; may have variables.
    """

    names: tuple[str, ...]
    addresses: tuple[Address, ...]
    default_at: frozenset[Address]
    certificates: tuple[str, ...]


def servers(dump: str) -> list[Server]:
    """
    The servers that present certificates. What is no TCP port is left out, and what wants the PROXY protocol first.

    Args:
        dump: What ``nginx -T`` printed.
    """
    starts = list(FILE.finditer(dump))
    if not starts:
        return []
    files: dict[str, list[Directive]] = {}
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        files.setdefault(start[1], _parsed(dump[start.end() : end.start() if end else None]))
    main = starts[0][1]
    return _of_blocks(list(_servers(files[main], files, os.path.dirname(main))), os.path.dirname(main))


def _parsed(text: str) -> list[Directive]:
    top: list[Directive] = []
    blocks, words = [top], list[str]()
    for token in TOKEN.finditer(text):
        if token["bare"] is not None:
            words.append(_plain(token["bare"]))
        elif token["quoted"] is not None:
            words.append(_plain(token["quoted"][1:-1]))
        elif token["mark"] == "}":
            if len(blocks) > 1:
                blocks.pop()
            words = []
        elif token["mark"]:
            directive = Directive(words, [])
            blocks[-1].append(directive)
            if token["mark"] == "{":
                blocks.append(directive.block)
            words = []
    return top


def _plain(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL)


def _expanded(
    block: Sequence[Directive], files: dict[str, list[Directive]], home: str, within: tuple[str, ...] = ()
) -> Iterator[Directive]:
    """A block with the files that it includes in their places."""
    for directive in block:
        if directive.words[:1] == ["include"] and len(directive.words) == 2:
            pattern = os.path.join(home, directive.words[1])
            for name, included in files.items():
                if name not in within and PurePath(name).match(pattern):
                    yield from _expanded(included, files, home, (*within, name))
        elif directive.words:
            yield directive


def _servers(
    block: Sequence[Directive], files: dict[str, list[Directive]], home: str, outer: tuple[str, ...] | None = None
) -> Iterator[tuple[list[Directive], tuple[str, ...]]]:
    """The lines of each server, and its certificates; those that stand outside (``outer``) where it has none itself."""
    lines = list(_expanded(block, files, home))
    for line in lines:
        if outer is None and line.words in (["http"], ["stream"]):
            yield from _servers(line.block, files, home, _certificates(_expanded(line.block, files, home)))
        elif outer is not None and line.words == ["server"]:
            inner = list(_expanded(line.block, files, home))
            yield inner, _certificates(inner) or outer


def _certificates(lines: Iterable[Directive]) -> tuple[str, ...]:
    return tuple(line.words[1] for line in lines if line.words[0] == "ssl_certificate" and len(line.words) > 1)


def _of_blocks(found: Sequence[tuple[list[Directive], tuple[str, ...]]], home: str) -> list[Server]:
    listening = [[line.words[1:] for line in lines if line.words[0] == "listen" and len(line.words) > 1] for lines, _ in found]
    # The words of one `listen` count for all servers with the same address.
    secure, other, taken, default = set[Address](), set[Address](), set[Address](), dict[Address, int]()
    for number, ((lines, _), listens) in enumerate(zip(found, listening, strict=True)):
        for address, *words in listens:
            at = _address(address)
            if at is None:
                continue
            if "ssl" in words or any(line.words == ["ssl", "on"] for line in lines):
                secure.add(at)
            if "proxy_protocol" in words:
                other.add(at)
            if not {"quic", "udp"} & set(words):
                taken.add(at)
            if {"default_server", "default"} & set(words):
                default[at] = number
    for number, listens in enumerate(listening):
        for address, *_ in listens:
            if (at := _address(address)) is not None:
                default.setdefault(at, number)
    made = []
    for number, ((lines, certificates), listens) in enumerate(zip(found, listening, strict=True)):
        names = [word.lower() for line in lines if line.words[0] == "server_name" for word in line.words[1:]]
        places = {
            at: to
            for address, *words in listens
            if "quic" not in words and (at := _address(address)) and at in secure - other and (to := _reached(at, taken))
        }
        if places and certificates:
            made.append(
                Server(
                    tuple(names),
                    tuple(places.values()),
                    frozenset(to for at, to in places.items() if default[at] == number),
                    tuple(path if path.startswith(("data:", "engine:")) else os.path.join(home, path) for path in certificates),
                )
            )
    return made


def _address(text: str) -> Address | None:
    """
    ``443``, ``*:443``, ``[::]:443``, ``192.0.2.1``: the same place always in the same form.

    None for a socket in a file, and for a range of ports.
    """
    if re.search(r"(^|:)\d+-\d+$", text):
        return None
    found = re.fullmatch(r"(?:(?P<host>\[[^\]]+\]|[^:\[\]]*):)?(?P<port>\d+)|(?P<only>\[[^\]]+\]|[^:\[\]]+)", text)
    if not found:
        return None
    host = (found["host"] or found["only"] or "*").strip("[]")
    try:
        host = ipaddress.ip_address("0.0.0.0" if host == "*" else host).compressed  # noqa: S104
    except ValueError:
        host = host.lower()  # a name
    return host, int(found["port"] or 80)


def _reached(at: Address, taken: set[Address]) -> Address | None:
    """
    Where to connect to. None for a listener on all addresses beside one on the loopback address.

    nginx gives a connection to the listener that has its very address, so that nobody on this host gets to the other.
    """
    host, port = LOOPBACK.get(at[0], at[0]), at[1]
    return None if host != at[0] and {(host, port), ("localhost", port)} & taken else (host, port)
