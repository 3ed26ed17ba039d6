"""
Open a store by its URL. Nothing is imported before the URL asks for it, and nothing is connected to.

Another package adds a scheme by an entry point in the group ``acme_middleware.stores`` (state) or
``acme_middleware.challenge_stores`` (tokens): its name is the scheme, its value a callable that takes the whole URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from pathlib import Path

    from acme_middleware.errors import StoreMisconfigured
    from acme_middleware.stores.base import ChallengeSource, Store

__all__ = ["open_challenges", "open_store"]


def open_store(where: str | Path | Store) -> Store:
    """
    Open a state store.

    Args:
        where: ``file:///var/lib/acme-middleware`` (or ``file:relative``, or a Path), ``memory:`` (one per process),
            ``django:`` (with an alias of DATABASES: ``django:other``), ``redis://user:password@host/0`` (``rediss://`` with
            TLS, ``valkey://``), ``postgresql+psycopg://user:password@host/name`` (``mysql+pymysql://``,
            ``mariadb+pymysql://``, ``sqlite:////path/of/file``); or a store, which is returned as it is.

    Raises:
        StoreMisconfigured: The scheme is unknown, what follows it is wrong, or its driver is missing.
    """
    if isinstance(where, str | os.PathLike):
        store: Store = _open(where, _STORES, "acme_middleware.stores")
        return store
    _check_object(where, "a store", ("get", "put", "delete", "scan", "check"))
    return where


def open_challenges(where: str | Path | ChallengeSource, *, option: str = "") -> ChallengeSource:
    """
    Open a challenge store.

    Args:
        where: What :func:`open_store` takes: ``file:DIR`` and a Path keep tokens below ``DIR/challenges``. Besides,
            ``webroot:///var/www/site`` (files that any ACME client may write below ``.well-known/acme-challenge/``), and
            ``thumbprint:THUMBPRINT`` (answers every token for one account, keeps nothing). Or an object with ``blocking``
            and ``key_authorization``, which is returned as it is.
        option: What the user calls it: errors begin with it.

    Raises:
        StoreMisconfigured: The scheme is unknown, what follows it is wrong, or its driver is missing.
    """
    try:
        if isinstance(where, str | os.PathLike):
            source: ChallengeSource = _open(where, _CHALLENGE_STORES, "acme_middleware.challenge_stores")
            return source
        _check_object(where, "a challenge store", ("blocking", "key_authorization"))
    except Exception as error:
        from acme_middleware.errors import StoreMisconfigured  # for an error only: every web worker passes here

        if option and isinstance(error, StoreMisconfigured):
            refused = StoreMisconfigured(f"{option}: {error}", hint=error.hint, **error.facts)
            refused.add_note(error.hint)  # a web server that does not start shows a traceback, and no attribute of an error
            raise refused from error.__cause__
        raise
    return where


def _memory_store(url: str) -> Any:
    from acme_middleware.stores.memory import shared_store

    _nothing_after(url)
    return shared_store()


def _memory_challenges(url: str) -> Any:
    from acme_middleware.stores.memory import shared_challenges

    _nothing_after(url)
    return shared_challenges()


def _file_store(url: str) -> Any:
    from pathlib import Path  # here, as all imports of this module: web workers pass it

    from acme_middleware.stores.directory import DirectoryStore

    return DirectoryStore(Path(_folder(url)))


def _file_challenges(url: str) -> Any:
    from acme_middleware.stores.challenges import WebrootChallengeStore

    return WebrootChallengeStore(os.path.join(_folder(url), "challenges"), make_root=True)


def _webroot_challenges(url: str) -> Any:
    from acme_middleware.stores.challenges import WebrootChallengeStore

    return WebrootChallengeStore(_folder(url))


def _thumbprint_challenges(url: str) -> Any:
    from acme_middleware.stores.challenges import ThumbprintChallengeSource

    return ThumbprintChallengeSource(_rest(url))


def _django_store(url: str) -> Any:
    return _django("DjangoStore", url)


def _django_challenges(url: str) -> Any:
    return _django("DjangoChallengeStore", url)


def _redis_store(url: str) -> Any:
    from acme_middleware.stores.redis import RedisStore

    return RedisStore(url)


def _redis_challenges(url: str) -> Any:
    from acme_middleware.stores.redis import RedisChallengeStore

    return RedisChallengeStore(url)


def _sql_store(url: str) -> Any:
    return _sql("SQLStore", url)


def _sql_challenges(url: str) -> Any:
    return _sql("SQLChallengeStore", url)


def _sql(name: str, url: str) -> Any:
    try:
        from acme_middleware.stores import sql

        return getattr(sql, name)(url)
    except ImportError as error:  # SQLAlchemy, the driver, or a library that one of them needs
        raise _misconfigured(
            f"the store {url.partition(':')[0]}: needs SQLAlchemy and a driver: {error}",
            hint="pip install 'acme-middleware[sql]'",
        ) from error


_SQL = (
    *("postgresql", "postgresql+psycopg", "postgres"),
    *("mysql", "mysql+pymysql", "mariadb", "mariadb+pymysql"),
    "sqlite",
)
_REDIS = ("redis", "rediss", "redis+socket", "valkey", "valkeys", "valkey+socket")
_STORES: dict[str, Callable[[str], Any]] = {
    "file": _file_store,
    "memory": _memory_store,
    "django": _django_store,
    **dict.fromkeys(_REDIS, _redis_store),
    **dict.fromkeys(_SQL, _sql_store),
}
_CHALLENGE_STORES: dict[str, Callable[[str], Any]] = {
    "file": _file_challenges,
    "webroot": _webroot_challenges,
    "thumbprint": _thumbprint_challenges,
    "memory": _memory_challenges,
    "django": _django_challenges,
    **dict.fromkeys(_REDIS, _redis_challenges),
    **dict.fromkeys(_SQL, _sql_challenges),
}


def _open(where: str | os.PathLike[str], known: dict[str, Callable[[str], Any]], group: str) -> Any:
    if isinstance(where, os.PathLike):
        where = _url(os.fspath(where))
    scheme = where.partition(":")[0].lower() if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", where) else ""
    opener = known.get(scheme)
    if opener is None:
        from importlib.metadata import entry_points  # 20 ms: only a scheme of somebody else's pays for it

        others = entry_points(group=group)
        if scheme not in others.names:
            raise _unknown(where, scheme, sorted({*known, *others.names}))
        try:
            opener = others[scheme].load()
        except ImportError as error:
            raise _misconfigured(
                f"the store {scheme}: cannot be loaded: {error}", hint=f"it comes from {others[scheme].value}"
            ) from error
    return opener(where)


def _unknown(where: str, scheme: str, known: list[str]) -> StoreMisconfigured:
    # Not the whole URL: it may hold a password, and in a wrong place.
    from acme_middleware._text import without_secrets

    schemes = ", ".join(f"{name}:" for name in known)
    if scheme in _CHALLENGE_STORES:
        return _misconfigured(
            f"{scheme}: keeps tokens only, not accounts and certificates",
            hint=f"the state stores are {schemes}; {scheme}: is for ACME_CHALLENGE_STORE",
        )
    shown = without_secrets(where)
    if not scheme and where.startswith(("/", ".", "~")):
        return _misconfigured(
            f"the store {shown!r} is a path, not a URL", hint=f"write file:{shown}, or pass a Path; known schemes: {schemes}"
        )
    what = f"{scheme}:" if scheme else repr(shown)
    return _misconfigured(f"there is no store for {what}", hint=f"the known schemes are {schemes}")


def _check_object(where: object, what: str, needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if not hasattr(where, name)]
    if missing or isinstance(where, type):
        shown = f"the class {where.__name__}" if isinstance(where, type) else f"an object of type {type(where).__name__}"
        raise _misconfigured(
            f"{shown} is not {what}" + (f": it has no {', '.join(missing)}" if missing else ""),
            hint="pass an instance, a URL such as file:///var/lib/acme-middleware, or a Path",
        )


def _rest(url: str) -> str:
    return url.partition(":")[2]


def _nothing_after(url: str) -> None:
    if _rest(url) not in ("", "//"):
        raise _misconfigured(f"nothing may follow memory:, but {_rest(url)!r} does", hint="there is one per process")


def _folder(url: str) -> str:
    """``file:///abs``, ``file:/abs`` and ``file:relative``, percent-decoded as URLs are."""
    scheme, _, rest = url.partition(":")
    if rest.startswith("//") and rest[2:3] not in ("", "/"):
        host, _, path = rest[2:].partition("/")
        raise _misconfigured(
            f"{url!r} names a host, {host!r}: only this machine's own folders can be opened",
            hint=f"with three slashes it is a path from the root: {scheme}:///{host}/{path}".rstrip("/"),
        )
    path = os.path.expanduser(unquote(rest.removeprefix("//")))
    if os.name == "nt":
        path = path.removeprefix("/") if re.match(r"/[A-Za-z]:", path) else path
    if not path or "\0" in path:
        raise _misconfigured(f"{url!r} names no folder", hint=f"write {scheme}:///var/lib/acme-middleware")
    return path


def _url(path: str) -> str:
    return "file:" + ("//" if path.startswith("/") else "") + path.replace("%", "%25")


def _django(name: str, url: str) -> Any:
    alias = _rest(url).removeprefix("//")
    try:
        from django_acme_middleware import stores
    except ModuleNotFoundError as error:
        ours = (error.name or "").partition(".")[0] in (
            "django",
            "asgiref",
            "django_acme_middleware",
        )  # else it is the site's own settings that fail
        raise _misconfigured(
            f"the store django: needs {error.name}, which cannot be imported",
            hint="pip install 'acme-middleware[django]'" if ours else "DJANGO_SETTINGS_MODULE must name the site's settings",
        ) from error
    return getattr(stores, name)(alias)


def _misconfigured(message: str, *, hint: str) -> StoreMisconfigured:
    from acme_middleware.errors import StoreMisconfigured  # imported for an error only: every web worker passes here

    return StoreMisconfigured(message, hint=hint)
