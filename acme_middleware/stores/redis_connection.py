"""
One Redis or Valkey server, as the stores use it: its URL, its time limits, and its errors as ours.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from acme_middleware.errors import AcmeMiddlewareError, StoreMisconfigured, StoreUnavailable

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "redis":
        raise
    raise StoreMisconfigured(
        "a store in Redis needs the library redis, which is not installed", hint="pip install 'acme-middleware[redis]'"
    ) from error

__all__ = ["Script", "Server"]

TIME_LIMIT = 1.0
"""Seconds to connect, and seconds for each answer: who waits is a CA that fetches a token, or the holder of a lease."""

IDLE_LIMIT = 15.0
"""
Seconds after which an unused connection is not used again. Firewalls forget connections without a word, and tokens are asked
for every other month: the first fetch would wait for an answer that never comes, and the CA would not wait for the second.
"""

PORT = 6379
PREFIX = "acme"

_EXAMPLE = "redis://USER:PASSWORD@HOST:6379/0"
_ENCODED = "in a password @ is %40, : is %3A, / is %2F, # is %23, ? is %3F"
# No braces: they mark what decides about the slot in a cluster. Nothing that has a meaning in the patterns of an ACL.
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_PLAIN = {"redis": "redis", "valkey": "redis", "rediss": "rediss", "valkeys": "rediss"}
_SOCKET = {"redis+socket", "valkey+socket"}
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class Script:
    """A script that the server runs as one step: nobody sees or changes anything in between."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class _Pool(redis.ConnectionPool):
    """
    Connections that are not used again after a pause.

    Each counts for itself: while one serves a bot's fetch every second, those of an earlier rush grow old below it.
    """

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        connection: Any = super().get_connection(*args, **kwargs)
        if time.monotonic() - getattr(connection, "released", float("inf")) > IDLE_LIMIT:
            try:
                connection.disconnect()
                connection.connect()
            except BaseException:
                self.release(connection)
                raise
        return connection

    def release(self, connection: Any) -> None:
        connection.released = time.monotonic()
        super().release(connection)


