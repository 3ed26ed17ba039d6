"""
A PostgreSQL for tests, made from Debian's own package in a folder of its own.

    with PostgreSQL() as server:
        store = open_store(server.new_database())
        server.kill()
        server.restart()
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from database_server import LIMIT, DatabaseServer

SETTINGS = {
    "shared_buffers": "16MB",
    "max_connections": "200",
    "unix_socket_directories": "",
    # What it has committed survives: fsync and synchronous_commit stay on. These only make its start and its end short.
    "max_wal_size": "128MB",
    "checkpoint_timeout": "1h",
    # Not ours, and with an hour that comes twice: whoever relies on it is seen.
    "timezone": "America/New_York",
}


class PostgreSQL(DatabaseServer):
    """
    A PostgreSQL server (:class:`database_server.DatabaseServer`): sorted by language, in New York's time, fsync on.

    Attributes:
        admin_url: The superuser's URL, in the form of :attr:`url`.
    """

    scheme = "postgresql+psycopg"
    account = "postgres"
    fast_stop = signal.SIGINT
    abort = signal.SIGQUIT  # killed, it would leave its shared memory behind

    @property
    def admin_url(self) -> str:
        return self.url_of("acme", user="postgres")

    def new_database(self) -> str:
        """Make an empty database, owned by the ordinary user, and return its URL."""
        name = f"acme_{secrets.token_hex(6)}"
        self._as_admin("acme", f"CREATE DATABASE {name} OWNER acme")
        return self.url_of(name, user="acme")

    def django(self, url: str) -> dict[str, Any]:
        """The entry of Django's DATABASES for a URL of this server."""
        return {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"connect_timeout": 2}, **django_address(url)}

    def make_data(self, data: Path) -> None:
        password_file = self.run_folder / "password"
        password_file.write_text(self.password)
        os.chown(password_file, *_owner(self.run_folder))
        collation = ["--locale=C.UTF-8", "--encoding=UTF8", "--locale-provider=icu", "--icu-locale=en"]
        users = ["--username=postgres", f"--pwfile={password_file}", "--auth=scram-sha-256"]
        run(self.as_user(find("initdb"), "-D", data, "--no-sync", *collation, *users), cwd=self.run_folder)
        password_file.unlink()
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        with (data / "postgresql.conf").open("a") as settings:
            settings.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())

    def command(self, data: Path) -> list[str | Path]:
        return [find("postgres"), "-D", data, "-c", f"listen_addresses={self.listen}", "-c", f"port={self.port}"]

    def answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(_libpq(self.url), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if 'database "acme" does not exist' in str(error) or "password authentication failed" in str(error):
                self._make_acme()
            return False
        return True

    def _make_acme(self) -> None:
        """What the first start of all makes. Either may be there, from a start that was killed in between."""
        self._as_admin("postgres", "DROP DATABASE IF EXISTS acme")
        self._as_admin("postgres", "DROP ROLE IF EXISTS acme")
        self._as_admin("postgres", f"CREATE ROLE acme LOGIN PASSWORD '{self.password}'")
        self._as_admin("postgres", "CREATE DATABASE acme OWNER acme")

    def _as_admin(self, database: str, statement: str) -> None:
        import psycopg

        url = _libpq(self.url_of(database, user="postgres"))
        with psycopg.connect(url, connect_timeout=5, autocommit=True) as connection:
            connection.execute(statement.encode())


def _libpq(url: str) -> str:
    return url.replace("+psycopg", "", 1)


def _owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def find(program: str) -> Path:
    """
    A program of the newest PostgreSQL that is installed.

    Raises:
        RuntimeError: there is none; the message says what to do.
    """
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: int(re.sub(r"\D", "", str(path))))
    if versions:
        return versions[-1]
    elsewhere = shutil.which(program)
    if elsewhere is None:
        raise RuntimeError(
            f"PostgreSQL's {program} is not installed: run tools/setup test (on Debian: apt-get install postgresql)"
        )
    return Path(elsewhere)


def run(argv: list[str | Path], *, cwd: Path) -> None:
    """
    Run a command that prepares a server.

    Raises:
        RuntimeError: it failed; the message ends with its output.
    """
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, errors="replace", timeout=4 * LIMIT, check=False)
    if done.returncode:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}"[-3000:])


def django_address(url: str) -> dict[str, Any]:
    """What a URL says, by the names that Django's DATABASES has for it."""
    parts = urlsplit(url)
    return {
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username,
        "PASSWORD": parts.password,
        "HOST": parts.hostname,
        "PORT": str(parts.port),
    }
