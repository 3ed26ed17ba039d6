"""
Stores in a SQL database: PostgreSQL, MariaDB, MySQL or SQLite, by a URL as SQLAlchemy writes it.

The tables are those of the Django stores. Every write is one statement and committed when it returns, reads ask the
database that is written to, and times are the database's. ``acme-middleware store init`` makes the tables.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import delete, exists, func, insert, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.expression import ColumnElement

from acme_middleware.errors import Conflict
from acme_middleware.stores import base, sql_limits
from acme_middleware.stores.base import FETCHES_KEPT, Expect, Fetch, new_version, try_out
from acme_middleware.stores.sql_connections import Database
from acme_middleware.stores.sql_tables import (
    MAX_ADDRESS,
    MAX_AGENT,
    create,
    fetches,
    in_seconds,
    now,
    records,
    statements,
    tokens,
    upsert,
)

__all__ = ["SQLChallengeStore", "SQLStore"]


class _InDatabase:
    def __init__(self, url: str) -> None:
        self.database = Database(url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.database.kind}, {self.database.place}>"

    def close_connections(self) -> None:
        """Give back the connections that are kept (:class:`acme_middleware.stores.base.Connected`)."""
        self.database.close_connections()

    def make_tables(self) -> list[str]:
        """
        Make the tables that are missing, also SQLite's file.

        Returns:
            The names of those that were made.

        Raises:
            StoreMisconfigured: the user has no right to.
            StoreUnavailable: the database does not answer.
        """
        if self.database.kind == "sqlite":
            _make_file(Path(self.database.place.name))
        with self.database.use() as connection:
            return create(connection)

    def table_statements(self) -> list[str]:
        """The statements that make the tables. Nothing is connected to."""
        return statements(self.database.engine.dialect)


def _make_file(path: Path) -> None:
    """Empty, for its owner alone: private keys come into it. What is in the way of that is said when it is opened."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError:
        return


class SQLStore(_InDatabase):
    """
    State in a SQL database (:class:`acme_middleware.stores.base.Store`).

    Args:
        url: ``postgresql+psycopg://user:password@host/name``, ``mysql+pymysql://...``, ``mariadb+pymysql://...`` or
            ``sqlite:////path/of/file``.

    Raises:
        StoreMisconfigured: the URL is none of these. While in use also: no such database, user, right or table.
    """

    def get(self, key: str) -> base.Record | None:
        with self.database.use(records) as connection:
            row = connection.execute(select(records.c.value, records.c.version).where(records.c.key == key)).first()
        return base.Record(bytes(row.value), row.version) if row else None

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        version = new_version()
        row = {"key": key, "value": value, "version": version}
        with self.database.use(records) as connection:
            if expect is Expect.ANY:
                connection.execute(upsert(self.database.kind, records, "key", row))
            elif expect is Expect.ABSENT:
                try:
                    connection.execute(insert(records).values(row))
                except IntegrityError:
                    raise _conflict(key) from None
            else:
                read = (records.c.key == key) & (records.c.version == expect)
                if not connection.execute(update(records).where(read).values(value=value, version=version)).rowcount:
                    raise _conflict(key)
        return version

    def delete(self, key: str, *, expect: str | Expect = Expect.ANY) -> bool:
        if expect is Expect.ABSENT:
            if self.get(key) is not None:
                raise _conflict(key)
            return False
        meant = records.c.key == key
        if expect is not Expect.ANY:
            meant &= records.c.version == expect
        with self.database.use(records) as connection:
            gone = connection.execute(delete(records).where(meant)).rowcount > 0
        if not gone and expect is not Expect.ANY:
            raise _conflict(key)
        return gone

    def scan(self, prefix: str) -> Iterator[tuple[str, base.Record]]:
        query = select(records.c.key, records.c.value, records.c.version).order_by(records.c.key)
        if prefix:  # a range, as LIKE ignores case in SQLite
            query = query.where(records.c.key >= prefix, records.c.key < prefix[:-1] + chr(ord(prefix[-1]) + 1))
        with self.database.use(records, of_silence=True) as connection:
            found = connection.execute(query).all()
        return ((key, base.Record(bytes(value), version)) for key, value, version in found)

    def check(self, *, writable: bool) -> None:
        self.get(base.key("lock", "check"))
        if writable:
            try_out(self)


def _conflict(key: str) -> Conflict:
    return Conflict(f"{key} was changed by another process", hint="run the command again", key=key)


class SQLChallengeStore(_InDatabase):
    """
    Tokens in a SQL database (:class:`acme_middleware.stores.base.ChallengeStore`), with a log of who fetched them.

    A web worker needs to SELECT from acme_middleware_token, and for the log to SELECT from and INSERT into
    acme_middleware_fetch; it needs no right to acme_middleware_record, where private keys are.

    Args:
        url: As :class:`SQLStore`.

    Raises:
        StoreMisconfigured: as :class:`SQLStore`.
    """

    blocking = True

    @property
    def brief(self) -> bool:
        """Whether tokens are read from a file of this machine (:class:`acme_middleware.stores.base.Brief`)."""
        return self.database.kind == "sqlite"

    def _valid(self, token: str) -> ColumnElement[bool]:
        return (tokens.c.token == token) & (tokens.c.expires > now(self.database.kind))

    def key_authorization(self, token: str) -> str | None:
        with self.database.use(tokens, limit=sql_limits.TOKEN_LIMIT) as connection:
            return connection.execute(select(tokens.c.key_authorization).where(self._valid(token))).scalar()

    def present(self, token: str, key_authorization: str, *, ttl: float) -> None:
        kind = self.database.kind
        row = {"token": token, "key_authorization": key_authorization, "expires": in_seconds(kind, ttl)}
        with self.database.use(tokens, fetches) as connection:
            connection.execute(delete(tokens).where(tokens.c.expires <= now(kind)))
            connection.execute(delete(fetches).where(~exists().where(tokens.c.token == fetches.c.token)))
            connection.execute(upsert(kind, tokens, "token", row))

    def remove(self, token: str) -> None:
        with self.database.use(tokens, fetches) as connection:
            connection.execute(delete(tokens).where(tokens.c.token == token))
            connection.execute(delete(fetches).where(fetches.c.token == token))

    def log_fetch(self, token: str, fetch: Fetch) -> None:
        address, agent = (text.replace("\0", "") for text in (fetch.address, fetch.agent))  # PostgreSQL takes no NUL
        ours = [token, fetch.at, address[:MAX_ADDRESS], agent[:MAX_AGENT]]
        columns = [fetches.c.token, fetches.c.at, fetches.c.address, fetches.c.agent]
        values = [literal(value, column.type) for value, column in zip(ours, columns, strict=True)]
        # The first ones are kept, so that who fetches on and on costs no writes. One that comes in while its token is removed
        # goes with the next token that is presented.
        kept = select(func.count()).select_from(fetches).where(fetches.c.token == token).scalar_subquery()
        row = select(*values).where(exists().where(self._valid(token)), kept < FETCHES_KEPT)
        with self.database.use(tokens, fetches) as connection:
            connection.execute(insert(fetches).from_select(columns, row))

    def fetches(self, token: str) -> list[Fetch]:
        query = select(fetches.c.at, fetches.c.address, fetches.c.agent).where(fetches.c.token == token)
        with self.database.use(fetches) as connection:
            found = connection.execute(query.order_by(fetches.c.id).limit(FETCHES_KEPT)).all()
        return [Fetch(at, address, agent) for at, address, agent in found]
