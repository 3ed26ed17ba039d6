"""What the SQL stores say where their database fails or is not set up. No text here holds a password."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from acme_middleware.errors import AcmeMiddlewareError, StoreMisconfigured, StoreUnavailable

__all__ = ["Fault", "Place", "explained"]


class Fault(Enum):
    """What is wrong with a database, so that somebody must act. The value says it, after the database's name."""

    LOGIN = "does not let us in"
    DATABASE = "is not there"
    RIGHTS = "does not allow it"
    TABLES = "has no usable tables of acme-middleware"
    READ_ONLY = "is read-only"
    OPTION = "cannot be connected to as its URL says"
    ENGINE = "cannot do what a store needs"
    FILE = "cannot be used"


@dataclass(frozen=True, slots=True)
class Place:
    """
    A database, as errors name it.

    Attributes:
        engine: SQLAlchemy's name of its kind: postgresql, mysql, mariadb or sqlite.
        name: What it is called, or the path of the file.
        host: Where it is, with the port; empty for a file.
        user: As whom it is used.
        password: What no text may hold.
    """

    engine: str
    name: str
    host: str = ""
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"database {self.name!r}" + (f" at {self.host}" if self.host else "")


def explained(place: Place, fault: Fault | None, error: object, *, tables: tuple[str, ...] = ()) -> AcmeMiddlewareError:
    """
    The error to raise.

    Args:
        place: The database.
        fault: What is wrong, or None where waiting may mend it.
        error: The driver's.
        tables: Those that were used.
    """
    said = _said(error, place)
    if fault is None:
        hint = "another process writes to it for long" if not place.host else "see that its server is up, then try again"
        return StoreUnavailable(f"{place} does not do its work: {said}", hint=hint)
    return StoreMisconfigured(f"{place} {fault.value}: {said}", hint=_hint(place, fault, tables))


def _said(error: object, place: Place) -> str:
    """The first line: those that follow quote the statement, or the values in it."""
    if isinstance(error, BaseException) and len(error.args) == 2 and isinstance(error.args[0], int):
        error = error.args[1]  # PyMySQL: a number, and the text
    lines = str(error).strip().splitlines()
    said = lines[0] if lines else type(error).__name__
    return said.replace(place.password, "***") if place.password else said


def _hint(place: Place, fault: Fault, tables: tuple[str, ...]) -> str:
    user = f'"{place.user}"' if place.engine == "postgresql" else f"'{place.user}'"
    whose = f"{place.name}." if place.engine in ("mysql", "mariadb") else ""
    rights = f"GRANT SELECT, INSERT, UPDATE, DELETE ON {{}} TO {user};"
    if fault is Fault.RIGHTS and not tables:
        may = {"postgresql": f"GRANT CREATE ON SCHEMA public TO {user};"}
        return f"its administrator allows it: {may.get(place.engine, f'GRANT ALL ON {whose}* TO {user};')}"
    return {
        Fault.LOGIN: "see the user and the password in the URL; a character such as @ : / % in one is percent-encoded there",
        Fault.DATABASE: f"create it (CREATE DATABASE {place.name}), then run `acme-middleware store init`; or correct the URL",
        Fault.RIGHTS: "its administrator allows it: " + " ".join(rights.format(whose + table) for table in tables),
        Fault.TABLES: "run `acme-middleware store init`, or in a Django site that uses it too `manage.py migrate`",
        Fault.READ_ONLY: "the URL must lead to the primary, not to a replica",
        Fault.OPTION: "see what follows the ? in the URL: the options are those of the driver, psycopg or PyMySQL",
        Fault.ENGINE: "PostgreSQL, MariaDB, MySQL 8 and SQLite can, in every version that is still looked after",
        Fault.FILE: "this user must be able to write to the file and its folder; "
        "`acme-middleware store init --store URL` makes the file",
    }[fault]
