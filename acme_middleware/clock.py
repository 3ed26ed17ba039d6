"""The time of day. Whatever decides by it asks here, so that a test can move it for all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime


def _system() -> datetime:
    return datetime.now(UTC)


_source: Callable[[], datetime] = _system


def now() -> datetime:
    """The time of day, aware, in UTC."""
    return _source()


@contextmanager
def replaced(source: Callable[[], datetime]) -> Iterator[None]:
    """Take the time from ``source`` until the end of the block, in every thread of this process. For tests."""
    global _source  # noqa: PLW0603  # one clock per process is the point
    before = _source
    _source = source
    try:
        yield
    finally:
        _source = before
