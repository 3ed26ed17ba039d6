"""
Stores in a database of the site: ``django:`` (where the router sends writes) and ``django:alias``.

Every write is one statement, outside any transaction: SQLite cannot be asked to turn a reader into a writer without a
deadlock, and a token must be there for every worker when ``present`` returns. Reads ask the database that is written to:
a replica may lag behind. Times are the database's, as the clocks of hosts differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.core.exceptions import AppRegistryNotReady, ImproperlyConfigured
from django.db import Error, IntegrityError, connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now

from acme_middleware.errors import Conflict, StoreMisconfigured
from acme_middleware.stores import base
from acme_middleware.stores.base import FETCHES_KEPT, Expect, new_version, try_out
from django_acme_middleware.database_errors import in_transaction, translated
from django_acme_middleware.local_reads import LocalReads

try:
    from django_acme_middleware.models import MAX_ADDRESS, MAX_AGENT, Fetch, Record, Token
except (AppRegistryNotReady, ImproperlyConfigured, RuntimeError) as error:  # Django's three ways to say: not (yet) here
    raise StoreMisconfigured(
        f"the store django: cannot be used here: {error}",
        hint='it needs "django_acme_middleware" in INSTALLED_APPS, and django.setup() called before it is opened: '
        "in wsgi.py and asgi.py, below get_wsgi_application() or get_asgi_application()",
    ) from error


class _Database:
    """One of the site's databases, and the care that using it outside a request needs."""

    def __init__(self, alias: str = "") -> None:
        if alias and alias not in connections:
            raise StoreMisconfigured(
                f"django:{alias} names no database of this site", hint=f"DATABASES has: {', '.join(connections)}"
            )
        self.alias = alias

    @property
    def database(self) -> str:
        """The alias of the database that is read and written."""
        return self.alias or router.db_for_write(Record)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.alias!r})"

    @contextmanager
    def _use(self, *, writing: str = "") -> Iterator[str]:
        """
        Yield the alias to use; ``writing`` says what is about to be written, for the refusal inside a transaction.

        A connection that is opened here is closed here: a thread outside a request has nobody else to do it, and an idle
        one per thread and worker would eat up the server's limit.
        """
        alias = self.database
        connection = connections[alias]
        was_open = connection.connection is not None
        try:
            if writing and (not connection.get_autocommit() or connection.in_atomic_block):
                raise in_transaction(writing, connection)
            yield alias
        except Error as error:
            if was_open and not connection.in_atomic_block:
                connection.close_if_unusable_or_obsolete()
            raise translated(error, connection) from error
        finally:
            if not was_open:
                connection.close()


def _upsert(alias: str, instance: models.Model, key: str, *fields: str) -> None:
    """Insert the instance, or update these fields where its key is there already: one statement."""
    targeted = connections[alias].features.supports_update_conflicts_with_target
    type(instance)._base_manager.using(alias).bulk_create(
        [instance], update_conflicts=True, update_fields=fields, unique_fields=[key] if targeted else None
    )


def _delete(rows: models.QuerySet[Any], alias: str) -> int:
    """
    Delete rows by one statement, and say how many they were.

    ``QuerySet.delete()`` reads the rows first and then deletes by primary key wherever a receiver listens for any model's
    ``pre_delete`` or ``post_delete`` (audit apps do): that would lose the condition on the version.
    """
    return rows._raw_delete(alias)


class DjangoStore(_Database):
    """
    State in the site's database (:class:`acme_middleware.stores.base.Store`).

    Args:
        alias: A key of DATABASES; empty: the one that the site's routers send this app's writes to.

    Raises:
        StoreMisconfigured: no such alias. While in use also: its tables are missing, or a write was tried inside a transaction.
    """

    def get(self, key: str) -> base.Record | None:
        with self._use() as alias:
            row = Record.objects.using(alias).filter(key=key).values_list("value", "version").first()
        return base.Record(bytes(row[0]), row[1]) if row else None

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        version = new_version()
        row = Record(key=key, value=value, version=version)
        with self._use(writing="state") as alias:
            if expect is Expect.ANY:
                _upsert(alias, row, "key", "value", "version")
            elif expect is Expect.ABSENT:
                try:
                    Record.objects.using(alias).bulk_create([row])
                except IntegrityError:
                    raise _conflict(key) from None
            elif not Record.objects.using(alias).filter(key=key, version=expect).update(value=value, version=version):
                raise _conflict(key)
        return version

    def delete(self, key: str, *, expect: str | Expect = Expect.ANY) -> bool:
        with self._use(writing="state") as alias:
            rows = Record.objects.using(alias).filter(key=key)
            if expect is Expect.ANY:
                return _delete(rows, alias) > 0
            if expect is Expect.ABSENT:
                if rows.exists():
                    raise _conflict(key)
                return False
            if not _delete(rows.filter(version=expect), alias):
                raise _conflict(key)
            return True

    def scan(self, prefix: str) -> Iterator[tuple[str, base.Record]]:
        with self._use() as alias:
            rows = Record.objects.using(alias).order_by("key")
            if prefix:  # a range, as LIKE ignores case in SQLite
                rows = rows.filter(key__gte=prefix, key__lt=prefix[:-1] + chr(ord(prefix[-1]) + 1))
            found = list(rows.values_list("key", "value", "version"))
        return ((key, base.Record(bytes(value), version)) for key, value, version in found)

    def check(self, *, writable: bool) -> None:
        self.get(base.key("lock", "check"))
        if writable:
            try_out(self)


