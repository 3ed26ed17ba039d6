"""``manage.py issuecert NAME...``: get a certificate for names that this site answers for."""

from __future__ import annotations

from django_acme_middleware.management.cli import CliCommand


class Command(CliCommand):
    """The verb ``issue`` of the command line."""

    help = "Get a certificate for names that this site answers for."
    verb = "issue"
    prog_name = "manage.py issuecert"
