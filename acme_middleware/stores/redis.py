"""
Stores in Redis or Valkey: ``redis://``, ``rediss://`` (TLS) and ``redis+socket://``; ``valkey`` for ``redis`` means the same.

All keys begin with the prefix in braces, so that a cluster has them in one slot, and a script may use several of them:

==============================  ======================================================================================
``{acme}:records:certificate``  one hash per kind: a record's key, and its version (32 characters) followed by its value
``{acme}:kinds``                a set of the kinds there are
``{acme}:token:<token>``        the key authorization, with a time to live
``{acme}:fetches:<token>``      who fetched it, a line of JSON each, with the token's time to live
==============================  ======================================================================================

Whatever a script compares, it makes one change at most. Two would be logged as a transaction, and servers of before 2026
silently leave transactions out when they read their log after a restart, where the user ``default`` may run no commands (as
after ``user default off`` in a list of users): https://github.com/redis/redis/issues/14541.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from acme_middleware.errors import Conflict, StoreMisconfigured
from acme_middleware.stores.base import FETCHES_KEPT, Expect, Fetch, Record, key, new_version, try_out
from acme_middleware.stores.redis_connection import Script, Server

__all__ = ["RedisChallengeStore", "RedisStore"]

PAGE = 2000
"""Records that one answer to a scan brings: while the server puts it together, everybody else waits."""

VERSION = 32
"""The length of what :func:`acme_middleware.stores.base.new_version` returns, as the scripts have it."""

CONFLICT, NEW_KIND = -1, -2

# What is there is "=version", or "" for nothing; "any" is not compared.
_COMPARE = """
local held = redis.call('HGET', KEYS[1], ARGV[2])
local found = held and ('=' .. string.sub(held, 1, 32)) or ''
if ARGV[1] ~= 'any' and ARGV[1] ~= found then return -1 end
"""

_PUT = Script(
    _COMPARE
    + """
if redis.call('SISMEMBER', KEYS[2], ARGV[3]) == 0 then return -2 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
return 1
"""
)

_DELETE = Script(_COMPARE + "return redis.call('HDEL', KEYS[1], ARGV[2])")

# The token's key is no KEYS: what those name must be writable for whoever runs a script, and a web worker only reads tokens.
_LOG_FETCH = Script(
    """
local left = redis.call('PTTL', ARGV[1])
local lines = redis.call('GET', KEYS[1]) or ''
local _, count = string.gsub(lines, '\\n', '')
if left <= 0 or count >= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], lines .. ARGV[3] .. '\\n', 'PX', left)
return 1
"""
)


class RedisStore:
    """
    State in Redis (:class:`acme_middleware.stores.base.Store`). The server must keep its data: :meth:`durability_warnings`.

    Args:
        url: See :class:`acme_middleware.stores.redis_connection.Server`.

    Raises:
        StoreMisconfigured: the URL is wrong, or the library redis is missing. A server that is down is not an error here.
    """

    def __init__(self, url: str) -> None:
        self._server = Server(url)
        self._records, self._kinds = f"{self._server.prefix}records:", f"{self._server.prefix}kinds"

    def __repr__(self) -> str:
        return f"<RedisStore: {self._server!r}>"

    def close_connections(self) -> None:
        """Give back the connections that are kept (:class:`acme_middleware.stores.base.Connected`)."""
        self._server.close_connections()

    def get(self, key: str) -> Record | None:
        held = self._server.ask("HGET", self._records + _kind(key), key)
        return None if held is None else _record(held)

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        kind, version = _kind(key), new_version()
        keys = self._records + kind, self._kinds
        while True:
            done = self._server.run(_PUT, 2, *keys, _expected(expect), key, kind, version.encode() + value)
            if done == CONFLICT:
                raise _conflict(key)
            if done != NEW_KIND:
                return version
            self._server.ask("SADD", self._kinds, kind)

    def delete(self, key: str, *, expect: str | Expect = Expect.ANY) -> bool:
        deleted = self._server.run(_DELETE, 1, self._records + _kind(key), _expected(expect), key)
        if deleted == CONFLICT:
            raise _conflict(key)
        return bool(deleted)

    def scan(self, prefix: str) -> Iterator[tuple[str, Record]]:
        kinds = [_kind(prefix)] if "/" in prefix else self._kinds_from(prefix)
        found: list[tuple[str, Record]] = []
        for kind in kinds:
            names = [name for name in self._server.ask("HKEYS", self._records + kind) if name.startswith(prefix.encode())]
            for first in range(0, len(names), PAGE):
                page = names[first : first + PAGE]
                values = self._server.ask("HMGET", self._records + kind, *page)
                found += [(name.decode(), _record(held)) for name, held in zip(page, values, strict=True) if held is not None]
        return iter(sorted(found, key=lambda pair: pair[0]))

    def _kinds_from(self, prefix: str) -> list[str]:
        return [
            kind for kind in (name.decode() for name in self._server.ask("SMEMBERS", self._kinds)) if kind.startswith(prefix)
        ]

    def check(self, *, writable: bool) -> None:
        self.get(key("lock", "check"))
        if writable:
            try_out(self)

    def durability_warnings(self) -> list[str]:
        """
        What may lose records, though the server works: a line each, with what to do about it. An optional power of a store.

        Raises:
            StoreUnavailable, StoreMisconfigured: it could not be asked.
        """
        try:
            info = self._server.ask("INFO")
        except StoreMisconfigured as error:
            return [f"whether the server keeps its data is not known, as it may not be asked ({error}): allow the user INFO"]
        warnings = []
        if info.get("role") != "master":
            warnings.append("the server is a replica: it lags behind and cannot be written to; name the primary in the URL")
        policy, limit = info.get("maxmemory_policy", "noeviction"), int(info.get("maxmemory", 0))
        if limit and policy != "noeviction":
            warnings.append(
                f"maxmemory-policy is {policy}: when {limit} bytes are full the server drops keys, and with them private keys, "
                "accounts and tokens; set maxmemory-policy noeviction, or use a server of its own"
            )
        return warnings + self._on_disk(info)

    def _on_disk(self, info: dict[str, object]) -> list[str]:
        asked = self._settings("appendfsync", "save")
        if not int(str(info.get("aof_enabled", 0))):
            if asked.get("save") == "":
                return ["nothing is written to the disk (no appendonly, no save): a restart loses all; set appendonly yes"]
            return [
                "appendonly is no: a crash loses all since the last snapshot, or all where there is none; set appendonly yes"
            ]
        if "appendfsync" not in asked:
            return [
                "appendfsync cannot be read (CONFIG GET): unless it is always, a crash of the machine loses the last seconds"
            ]
        warnings = []
        if asked["appendfsync"] != "always":
            warnings.append(
                f"appendfsync is {asked['appendfsync']}: a crash of the machine loses what was written in the last seconds, "
                "a new certificate among it; set appendfsync always"
            )
        if info.get("aof_last_write_status", "ok") != "ok":
            warnings.append("the last write to the append-only file failed: see the server's log and the free space")
        return warnings

    def _settings(self, *names: str) -> dict[str, str]:
        """Those of the server's settings that may be read: services on the net hide CONFIG."""
        found: dict[str, str] = {}
        for name in names:
            try:
                found |= self._server.ask("CONFIG GET", name)
            except StoreMisconfigured:
                continue
        return found


