"""The servers that the hosts share their state by."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from chaos_hosts import SERVER_ADDRESS


class Server(Protocol):
    """What tools/postgresql_server.py and its siblings have in common."""

    @property
    def url(self) -> str: ...

    def start(self) -> Any: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def restart(self) -> None: ...

    def freeze(self) -> Any: ...

    def thaw(self) -> None: ...


MODULES = {
    "PostgreSQL": ("acme_middleware.stores.sql", "sqlalchemy.dialects.postgresql.psycopg", "psycopg"),
    "MariaDB": ("acme_middleware.stores.sql", "sqlalchemy.dialects.mysql.pymysql", "pymysql"),
    "Redis": ("acme_middleware.stores.redis", "redis"),
}
"""What hosts import before they are asked for anything, by engine. These are the columns of the table."""

ENGINES = tuple(MODULES)


def make_server(engine: str, folder: Path) -> Server:
    """A server that is not started yet, for the network of the hosts."""
    if engine == "PostgreSQL":
        from postgresql_server import PostgreSQL

        return PostgreSQL(listen=SERVER_ADDRESS, folder=folder)
    if engine == "MariaDB":
        from mariadb_server import MariaDB

        return MariaDB(listen=SERVER_ADDRESS, folder=folder)
    from redis_server import Redis

    return Redis(listen=SERVER_ADDRESS, folder=folder)
