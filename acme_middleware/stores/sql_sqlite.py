"""SQLite by Python's own module: how its file is opened, and what its errors mean."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from acme_middleware.stores import sql_limits
from acme_middleware.stores.sql_errors import Fault

__all__ = ["connect", "fault"]


def connect(path: str, **kwargs: Any) -> Any:
    """Open a file that is there: one made by whoever looks first would have no tables, and perhaps the wrong owner."""
    # What the URL says of these is not followed: the time limit is ours, and a file is opened as above.
    ours = {**kwargs, "uri": True, "timeout": sql_limits.left()}
    return sqlite3.connect(f"file:{quote(str(Path(path).absolute()))}?mode=rw", **ours)


_NAMES = {
    "SQLITE_READONLY": Fault.FILE,
    "SQLITE_CANTOPEN": Fault.FILE,
    "SQLITE_NOTADB": Fault.FILE,
    "SQLITE_CORRUPT": Fault.FILE,
    "SQLITE_AUTH": Fault.FILE,
    "SQLITE_PERM": Fault.FILE,
}


def fault(error: BaseException) -> Fault | None:
    """What no waiting mends, or None."""
    if str(error).startswith(("no such table", "no such column", "table ")):
        return Fault.TABLES
    name = str(getattr(error, "sqlite_errorname", ""))
    return next((fault for begin, fault in _NAMES.items() if name.startswith(begin)), None)
