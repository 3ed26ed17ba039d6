"""A folder of somebody else's, read with suspicion."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acme_middleware._text import printable
from acme_middleware.errors import ConfigurationError

MOST_BYTES = 256 * 1024
"""Of a file: far more than a chain of the longest keys."""
MOST_ENTRIES = 100_000
"""Of a folder."""
MOST_FOLDERS = 1000
"""Of a walk."""


class NoTree(ConfigurationError):
    """There is no tree of that format where it was looked for."""


class Damaged(Exception):
    """A file that cannot be used; the message says which and why, without what is in it."""


class Tree:
    """
    The files below a folder. Links are followed as far as they stay inside, as certbot's do.

    Raises:
        NoTree: there is no such folder, or it cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = os.path.realpath(root)
        try:
            with os.scandir(self.root):
                pass
        except OSError as error:
            raise NoTree(
                f"cannot read {root}: {error.strerror}", hint="name the folder that the other client keeps its state in"
            ) from error

    def read(self, *parts: str) -> bytes:
        """Read a whole file. Raises Damaged where there is none, it is too long, no file, or outside."""
        shown = printable("/".join(parts), 200)
        path = self._inside(parts)
        try:
            # Not blocking: a FIFO in the place of a file must not hang us.
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise Damaged(f"{shown} is no file")
                with open(file, "rb", closefd=False) as opened:
                    data = opened.read(MOST_BYTES + 1)
            finally:
                os.close(file)
        except (OSError, ValueError) as error:
            raise Damaged(f"{shown}: {getattr(error, 'strerror', None) or 'no path'}") from None
        if len(data) > MOST_BYTES:
            raise Damaged(f"{shown} is longer than {MOST_BYTES:,} bytes")
        return data

    def text(self, *parts: str) -> str:
        """Read a file as text."""
        try:
            return self.read(*parts).decode()
        except UnicodeDecodeError:
            raise Damaged(f"{printable('/'.join(parts), 200)} is no text") from None

    def json(self, *parts: str) -> dict[str, Any]:
        """Read a file as a JSON object."""
        try:
            value = json.loads(self.read(*parts))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Damaged(f"{printable('/'.join(parts), 200)} is no JSON object")
        return value

    def has(self, *parts: str) -> bool:
        """Whether something is there, inside."""
        try:
            return os.path.exists(self._inside(parts))
        except (Damaged, ValueError):
            return False

    def entries(self, *parts: str) -> list[str]:
        """The names in a folder, sorted; none where there is no such folder."""
        try:
            with os.scandir(self._inside(parts)) as found:
                names = [entry.name for entry, _ in zip(found, range(MOST_ENTRIES), strict=False)]
        except (OSError, Damaged, ValueError):
            return []
        return sorted(names)

    def folders(self, *parts: str) -> list[str]:
        """The names of the folders in a folder, sorted."""
        return [name for name in self.entries(*parts) if self._is_folder((*parts, name))]

    def walk(self, *parts: str, depth: int) -> Iterator[tuple[str, ...]]:
        """All folders below a folder, as parts below it, down to a depth and up to a number: links may go in circles."""
        begun: list[tuple[str, ...]] = [()]
        for _ in range(MOST_FOLDERS):
            if not begun:
                return
            place = begun.pop()
            if place:
                yield place
            if len(place) < depth:
                begun += [(*place, name) for name in reversed(self.folders(*parts, *place)[:MOST_FOLDERS])]

    def _is_folder(self, parts: tuple[str, ...]) -> bool:
        try:
            return os.path.isdir(self._inside(parts))
        except (Damaged, ValueError):
            return False

    def _inside(self, parts: tuple[str, ...]) -> str:
        try:
            path = os.path.realpath(os.path.join(self.root, *parts))
        except (OSError, ValueError):
            raise Damaged(f"{printable('/'.join(parts), 200)} is no path") from None
        if path != self.root and not path.startswith(self.root.rstrip("/") + "/"):
            raise Damaged(f"{printable('/'.join(parts), 200)} leads out of {self.root}")
        return path
