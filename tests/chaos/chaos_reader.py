"""What servers do: load every published certificate with its key, again and again."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PAUSE = 0.01


class Reader:
    """
    Loads pairs in a loop, in a thread, until the end of the block.

    Args:
        folders: The PUBLISH_DIRs.

    Attributes:
        name: Whose pairs are loaded; may be changed.
        loads: How many were loaded.
        wrong: What could not be loaded together, each pair of files once.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders, self.name = folders, ""
        self.loads = 0
        self.wrong: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def take_wrong(self) -> list[str]:
        """What was wrong since the last time."""
        wrong, self.wrong = self.wrong, []
        return sorted(set(wrong))

    def _read(self) -> None:
        while not self._over.wait(PAUSE):
            name = self.name
            for folder in self.folders:
                current = folder / name / "current"
                if not name or not current.exists():
                    continue
                # Resolved once, as a server must: between two look-ups of the link another version may become current.
                version = current.resolve()
                try:
                    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(version / "fullchain.pem", version / "privkey.pem")
                except (OSError, ssl.SSLError) as error:
                    self.wrong.append(f"{version} was published, and cannot be loaded: {error}")
                    time.sleep(PAUSE)
                self.loads += 1