def _kind(key: str) -> str:
    return key.partition("/")[0]


def _record(held: bytes) -> Record:
    return Record(held[VERSION:], held[:VERSION].decode())


def _expected(expect: str | Expect) -> str:
    return {Expect.ANY: "any", Expect.ABSENT: ""}[expect] if isinstance(expect, Expect) else f"={expect}"


def _conflict(key: str) -> Conflict:
    return Conflict(f"{key} was changed by another process", hint="run the command again", key=key)


class RedisChallengeStore:
    """
    Tokens in Redis (:class:`acme_middleware.stores.base.ChallengeStore`), with a log of who fetched them.

    They expire by the server's clock, and the server removes them.

    Args:
        url: See :class:`acme_middleware.stores.redis_connection.Server`.

    Raises:
        StoreMisconfigured: the URL is wrong, or the library redis is missing. A server that is down is not an error here.
    """

    blocking = True

    def __init__(self, url: str) -> None:
        self._server = Server(url)
        self._tokens, self._fetches = f"{self._server.prefix}token:", f"{self._server.prefix}fetches:"

    def __repr__(self) -> str:
        return f"<RedisChallengeStore: {self._server!r}>"

    def close_connections(self) -> None:
        """Give back the connections that are kept (:class:`acme_middleware.stores.base.Connected`)."""
        self._server.close_connections()

    def key_authorization(self, token: str) -> str | None:
        found = self._server.ask("GET", self._tokens + token)
        return None if found is None else found.decode("utf-8", "replace")

    def present(self, token: str, key_authorization: str, *, ttl: float) -> None:
        self._server.ask("SET", self._tokens + token, key_authorization, "PX", max(1, round(ttl * 1000)))

    def remove(self, token: str) -> None:
        self._server.ask("DEL", self._tokens + token, self._fetches + token)

    def log_fetch(self, token: str, fetch: Fetch) -> None:
        line = json.dumps([fetch.at, fetch.address, fetch.agent])
        self._server.run(_LOG_FETCH, 1, self._fetches + token, self._tokens + token, FETCHES_KEPT, line)

    def fetches(self, token: str) -> list[Fetch]:
        lines = self._server.ask("GET", self._fetches + token) or b""
        return [Fetch(*json.loads(line)) for line in lines.splitlines()]

    def tokens(self) -> set[str]:
        """Every token that is kept. For tests: it walks through all keys of the server."""
        found, cursor = set[str](), b"0"
        while True:
            cursor, keys = self._server.ask("SCAN", cursor, "MATCH", f"{self._tokens}*", "COUNT", 1000)
            found |= {key.decode().removeprefix(self._tokens) for key in keys}
            if not int(cursor):
                return found
