"""
What every store costs: one fetch of a token, and a scan of ten thousand records, the two things that grow.

    python benchmarks/stores.py        SCALE=ci: 500 fetches, and twice the limit; full (the default): 2,000

The servers are real, on this machine, with durable settings; a network adds its round trip. Tokens are fetched one after the
other, in the way that a web worker does it: through a thread of its own where the store may wait, and Django with a new
connection, as outside a request. A scan gives 10,000 records of 800 bytes, as `renew` and `status` read them; the best of
three counts, since the machine has other things to do.

Ends with 1 where a scan takes over a second: `status` of ten thousand certificates must not be a matter of patience.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from mariadb_server import MariaDB
from postgresql_server import PostgreSQL
from redis_server import Redis

from acme_middleware.lookup import Lookup
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.base import ChallengeSource, Store, key, new_version

FULL = os.environ.get("SCALE", "full") != "ci"
FETCHES = 2_000 if FULL else 500
RECORDS, SIZE = 10_000, 800
SCANS = 3
LIMIT = 1.0 if FULL else 2.0
"""Seconds for one scan. A CI machine with other work to do gets twice that."""

TOKENS = [f"token-{number:03}-AzByCxDwEvFuGtHsIrJqKpLoMnNmOlPkQj" for number in range(100)]
Rows = list[tuple[str, bytes]]


@dataclass(frozen=True)
class Case:
    """A store: what it is called, its URL, and how many records get in without waiting for a disk after each."""

    name: str
    url: str
    fill: Callable[[Store, Rows], None]


def put_each(store: Store, rows: Rows) -> None:
    for name, value in rows:
        store.put(name, value)


def write_files(store: Any, rows: Rows) -> None:
    for name, value in rows:
        path = store._place(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(new_version().encode() + b"\n" + value)


def insert_by_orm(store: Any, rows: Rows) -> None:
    from django_acme_middleware.models import Record

    made = [Record(key=name, value=value, version=new_version()) for name, value in rows]
    Record.objects.using(store.database).bulk_create(made, batch_size=500)


def insert_by_sql(store: Any, rows: Rows) -> None:
    import sqlalchemy

    from acme_middleware.stores.sql_tables import records

    engine = sqlalchemy.create_engine(store.database.url)
    with engine.begin() as connection:
        made = [{"key": name, "value": value, "version": new_version()} for name, value in rows]
        connection.execute(sqlalchemy.insert(records), made)
    engine.dispose()


def set_fields(store: Any, rows: Rows) -> None:
    fields = [part for name, value in rows for part in (name, new_version().encode() + value)]
    store._server.ask("HSET", store._records + "renewal", *fields)
    store._server.ask("SADD", store._kinds, "renewal")


@contextmanager
def cases() -> Iterator[list[Case]]:
    """Every store, empty and ready, with servers that live as long as the block."""
    with ExitStack() as things:
        folder = Path(things.enter_context(tempfile.TemporaryDirectory()))
        postgresql, mariadb = things.enter_context(PostgreSQL()), things.enter_context(MariaDB())
        redis = things.enter_context(Redis())
        sqlite = folder / "django.sqlite3"
        aliases = {
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(sqlite)},
            "postgresql": postgresql.django(postgresql.new_database()),
            "mariadb": mariadb.django(mariadb.new_database()),
        }
        set_up_django(aliases)
        by_sql = {
            "SQLite": f"sqlite:///{folder / 'sql.sqlite3'}",
            "PostgreSQL": postgresql.new_database(),
            "MariaDB": mariadb.new_database(),
        }
        for url in by_sql.values():
            made: Any = open_store(url)
            made.make_tables()
        names = {"default": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}
        yield [
            Case("memory", "memory:", put_each),
            Case("folder", f"file://{folder / 'state'}", write_files),
            *(Case(f"Django, {names[alias]}", f"django:{alias}", insert_by_orm) for alias in aliases),
            *(Case(f"SQL, {name}", url, insert_by_sql) for name, url in by_sql.items()),
            Case("Redis", redis.new_database(), set_fields),
        ]


def set_up_django(databases: dict[str, Any]) -> None:
    import django
    import pymysql  # type: ignore[import-untyped]
    from django.conf import settings
    from django.core.management import call_command

    pymysql.install_as_MySQLdb()  # Django knows the driver by that name
    settings.configure(DATABASES=databases, INSTALLED_APPS=["django_acme_middleware"], USE_TZ=True)
    django.setup()
    for alias in databases:
        call_command("migrate", "acme_middleware", database=alias, verbosity=0)


def fetch_times(source: ChallengeSource) -> list[float]:
    """Seconds of each fetch, sorted."""
    took, lookup = [], Lookup(source)
    for number in range(FETCHES):
        token = TOKENS[number % len(TOKENS)]
        start = time.perf_counter()
        answer = lookup.fetch(token)
        took.append(time.perf_counter() - start)
        if answer != f"{token}.thumbprint":
            raise RuntimeError(f"{source!r} answered {answer!r} for {token}")
    return sorted(took)


def scan_time(store: Store, rows: Rows) -> float:
    """Seconds of the best scan of all records."""
    expected = sorted(rows)
    took = []
    for _ in range(SCANS):
        start = time.perf_counter()
        found = [(name, record.value) for name, record in store.scan("renewal/")]
        took.append(time.perf_counter() - start)
        if found != expected:
            raise RuntimeError(
                f"{store!r} gave {len(found)} records, not the {len(expected)} that were written, in their order"
            )
    return min(took)


def main() -> int:
    value = json.dumps({"schema": 1, "names": ["example.com"], "filled": ""}).encode()
    value = value[:-2] + b"x" * (SIZE - len(value)) + value[-2:]
    rows = [(key("renewal", f"{number:05}.example.com"), value) for number in range(RECORDS)]
    late = []
    with cases() as stores:
        print(f"{'store':<20} {'fetch p50':>10} {'fetch p99':>10} {'scan of 10,000':>15}")
        for case in stores:
            store: Store = open_store(case.url)
            challenges: Any = open_challenges(case.url)
            for token in TOKENS:
                challenges.present(token, f"{token}.thumbprint", ttl=3600)
            case.fill(store, rows)
            fetches, scan = fetch_times(challenges), scan_time(store, rows)
            median, slow = statistics.median(fetches), fetches[int(len(fetches) * 0.99)]
            print(f"{case.name:<20} {median * 1000:>7.4f} ms {slow * 1000:>7.4f} ms {scan:>13.3f} s", flush=True)
            if scan > LIMIT:
                late.append(f"{case.name}: a scan takes {scan:.2f} s, and may take {LIMIT:g} s")
    print(*late, sep="\n", end="\n" if late else "", file=sys.stderr)
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
