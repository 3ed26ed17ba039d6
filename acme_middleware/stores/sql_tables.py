"""
The tables of the SQL stores. Django's models lead (``django_acme_middleware.models``): a site and our commands can share them.

Keys and tokens are compared byte by byte on every engine, and times are the database's own, in UTC.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    func,
    inspect,
    text,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement, SchemaItem
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.types import REAL, TypeEngine

__all__ = ["MAX_ADDRESS", "MAX_AGENT", "create", "fetches", "in_seconds", "now", "records", "statements", "tokens", "upsert"]

MAX_ADDRESS, MAX_AGENT = 64, 200


def _bytewise(length: int) -> TypeEngine[str]:
    """ASCII text that is compared and sorted by its bytes, as Django's BytewiseCharField."""
    plain, binary = String(length, collation="C"), String(length, collation="utf8mb4_bin")
    return String(length).with_variant(plain, "postgresql").with_variant(binary, "mysql", "mariadb")


def _table(name: str, *parts: SchemaItem) -> Table:
    options: dict[str, Any] = {"sqlite_autoincrement": True}
    for engine in ("mysql", "mariadb"):
        options |= {f"{engine}_engine": "InnoDB", f"{engine}_charset": "utf8mb4"}
    return Table(f"acme_middleware_{name}", _metadata, *parts, **options)


_metadata = MetaData()

records = _table(
    "record",
    Column("key", _bytewise(400), primary_key=True),
    Column("value", LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb"), nullable=False),
    Column("version", _bytewise(64), nullable=False),
)
_TIME = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
tokens = _table(
    "token",
    Column("token", _bytewise(128), primary_key=True),
    Column("key_authorization", Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb"), nullable=False),
    Column("expires", _TIME, nullable=False),
    Index("acme_middleware_token_expires_e20d1fea", "expires"),
)
fetches = _table(
    "fetch",
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), Identity(), primary_key=True),
    Column("token", _bytewise(128), nullable=False),
    Column("at", Double().with_variant(REAL(), "sqlite"), nullable=False),
    Column("address", String(MAX_ADDRESS), nullable=False),
    Column("agent", String(MAX_AGENT), nullable=False),
    Index("acme_middleware_fetch_token_49eaaa40", "token"),
)
"""The names of the indexes are those that Django gives them."""

_SQLITE_TIME = "%Y-%m-%d %H:%M:%f"
"""As Django writes it, so that both can compare what either wrote."""


def now(engine: str) -> ColumnElement[Any]:
    """The database's clock. MySQL's CURRENT_TIMESTAMP is in the session's time zone, where an hour can come twice."""
    if engine == "postgresql":
        return func.statement_timestamp()
    if engine == "sqlite":
        return func.strftime(_SQLITE_TIME, "now")
    return func.utc_timestamp(text("6"))


def in_seconds(engine: str, seconds: float) -> ColumnElement[Any]:
    """So many seconds after that."""
    if engine == "postgresql":
        return now(engine) + func.make_interval(0, 0, 0, 0, 0, 0, bindparam(None, seconds, type_=Double()))
    if engine == "sqlite":
        return func.strftime(_SQLITE_TIME, "now", f"{seconds:+.3f} seconds")
    return func.timestampadd(text("MICROSECOND"), round(seconds * 1e6), now(engine))


def upsert(engine: str, table: Table, key: str, values: dict[str, Any]) -> Any:
    """Insert a row, or update it where its key is there already: one statement."""
    others = [name for name in values if name != key]
    if engine in ("mysql", "mariadb"):
        insert = mysql.insert(table).values(**values)
        return insert.on_duplicate_key_update({name: insert.inserted[name] for name in others})
    made = (postgresql.insert if engine == "postgresql" else sqlite.insert)(table).values(**values)
    return made.on_conflict_do_update(index_elements=[key], set_={name: made.excluded[name] for name in others})


def create(connection: Connection) -> list[str]:
    """Make what is missing of the tables and their indexes, and return the names of the tables that were made."""
    made = []
    for table in _metadata.sorted_tables:
        if not _has(connection, table):
            made += [table.name] if _make(connection, CreateTable(table, if_not_exists=True), table) else []
        for index in table.indexes:
            if not _has(connection, index):
                _make(connection, CreateIndex(index), index)
    return made


def _has(connection: Connection, part: Table | Index) -> bool:
    there = inspect(connection)
    if isinstance(part, Table):
        return there.has_table(part.name)
    assert part.table is not None
    return part.columns.keys() in [index["column_names"] for index in there.get_indexes(part.table.name)]


def _make(connection: Connection, statement: ExecutableDDLElement, part: Table | Index) -> bool:
    try:
        connection.execute(statement)
    except DBAPIError:
        # Two hosts that begin at the same time both get here; even IF NOT EXISTS lets one of them fail.
        if not _has(connection, part):
            raise
        return False
    return True


def statements(dialect: Dialect) -> list[str]:
    """What ``create`` runs in an empty database of that kind."""
    makers: list[ExecutableDDLElement] = [
        *(CreateTable(table, if_not_exists=True) for table in _metadata.sorted_tables),
        *(CreateIndex(index) for table in _metadata.sorted_tables for index in table.indexes),
    ]
    return ["\n".join(line.rstrip() for line in str(made.compile(dialect=dialect)).strip().splitlines()) for made in makers]
