"""The app: its label, and what it sets up when Django starts. It does no I/O and starts no thread."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class AcmeMiddlewareConfig(AppConfig):
    """``INSTALLED_APPS += ["django_acme_middleware"]``; its tables and check ids begin with ``acme_middleware``."""

    name = "django_acme_middleware"
    label = "acme_middleware"
    verbose_name = "ACME certificates"
    # Fixed, so that a site's DEFAULT_AUTO_FIELD does not ask for a migration of ours.
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_acme_middleware import checks as ours

        checks.register(ours.check_options)
        checks.register(ours.check_middleware)
        checks.register(ours.check_stores)
        checks.register(ours.check_tables, checks.Tags.database)
        checks.register(ours.check_encryption, checks.Tags.security, deploy=True)
