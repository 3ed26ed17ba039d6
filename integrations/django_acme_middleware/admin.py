"""The admin's page of certificates: the public records, to look at. Nothing can be added, changed or deleted there."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.contrib import admin
from django.http import HttpRequest

from acme_middleware import clock
from acme_middleware.errors import StoreMisconfigured
from acme_middleware.issuance.records import RenewalRecord
from acme_middleware.issuance.renewal import state as state_of
from django_acme_middleware.models import Certificate

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Certificate]
else:
    ModelAdmin = admin.ModelAdmin  # takes no type parameters when it runs


def _record(certificate: Certificate) -> RenewalRecord | None:
    """The public record, None where it cannot be understood: one such must not take the page of all others down."""
    try:
        return RenewalRecord.decode(certificate.key, bytes(certificate.value), certificate.version)
    except StoreMisconfigured:
        return None


@admin.register(Certificate)
class CertificateAdmin(ModelAdmin):
    """Names, state, dates and CA of each certificate that the site's database holds."""

    list_display = ("name", "state", "valid_until", "renews_about", "ca")
    fields = ("name", "names", "state", "valid_from", "valid_until", "renews_about", "ca", "profile", "serial", "fingerprint")
    readonly_fields = fields
    search_fields = ("key",)
    ordering = ("key",)

    @admin.display(description="name", ordering="key")
    def name(self, certificate: Certificate) -> str:
        record = _record(certificate)
        return record.name if record else certificate.key

    @admin.display(description="names")
    def names(self, certificate: Certificate) -> str:
        record = _record(certificate)
        return ", ".join(record.names) if record else "-"

    @admin.display(description="state")
    def state(self, certificate: Certificate) -> str:
        record = _record(certificate)
        if record is None:
            return "unreadable: see `manage.py acme status`"
        return state_of(record, clock.now())

    @admin.display(description="valid from")
    def valid_from(self, certificate: Certificate) -> datetime | None:
        return record.not_before if (record := _record(certificate)) else None

    @admin.display(description="valid until")
    def valid_until(self, certificate: Certificate) -> datetime | None:
        return record.not_after if (record := _record(certificate)) else None

    @admin.display(description="renews about")
    def renews_about(self, certificate: Certificate) -> datetime | None:
        return record.renew_after if (record := _record(certificate)) else None

    @admin.display(description="CA")
    def ca(self, certificate: Certificate) -> str | None:
        return record.ca if (record := _record(certificate)) else None

    @admin.display(description="profile")
    def profile(self, certificate: Certificate) -> str | None:
        return record.profile if (record := _record(certificate)) else None

    @admin.display(description="serial number")
    def serial(self, certificate: Certificate) -> str | None:
        return record.serial if (record := _record(certificate)) else None

    @admin.display(description="SHA-256 fingerprint")
    def fingerprint(self, certificate: Certificate) -> str | None:
        return record.fingerprint if (record := _record(certificate)) else None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Certificate | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Certificate | None = None) -> bool:
        return False
