"""
Connections to a SQL database: few, kept for the next time, tried before they are used, and never those of a parent process.

Each statement is a transaction of its own (autocommit). SQLite's file is opened each time: that is quick, a file that was put
in the other's place is seen, and a child of a fork must not even close what its parent opened.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from acme_middleware.errors import StoreMisconfigured
from acme_middleware.stores import sql_limits
from acme_middleware.stores.sql_errors import Place, explained

__all__ = ["Database"]

ENGINES = {
    "postgresql": ("postgresql+psycopg", "sql_psycopg"),
    "postgres": ("postgresql+psycopg", "sql_psycopg"),
    "mysql": ("mysql+pymysql", "sql_pymysql"),
    "mariadb": ("mariadb+pymysql", "sql_pymysql"),
    "sqlite": ("sqlite", "sql_sqlite"),
}
"""By the word that a URL begins with: SQLAlchemy's name, and the module of the driver."""

KEPT = 2
"""Connections that a process keeps for each store; what it needs beyond them at the same time is closed after use."""


class Database:
    """
    A database by its URL. Nothing is connected to before :meth:`use`.

    Args:
        url: As SQLAlchemy writes it; what follows a ``?`` goes to the driver.

    Raises:
        StoreMisconfigured: the URL is none of those.
        ImportError: the driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url, driver = _parsed(url)
        self._driver: Any = import_module(f"acme_middleware.stores.{driver}")
        engine, name = self.url.get_backend_name(), self.url.database or ""
        host = "" if engine == "sqlite" else f"{self.url.host or 'localhost'}" + (f":{self.url.port}" if self.url.port else "")
        self.place = Place(engine, name, host, self.url.username or "", str(self.url.password or ""))
        self._of_process: tuple[int, Engine] = (os.getpid(), self._new_engine())
        self._of_parents: list[Engine] = []

    @property
    def kind(self) -> str:
        """The engine: postgresql, mysql, mariadb or sqlite."""
        return self.place.engine

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine of this process."""
        pid, engine = self._of_process
        if pid != os.getpid():
            # What is dropped would be closed, and the parent still uses it. Two threads may make two engines: that of the one
            # that is first serves it once.
            self._of_parents.append(engine)
            engine = self._new_engine()
            self._of_process = (os.getpid(), engine)
        return engine

    def _new_engine(self) -> Engine:
        kept: dict[str, Any] = {
            "pool_size": KEPT,
            "max_overflow": 30,
            "pool_timeout": sql_limits.TOKEN_LIMIT,
            "pool_recycle": 1800,
            "pool_use_lifo": True,
            "pool_pre_ping": True,
        }
        if self.url.get_backend_name() == "sqlite":
            kept = {"poolclass": NullPool}
        elif self.url.get_backend_name() == "postgresql":
            kept["use_native_hstore"] = False  # it would be asked for, and we have none
        # hide_parameters: a statement that fails is quoted in SQLAlchemy's error, and a private key is no matter for that.
        engine = sqlalchemy.create_engine(
            self.url, isolation_level="AUTOCOMMIT", hide_parameters=True, pool_reset_on_return=None, **kept
        )
        # Every statement is committed already: this would be one more round trip, whose failure would look like the write's.
        setattr(engine.dialect, "do_rollback", _nothing)  # noqa: B010 - for a type checker it is a method
        connect = self._driver.connect
        event.listen(engine, "do_connect", lambda dialect, record, args, kwargs: connect(*args, **kwargs))
        weakref.finalize(self, _close, engine, os.getpid())
        return engine

    @contextmanager
    def use(
        self, *tables: sqlalchemy.Table, limit: float = sql_limits.USUAL_LIMIT, of_silence: bool = False
    ) -> Iterator[Connection]:
        """
        Yield a connection; what fails inside of the block is raised as ours.

        Args:
            tables: Those that are used, for the hint where that is not allowed.
            limit: Seconds that all of it may take, connecting too.
            of_silence: Once connected, they count anew with all that arrives.

        Raises:
            StoreMisconfigured: it will not work until somebody acts.
            StoreUnavailable: it may work later.
        """
        try:
            with sql_limits.within(limit), self.engine.connect() as connection:
                if of_silence:
                    sql_limits.count_silence_only()
                yield connection
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            # Not "from error": SQLite's and PostgreSQL's own quote values.
            raise explained(
                self.place, self._driver.fault(cause), cause, tables=tuple(table.name for table in tables)
            ) from None

    def close_connections(self) -> None:
        """Close what this process keeps. The next use opens others."""
        pid, engine = self._of_process
        _close(engine, pid)


def _nothing(connection: object) -> None:
    """In place of a rollback."""


def _close(engine: Engine, pid: int) -> None:
    """Close what is kept, unless it is a parent's: PyMySQL would tell the server that it goes, in the parent's name."""
    if pid == os.getpid():
        engine.dispose()


def _parsed(text: str) -> tuple[URL, str]:
    scheme, _, rest = text.partition(":")
    word, _, driver = scheme.lower().partition("+")
    name, module = ENGINES[word]
    shown = f"{scheme}:"
    if driver and driver != name.partition("+")[2]:
        raise StoreMisconfigured(f"{shown} names a driver that is not used here", hint=f"write {name}:")
    try:
        url = make_url(f"{name}:{rest}")
        if word != "sqlite" and _has_more_password(url, rest):
            raise ValueError
    except (SQLAlchemyError, ValueError):
        # Not its text, which may be the URL's, nor where that comes from: there is a password in it.
        raise StoreMisconfigured(
            f"what follows {shown} is no URL of a database",
            hint=f"write {name}://USER:PASSWORD@HOST:PORT/DATABASE, with what has a meaning there percent-encoded: "
            "in a password @ is %40, : is %3A, / is %2F, ? is %3F, % is %25",
        ) from None
    if not url.database or url.database == ":memory:" or "mode=memory" in url.database:
        example = (
            "sqlite:////var/lib/acme-middleware/acme.sqlite3" if word == "sqlite" else f"{name}://USER:PASSWORD@HOST/DATABASE"
        )
        raise StoreMisconfigured(
            f"the URL {shown} names no {'file' if word == 'sqlite' else 'database'}", hint=f"write {example}"
        )
    return url, module


# As SQLAlchemy takes them off: the first @ behind the colon ends the password.
USER = re.compile(r"(?://)?(?:[^:/]*(?::[^@]*)?@)?")


def _has_more_password(url: URL, rest: str) -> bool:
    """Whether a password has an @ that is not encoded: what follows that would be a host's or a database's name, and told."""
    behind = USER.sub("", rest, count=1)
    return "@" in (behind if url.password else behind.partition("?")[0])
