"""
The tables behind ``django:``: records, tokens, and who fetched them.

They are for :mod:`django_acme_middleware.stores` alone, and no permission to use them can be given to anybody: a record
that ``save()`` writes has no new version, and a token presented inside a transaction is not there when the CA asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.core import checks
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
    CharField = models.CharField[str, str]
else:
    CharField = models.CharField  # Django's own fields take no type parameters when they run

MAX_KEY = 400  # a kind and two parts of acme_middleware.stores.base.MAX_PART characters are 313
MAX_TOKEN = 128
MAX_ADDRESS = 64
MAX_AGENT = 200


class BytewiseCharField(CharField):
    """
    ASCII text that is compared and sorted byte by byte on every engine: ``aBc`` is not ``AbC``, and ranges are prefixes.

    The default collation of MySQL ignores case, and those of PostgreSQL sort by language. SQLite compares bytes already.
    """

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        parameters: dict[str, Any] = super().db_parameters(connection)
        parameters["collation"] = {"mysql": "utf8mb4_bin", "postgresql": "C"}.get(connection.vendor)
        return parameters

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        # mysql.W003 warns of the 767-byte limit that InnoDB had before MySQL 5.7 and MariaDB 10.2; it is 3072 now.
        return [message for message in super().check(**kwargs) if message.id != "mysql.W003"]


class Record(models.Model):
    """One record of state: see :mod:`acme_middleware.stores.base` for the keys there are."""

    key = BytewiseCharField(max_length=MAX_KEY, primary_key=True)
    value = models.BinaryField()
    version = BytewiseCharField(max_length=64)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.key


class Token(models.Model):
    """A token that is answered for, until it expires by the database's clock."""

    token = BytewiseCharField(max_length=MAX_TOKEN, primary_key=True)
    key_authorization = models.TextField()
    expires = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.token


class Fetch(models.Model):
    """An answered fetch. No foreign key: Django would then read before it deletes a token, and it must not."""

    token = BytewiseCharField(max_length=MAX_TOKEN, db_index=True)
    at = models.FloatField()
    address = models.CharField(max_length=MAX_ADDRESS)
    agent = models.CharField(max_length=MAX_AGENT)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.token} by {self.address}"


PUBLIC = "renewal/"


class PublicRecords(models.Manager["Certificate"]):
    """The records that hold nothing secret."""

    def get_queryset(self) -> models.QuerySet[Certificate]:
        return super().get_queryset().filter(key__gte=PUBLIC, key__lt=PUBLIC[:-1] + chr(ord(PUBLIC[-1]) + 1))


class Certificate(Record):
    """What the admin shows: the public record of a certificate, ``renewal/<name>``."""

    objects: ClassVar[PublicRecords] = PublicRecords()

    class Meta:
        proxy = True
        # Nothing but looking at it is possible, so no other permission is offered.
        default_permissions = ("view",)
