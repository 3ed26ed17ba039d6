"""A secret key that no repository holds: made at the first start, kept beside the database."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def key_from(path: Path) -> str:
    """Read the key, or make one. Several workers may start at once: all get the key of the one that was first."""
    if not path.exists():
        draft = path.with_name(f"{path.name}-{os.getpid()}")
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_text(secrets.token_urlsafe(50))
        with suppress(FileExistsError):  # another worker was first
            os.link(draft, path)
        draft.unlink()
    return path.read_text()
