"""``manage.py acme VERB``: the whole command line of acme-middleware, with the options of this site's settings."""

from __future__ import annotations

from django_acme_middleware.management.cli import CliCommand


class Command(CliCommand):
    """The group of all verbs."""

    help = "Issue, renew and look at certificates: `manage.py acme --help`."
