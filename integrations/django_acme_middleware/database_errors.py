"""What a store says where its database fails, is not set up, or is in the middle of a transaction."""

from __future__ import annotations

from django.db import Error, NotSupportedError, ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper

from acme_middleware.errors import AcmeMiddlewareError, StoreMisconfigured, StoreUnavailable

__all__ = ["in_transaction", "translated"]


def in_transaction(what: str, connection: BaseDatabaseWrapper) -> StoreMisconfigured:
    """The error for who would write inside a transaction; ``what`` is written, such as "a token"."""
    return StoreMisconfigured(
        f"{what} cannot be written inside a transaction of database {connection.alias!r}: "
        "no other process would see it before the transaction ends",
        hint="call this outside transaction.atomic(); where ATOMIC_REQUESTS is on, mark the view with "
        "@transaction.non_atomic_requests; in tests use TransactionTestCase, or pytest.mark.django_db(transaction=True)",
    )


# The names SQLite has for errors that waiting does not mend.
_SQLITE_PERMANENT = {"SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_AUTH", "SQLITE_PERM"}


def translated(error: Error, connection: BaseDatabaseWrapper) -> AcmeMiddlewareError:
    """A database's error as ours: of its set-up, or one that waiting may mend."""
    # The first line: those that follow quote the statement, or the values in it.
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    where = f"database {connection.alias!r}"
    if isinstance(error, ProgrammingError) or said.startswith(("no such table", "no such column")):
        option = "" if connection.alias == "default" else f" --database {connection.alias}"
        return StoreMisconfigured(
            f"{where} has no usable tables of acme-middleware: {said}",
            hint=f"run `manage.py migrate{option}`; its user needs the rights to read and write the tables acme_middleware_*",
        )
    if isinstance(error, NotSupportedError):
        return StoreMisconfigured(
            f"{where} cannot do what a store needs: {said}", hint="PostgreSQL, MariaDB, MySQL and SQLite can"
        )
    if str(getattr(error.__cause__, "sqlite_errorname", "")).startswith(tuple(_SQLITE_PERMANENT)):
        return StoreMisconfigured(
            f"{where} cannot be used: {said}", hint="this user needs write access to the file and to its folder"
        )
    return StoreUnavailable(f"{where} does not do its work: {said}", hint="see that its server is up, then try again")
