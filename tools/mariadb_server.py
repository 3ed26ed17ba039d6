"""
A MariaDB for tests, made from Debian's own package in a folder of its own.

    with MariaDB() as server:
        store = open_store(server.new_database())
        server.freeze()
        server.thaw()
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Any

from database_server import DatabaseServer
from postgresql_server import django_address, run

SETTINGS = {
    "skip-name-resolve": "ON",
    "character-set-server": "utf8mb4",
    "performance-schema": "OFF",
    "innodb-buffer-pool-size": "32M",
    "innodb-log-file-size": "16M",
    "max-connections": "200",
    # What it has committed survives.
    "innodb-flush-log-at-trx-commit": "1",
    "innodb-fast-shutdown": "2",
    # Not ours: whoever relies on it is seen.
    "default-time-zone": "-04:00",
}


class MariaDB(DatabaseServer):
    """
    A MariaDB server (:class:`database_server.DatabaseServer`): utf8mb4, in a time zone of its own, every commit on the disk.

    Attributes:
        admin_url: The URL of who may do anything, in the form of :attr:`url`.
    """

    scheme = "mysql+pymysql"
    account = "mysql"

    @property
    def admin_url(self) -> str:
        return self.url_of("acme", user="admin")

    def new_database(self) -> str:
        """Make an empty database of the ordinary user, and return its URL."""
        name = f"acme_{secrets.token_hex(6)}"
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        return self.url_of(name, user="acme")

    def django(self, url: str) -> dict[str, Any]:
        """The entry of Django's DATABASES for a URL of this server, with PyMySQL as the driver."""
        # PyMySQL reads the system's roots for each connection, which takes it longer than all the rest.
        options = {"connect_timeout": 2, "ssl_disabled": True}
        return {"ENGINE": "django.db.backends.mysql", "OPTIONS": options, **django_address(url)}

    def make_data(self, data: Path) -> None:
        # A temporary folder of its own: at its start a server removes the temporary tables that it finds, another's too.
        folders = [f"--datadir={data}", f"--tmpdir={self.run_folder}"]
        options = ["--no-defaults", *folders, "--skip-test-db", "--auth-root-authentication-method=normal"]
        run(self.as_user(find("mariadb-install-db"), *options, "--innodb-log-file-size=16M"), cwd=self.run_folder)

    def command(self, data: Path) -> list[str | Path]:
        # A statement a line; read at each start, so each may find its work done.
        script = self.run_folder / "init.sql"
        users = [f"CREATE USER IF NOT EXISTS {user}@'%' IDENTIFIED BY '{self.password}';" for user in ("acme", "admin")]
        # All databases of new_database(): `_` and `%` are wildcards there.
        rights = ["GRANT ALL ON `acme%`.* TO acme@'%';", "GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION;"]
        script.write_text("\n".join(["CREATE DATABASE IF NOT EXISTS acme;", *users, *rights]) + "\n")
        script.chmod(0o644)
        files = [
            f"--datadir={data}",
            f"--tmpdir={self.run_folder}",
            f"--socket={self.run_folder / 'socket'}",
            f"--pid-file={self.run_folder / 'pid'}",
        ]
        address = [f"--bind-address={self.listen}", f"--port={self.port}"]
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        return [find("mariadbd"), "--no-defaults", *files, *address, f"--init-file={script}", *settings]

    def answers(self) -> bool:
        from pymysql.err import OperationalError  # type: ignore[import-untyped]  # what it is, also where MySQLdb is PyMySQL

        try:
            self._connect().close()
        except OperationalError:
            return False
        return True

    def _connect(self) -> Any:
        import pymysql  # type: ignore[import-untyped]

        who = {"user": "acme", "password": self.password, "database": "acme"}
        return pymysql.connect(host=self.host, port=self.port, connect_timeout=2, autocommit=True, **who)


def find(program: str) -> str:
    """
    A program of MariaDB.

    Raises:
        RuntimeError: it is not installed; the message says what to do.
    """
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/libexec:/usr/local/sbin")
    if found is None:
        raise RuntimeError(f"{program} is not installed: run tools/setup test (on Debian: apt-get install mariadb-server)")
    return found
