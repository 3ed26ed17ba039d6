"""PostgreSQL by psycopg 3: connections that keep our time limits, and what its errors mean."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

from acme_middleware.stores import sql_limits
from acme_middleware.stores.sql_errors import Fault

__all__ = ["connect", "fault"]

T = TypeVar("T")


class _OutOfTime(psycopg.OperationalError):
    pass


def _limited(steps: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """
    The steps of an operation, which end when the time is over.

    psycopg runs each operation as a generator that says what to wait for; it is woken up when that is there, and ten times a
    second with nothing.
    """
    sent = None
    while True:
        try:
            wanted = steps.send(sent)
        except StopIteration as end:
            result: T = end.value
            return result
        sent = yield wanted
        if sent:
            sql_limits.progress()
        if sql_limits.over():
            raise _OutOfTime("the server did not answer in time")


class _Connection(psycopg.Connection[Any]):
    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        try:
            return super().wait(_limited(gen), *args, **kwargs)
        except _OutOfTime:
            self.close()  # the answer may still come, and would be taken for that of the next statement
            raise

    @classmethod
    def _connect_gen(cls, *args: Any, **kwargs: Any) -> Any:
        # connect_timeout is two seconds at least. Were this method gone from psycopg, it would be those two.
        return _limited(super()._connect_gen(*args, **kwargs))


def connect(*args: Any, **kwargs: Any) -> Any:
    """Connect as ``psycopg.connect`` does."""
    # Statements kept by the server do not survive a PgBouncer that hands out another connection for each.
    ours = {"connect_timeout": max(2, int(sql_limits.CONNECT_LIMIT)), "prepare_threshold": None}
    try:
        return _Connection.connect(*args, **{"fallback_application_name": "acme-middleware", **kwargs, **ours})
    except UnicodeError as error:  # Python's for a host such as "db..internal"
        raise psycopg.ProgrammingError(f"invalid host value: {error}") from None


# A connection that is refused has no SQLSTATE; the texts are those of libpq, and of a server that speaks English.
_REFUSED = {
    Fault.LOGIN: r'authentication failed|no password supplied|role ".*" does not exist|not permitted to log in|pg_hba\.conf',
    Fault.DATABASE: r'database ".*" does not exist',
    Fault.RIGHTS: r"permission denied",
    Fault.OPTION: r"invalid (connection option|\S+ value)|unsupported startup parameter|root certificate file",
}
_STATES = {
    "42501": Fault.RIGHTS,
    "42P01": Fault.TABLES,
    "42703": Fault.TABLES,
    "42883": Fault.TABLES,
    "42P10": Fault.TABLES,
    "3F000": Fault.TABLES,
    "25006": Fault.READ_ONLY,
    "3D000": Fault.DATABASE,
    "28P01": Fault.LOGIN,
    "28000": Fault.LOGIN,
    "0A000": Fault.ENGINE,
}


def fault(error: BaseException) -> Fault | None:
    """What no waiting mends, or None."""
    state = getattr(error, "sqlstate", None)
    if state:
        return _STATES.get(state)
    said = str(error)
    return next((fault for fault, pattern in _REFUSED.items() if re.search(pattern, said)), None)
