"""
What ``manage.py check`` says about this app.

Only a wrong option value is an Error: an Error stops every command, ``migrate`` too. What only issuing needs (the CA's
terms, its reachability, rights to write) is checked by the commands themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from acme_middleware.errors import ConfigurationError, StoreMisconfigured, StoreUnavailable
from acme_middleware.options import Options
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.stores.memory import MemoryChallengeStore, MemoryStore
from acme_middleware.stores.sealed import SealedStore
from django_acme_middleware import conf
from django_acme_middleware.middleware import AcmeMiddleware
from django_acme_middleware.stores import DjangoChallengeStore, DjangoStore

PATH = "django_acme_middleware.middleware.AcmeMiddleware"


def check_options(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E001: a setting that begins with ACME_ is no option, or has a value that its option does not take."""
    try:
        conf.options(secret_files=False)
    except ConfigurationError as error:
        text = str(error)
        return [Error(f"{text[:1].upper()}{text[1:]}.", hint=error.hint, id="acme_middleware.E001")]
    return []


def check_middleware(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W001: the middleware is missing. W002: something stands before it, and would answer the CA instead."""
    middleware = list(settings.MIDDLEWARE)
    place = next((index for index, path in enumerate(middleware) if _is_ours(path)), None)
    if place is None:
        return [
            Warning(
                "The middleware that answers the CA is not in MIDDLEWARE.",
                hint=f'Make "{PATH}" the first line of MIDDLEWARE. If the application is wrapped in wsgi.py or asgi.py '
                'instead, add "acme_middleware.W001" to SILENCED_SYSTEM_CHECKS.',
                id="acme_middleware.W001",
            )
        ]
    if place:
        return [
            Warning(
                f'"{middleware[0]}" stands before the middleware that answers the CA, and may answer it first: '
                "with a redirect, a refused host or a login page.",
                hint=f'Move "{middleware[place]}" from line {place + 1} of MIDDLEWARE to line 1, above "{middleware[0]}".',
                id="acme_middleware.W002",
            )
        ]
    return []


def check_stores(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E002: a store that cannot be opened by its URL. W003: a store in memory, which no other process sees."""
    options = _options()
    if options is None:
        return []
    found: dict[tuple[str, str], CheckMessage] = {}  # one per setting: both stores are usually opened by the same
    for name, value, open_it in _stores(options):
        try:
            store = open_it(value)
        except StoreMisconfigured as error:
            wrong = Error(f"{name}: {error}.", hint=error.hint, id="acme_middleware.E002")
            found.setdefault((name, "E002"), wrong)
            continue
        if isinstance(store, (MemoryStore, MemoryChallengeStore)):
            alone = Warning(
                f"{name} is in memory: what `manage.py issuecert` presents there, no web worker can answer.",
                hint=f'Set {name} to "django:" for the site\'s database, or to "file:" and a folder that all workers read.',
                id="acme_middleware.W003",
            )
            found.setdefault((name, "W003"), alone)
    return list(found.values())


def check_tables(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W004: a table is missing. W005: the database does not answer. For databases that Django asks to be checked."""
    if sys.argv[1:2] == ["migrate"]:
        return []  # it checks before it makes the tables: a first run would warn of what it is about to mend
    options = _options()
    found: dict[str, CheckMessage] = {}  # one per database: both stores are usually in the same
    for name, value, open_it in _stores(options) if options and databases else []:
        try:
            store = open_it(value)
        except StoreMisconfigured:
            continue  # check_stores reports it
        if not isinstance(store, (DjangoStore, DjangoChallengeStore)) or store.database not in (databases or ()):
            continue
        try:
            if isinstance(store, DjangoStore):
                store.check(writable=False)
            else:
                store.key_authorization("check")
                store.fetches("check")
        except (StoreMisconfigured, StoreUnavailable) as error:
            check_id = "acme_middleware.W004" if isinstance(error, StoreMisconfigured) else "acme_middleware.W005"
            found.setdefault(store.database, Warning(f"{name}: {error}.", hint=error.hint, id=check_id))
    return list(found.values())


def check_encryption(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W006, under ``check --deploy``: private keys are in a database, and whoever reads it or a backup of it can read them."""
    options = _options()
    # What is set is looked at, not read: a file of keys may be none that a web worker has a right to.
    if options is None or any(getattr(settings, name, None) for name in ("ACME_ENCRYPTION_KEYS", "ACME_ENCRYPTION_KEYS_FILE")):
        return []
    try:
        store = open_store(options.store)
    except StoreMisconfigured:
        return []  # check_stores reports it
    if isinstance(store, (MemoryStore, DirectoryStore, SealedStore)):
        return []
    return [
        Warning(
            "The private keys of certificates and of the CA's account are kept in a database, and are not encrypted there.",
            hint="`manage.py acme keys new` prints a key: set ACME_ENCRYPTION_KEYS to it, from where you keep secrets, and run "
            "`manage.py acme keys rotate`.",
            id="acme_middleware.W006",
        )
    ]


def _options() -> Options | None:
    """The options, None where check_options reports why there are none."""
    try:
        return conf.options(secret_files=False)
    except ConfigurationError:
        return None


def _stores(options: Options) -> list[tuple[str, Any, Any]]:
    """Each store that the settings choose: the setting to blame, its value, and what opens it."""
    return [("ACME_STORE", options.store, open_store), (*conf.challenge_store(options), open_challenges)]


def _is_ours(path: str) -> bool:
    if path == PATH:
        return True
    try:
        found = import_string(path)
    except ImportError:
        return False  # Django itself reports it
    return isinstance(found, type) and issubclass(found, AcmeMiddleware)