class Server:
    """
    A server, by URL. Nothing is connected to before something is asked. Threads and forks may share it.

    Args:
        url: ``redis://[user[:password]@]host[:port][/db]``, ``rediss://`` with TLS, ``redis+socket:///path``, or the same with
            ``valkey``. Its query may have ``prefix`` (which all keys begin with, in braces), ``db``, and for TLS
            ``ssl_ca_certs``, ``ssl_certfile`` and ``ssl_keyfile``.

    Attributes:
        prefix: What all keys begin with: ``{acme}:``. The braces put all into one slot of a cluster.

    Raises:
        StoreMisconfigured: something is wrong with the URL.
    """

    def __init__(self, url: str) -> None:
        parts, query = _split(url)
        self.prefix = "{" + query.pop("prefix", PREFIX) + "}:"
        if not _PREFIX.fullmatch(self.prefix[1:-2]):
            raise _wrong("its prefix is none", f"up to 64 letters, digits, and _ . : - do: {_EXAMPLE}?prefix={PREFIX}")
        self._settings: dict[str, Any] = {
            "db": _database(parts, query),
            "username": unquote(parts.username or "") or None,
            "password": unquote(parts.password or "") or None,
            "socket_timeout": TIME_LIMIT,
            # No retries: the caller knows how long it can wait, and a write that got no answer may have been done.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        if parts.scheme in _SOCKET:
            self._settings |= {"connection_class": redis.UnixDomainSocketConnection, "path": unquote(parts.path)}
            self._where = f"Redis at {unquote(parts.path)}"
        else:
            host, port = unquote(parts.hostname or ""), _port(parts)
            self._settings |= {
                "host": host,
                "port": port,
                "socket_connect_timeout": TIME_LIMIT,
                "socket_keepalive": True,
                "connection_class": redis.Connection,
            }
            self._where = f"Redis at {f'[{host}]' if ':' in host else host}:{port}"
        if _PLAIN.get(parts.scheme) == "rediss":
            tls = {name: query.pop(name) for name in _TLS if name in query}
            self._settings |= {"connection_class": redis.SSLConnection, "ssl_check_hostname": True, **tls}
        if query:
            raise _wrong(f"it has {', '.join(sorted(query))}", f"after the ? go prefix and db, and with TLS {', '.join(_TLS)}")
        self._pool: _Pool | None = None
        self._pid = 0

    def __repr__(self) -> str:
        return f"{self._where}, keys {self.prefix}*"

    def ask(self, *command: str | bytes | int) -> Any:
        """
        Send one command.

        Raises:
            StoreUnavailable, StoreMisconfigured: the server's error, or that there is no answer.
        """
        try:
            return self._client().execute_command(*command)
        except _FAILURES as error:
            raise self._translated(error) from _cause(error)

    def run(self, script: Script, *arguments: str | bytes | int) -> Any:
        """
        Run a script; the arguments are the number of keys, those, and the others.

        Raises:
            StoreUnavailable, StoreMisconfigured: the server's error, or that there is no answer.
        """
        client = self._client()
        try:
            try:
                return client.execute_command("EVALSHA", script.sha, *arguments)
            except redis.exceptions.NoScriptError:  # a server that was restarted, or never met us
                return client.execute_command("EVAL", script.text, *arguments)
        except _FAILURES as error:
            raise self._translated(error) from _cause(error)

    def close_connections(self) -> None:
        """Close what this process keeps and nobody uses now. The next use opens others."""
        if self._pool is not None and self._pid == os.getpid():
            self._pool.disconnect(inuse_connections=False)

    def _client(self) -> Any:
        pool = self._pool
        if pool is None or self._pid != os.getpid():
            # A child of a fork must not speak in between on a connection of its parent's. Of two threads that get here at
            # once both make one: the one that is lost serves its thread, and is gone after that.
            pool = self._pool = _Pool(**self._settings)
            self._pid = os.getpid()
        return redis.Redis(connection_pool=pool)

    def _translated(self, error: Exception) -> AcmeMiddlewareError:
        # The first line, and what follows "with args" never: servers quote a command that they do not know, values included.
        said = ((str(error).strip() or type(error).__name__).splitlines()[0]).partition(", with args")[0].rstrip(".")
        if isinstance(error, redis.TimeoutError):
            return StoreUnavailable(
                f"{self._where} did not answer within {TIME_LIMIT:g} s",
                hint="see that it is up, that the network reaches it, and that no long command keeps it busy; then try again"
                + ("; the URL begins with redis:// where it has no TLS" if "ssl_check_hostname" in self._settings else ""),
            )
        known = f"{type(error).__name__} {said}"
        for pattern, what, hint in _TO_BE_MENDED:
            if re.search(pattern, known, re.IGNORECASE):
                return StoreMisconfigured(f"{self._where} {what}: {said}", hint=hint)
        for pattern, hint in _TO_BE_WAITED_FOR:
            if re.search(pattern, known, re.IGNORECASE):
                return StoreUnavailable(f"{self._where} does not do its work: {said}", hint=hint)
        return StoreUnavailable(f"{self._where} does not do its work: {said}", hint="see that it is up, then try again")


_FAILURES = (redis.RedisError, UnicodeError)  # which is Python's for a host such as "redis..internal"


def _cause(error: Exception) -> Exception | None:
    """The error, unless the server said it: it quotes a command that it does not know, and AUTH comes with the password."""
    return None if isinstance(error, redis.ResponseError) else error


# The class's name and the server's words: libraries and servers of different ages put the same error into different classes,
# and what goes wrong inside a script comes as the script's error.
_TO_BE_MENDED = [
    (
        r"^Authentication|WRONGPASS|NOAUTH|invalid password",
        "refuses the user or the password",
        f"the URL is {_EXAMPLE}; without a user it is redis://:PASSWORD@HOST; {_ENCODED}",
    ),
    (
        r"NoPermission|NOPERM|has no permissions|can't (run|access)|No permissions to access",
        "does not give this user the rights that are needed",
        "see `ACL LOG` on the server; the page on Redis has the ACL lines for whoever issues and for web workers",
    ),
    (
        r"ReadOnly|READONLY|read only replica",
        "is a replica, which cannot be written to",
        "the URL must name the primary; reads go there too, as a replica lags behind",
    ),
    (
        r"^(Moved|Ask|ClusterCrossSlot)Error|\bMOVED\b",
        "is one of several nodes, and our keys are at another",
        "name the node that has them (CLUSTER KEYSLOT, CLUSTER SLOTS): all our keys are in one slot",
    ),
    (r"^Unicode\w*Error", "is no host that can be looked up", f"see the host in the URL: {_EXAMPLE}"),
    (r"unknown command|unknown subcommand", "lacks a command that a store needs", "Redis 6 or newer and Valkey have all"),
    (r"DB index is out of range|invalid DB index", "has no such database", f"the number after the host is wrong: {_EXAMPLE}"),
    (r"WRONGTYPE", "has something else under our keys", "give us keys of our own: ?prefix=another after the URL"),
    (r"DENIED", "takes no connections from other machines", "set a password, or `protected-mode no` and a firewall"),
    (
        r"CERTIFICATE_VERIFY_FAILED|Hostname mismatch",
        "has a certificate that is not trusted",
        "name its CA: rediss://...?ssl_ca_certs=/path/ca.pem; the host in the URL must be the certificate's",
    ),
    (
        r"^InvalidResponse|WRONG_VERSION_NUMBER|record layer failure",
        "does not speak as expected",
        "redis:// is for a port without TLS and rediss:// for one with it; see that the port is Redis's",
    ),
]

_TO_BE_WAITED_FOR = [
    (r"BusyLoading|LOADING", "it is reading its data after a start; try again soon"),
    (r"OutOfMemory|OOM", "its memory is full (maxmemory): make room, or allow it more"),
    (r"MISCONF", "it cannot write to its disk, and so takes no writes: see its log and the free space"),
    (r"BUSY", "a long script keeps it busy: SCRIPT KILL ends that"),
    (r"ClusterDown|MasterDown|TryAgain", "its cluster or its primary is down or being moved"),
    (r"NOREPLICAS", "it has fewer replicas than min-replicas-to-write asks for"),
    (r"max number of clients", "maxclients is reached: see who holds so many connections"),
]


def _split(url: str) -> tuple[SplitResult, dict[str, str]]:
    # Nothing here quotes the URL: it has the password.
    try:
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    except ValueError:
        raise _wrong("it cannot be read", f"write {_EXAMPLE}; {_ENCODED}") from None
    # With a / ? or # before it a password's own @ comes here, and with it a piece of the password, which would be told.
    behind = parts.query + parts.fragment
    if parts.scheme in _SOCKET and parts.netloc.rpartition("@")[2]:
        behind += parts.path
    if "@" in behind:
        raise _wrong("it has an @ behind the host", _ENCODED)
    if parts.scheme in _SOCKET:
        if not parts.path.startswith("/"):
            raise _wrong("it names no socket", "write redis+socket:///run/redis/redis.sock")
    elif parts.scheme not in _PLAIN:
        raise _wrong("it has another scheme", f"write {_EXAMPLE}")
    elif not parts.hostname:
        raise _wrong("it names no host", f"write {_EXAMPLE}")
    return parts, query


def _port(parts: SplitResult) -> int:
    try:
        return parts.port or PORT
    except ValueError:
        # Most often the rest of a password with a character that had to be encoded: it is not shown.
        raise _wrong("its port is no number", _ENCODED) from None


def _database(parts: SplitResult, query: dict[str, str]) -> int:
    path = "" if parts.scheme in _SOCKET else parts.path.strip("/")
    number = query.pop("db", "") or path or "0"
    if not re.fullmatch("[0-9]{1,5}", number) or "@" in path:
        raise _wrong("its database is no number", f"write {_EXAMPLE}, with its number at the end; {_ENCODED}")
    return int(number)


def _wrong(why: str, hint: str) -> StoreMisconfigured:
    return StoreMisconfigured(f"the URL of Redis is wrong: {why}", hint=hint)