def _conflict(key: str) -> Conflict:
    return Conflict(f"{key} was changed by another process", hint="run the command again", key=key)


class _Clock(Now):
    """The database's clock. MySQL's CURRENT_TIMESTAMP is in the session's time zone, where an hour can come twice."""

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)


PLACE = "?"
"""Where the token goes in a statement that is kept; no token looks so."""


_PYTHON_PLACEHOLDER = re.compile("(?<!%)%s")


def _filled(parameters: Sequence[Any], token: str) -> list[Any]:
    return [token if value == PLACE else value for value in parameters]


def _is_local_file(connection: Any) -> bool:
    return connection.vendor == "sqlite" and not connection.is_in_memory_db()


def _valid(alias: str, token: str) -> models.QuerySet[Token]:
    return Token.objects.using(alias).filter(token=token, expires__gt=_Clock())


class DjangoChallengeStore(_Database):
    """
    Tokens in the site's database (:class:`acme_middleware.stores.base.ChallengeStore`), with a log of who fetched them.

    Args:
        alias: A key of DATABASES; empty: the one that the site's routers send this app's writes to.

    Raises:
        StoreMisconfigured: as :class:`DjangoStore`.
    """

    blocking = True

    def __init__(self, alias: str = "") -> None:
        super().__init__(alias)
        self._reads = LocalReads()
        self._statements: dict[tuple[str, str], tuple[str, tuple[Any, ...]]] = {}

    @property
    def brief(self) -> bool:
        """Whether tokens are read from a file of this machine (:class:`acme_middleware.stores.base.Brief`)."""
        return _is_local_file(connections[self.database])

    def key_authorization(self, token: str) -> str | None:
        connection = connections[self.database]
        if connection.in_atomic_block or not _is_local_file(connection):
            with self._use() as alias:  # what a transaction has written is seen inside of it only
                return self._look_up(connections[alias], token)
        try:
            sql, parameters = self._statement(connection, placeholder="?")
            row = self._reads.first_row(connection, sql, _filled(parameters, token))
        except Error as error:
            raise translated(error, connection) from error
        return row[0] if row else None

    def _look_up(self, connection: BaseDatabaseWrapper, token: str) -> str | None:
        sql, parameters = self._statement(connection)
        with connection.cursor() as cursor:
            cursor.execute(sql, _filled(parameters, token))
            row = cursor.fetchone()
        return row[0] if row else None

    def _statement(self, connection: BaseDatabaseWrapper, *, placeholder: str = "%s") -> tuple[str, tuple[Any, ...]]:
        kept = self._statements.get((connection.alias, placeholder))
        if kept is None:  # compiling it takes longer than running it
            query = _valid(connection.alias, PLACE).values_list("key_authorization").query
            sql, parameters = query.get_compiler(connection=connection).as_sql()
            if placeholder != "%s":
                sql = _PYTHON_PLACEHOLDER.sub(placeholder, sql).replace("%%", "%")
            kept = self._statements[connection.alias, placeholder] = sql, parameters
        return kept

    def present(self, token: str, key_authorization: str, *, ttl: float) -> None:
        with self._use(writing="a token") as alias:
            _delete(Token.objects.using(alias).filter(expires__lte=_Clock()), alias)
            known = Token.objects.using(alias).filter(token=models.OuterRef("token"))
            _delete(Fetch.objects.using(alias).filter(~models.Exists(known)), alias)
            row = Token(token=token, key_authorization=key_authorization)
            row.expires = _Clock() + timedelta(seconds=ttl)
            _upsert(alias, row, "token", "key_authorization", "expires")

    def remove(self, token: str) -> None:
        with self._use(writing="a token's removal") as alias:
            _delete(Token.objects.using(alias).filter(token=token), alias)
            _delete(Fetch.objects.using(alias).filter(token=token), alias)

    def log_fetch(self, token: str, fetch: base.Fetch) -> None:
        address, agent = (text.replace("\0", "") for text in (fetch.address, fetch.agent))  # PostgreSQL takes no NUL
        row = Fetch(token=token, at=fetch.at, address=address[:MAX_ADDRESS], agent=agent[:MAX_AGENT])
        with self._use(writing="a fetch") as alias:
            ours = Fetch.objects.using(alias).filter(token=token)
            if ours.count() >= FETCHES_KEPT:
                return  # the first ones are kept, so that who fetches on and on costs no writes
            ours.bulk_create([row])
            # Looked at afterwards: whenever a removal comes in between, one of the two sees the other's work.
            if not _valid(alias, token).exists():
                _delete(ours, alias)

    def fetches(self, token: str) -> list[base.Fetch]:
        with self._use() as alias:
            rows = Fetch.objects.using(alias).filter(token=token).order_by("id")[:FETCHES_KEPT]
            return [base.Fetch(row.at, row.address, row.agent) for row in rows]
