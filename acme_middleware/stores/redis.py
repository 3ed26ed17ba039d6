"""
Stores in Redis or Valkey: ``redis://``, ``rediss://`` (TLS) and ``redis+socket://``; ``valkey`` for ``redis`` means the same.

All keys begin with the prefix in braces, so that a cluster has them in one slot, and a script may use several of them:

====================================  =====================================================================
``{acme}:record:certificate/<name>``  a hash of ``value`` and ``version``
``{acme}:index``                      a sorted set of all records' keys, in the order of their bytes
``{acme}:token:<token>``              the key authorization, with a time to live
``{acme}:fetches:<token>``            who fetched it, with the token's time to live
====================================  =====================================================================

A write of a record and of the index is one script, which the server runs, keeps and replicates as one step.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from acme_middleware.errors import Conflict, StoreMisconfigured
from acme_middleware.stores.base import FETCHES_KEPT, Expect, Fetch, Record, key, new_version, try_out
from acme_middleware.stores.redis_connection import Script, Server

__all__ = ["RedisChallengeStore", "RedisStore"]

PAGE_RECORDS, PAGE_BYTES = 20_000, 8_000_000
"""What one round trip of a scan brings: while the server collects it, everybody else waits."""

# What is there is "=version", or "" for nothing; "any" is not compared.
_COMPARE = """
local version = redis.call('HGET', KEYS[1], 'version')
local found = version and ('=' .. version) or ''
if ARGV[1] ~= 'any' and ARGV[1] ~= found then return -1 end
"""

_PUT = Script(
    _COMPARE
    + """
redis.call('HSET', KEYS[1], 'version', ARGV[3], 'value', ARGV[4])
redis.call('ZADD', KEYS[2], 0, ARGV[2])
return 1
"""
)

_DELETE = Script(
    _COMPARE
    + """
redis.call('ZREM', KEYS[2], ARGV[2])
return redis.call('DEL', KEYS[1])
"""
)

# A record that the server evicted is still in the index: passed over, as it is absent.
_SCAN = Script(
    """
local names = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[4])
local found, bytes = {}, 0
for number, name in ipairs(names) do
  local record = redis.call('HMGET', ARGV[3] .. name, 'version', 'value')
  if record[1] and record[2] then
    found[#found + 1], found[#found + 2], found[#found + 3] = name, record[1], record[2]
    bytes = bytes + #record[2]
  end
  if bytes >= tonumber(ARGV[5]) or number == tonumber(ARGV[4]) then return {name, found} end
end
return {'', found}
"""
)

_PRESENT = Script(
    """
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
"""
)

# The token's key is no KEYS: what those name must be writable for whoever runs a script, and a web worker only reads tokens.
_LOG_FETCH = Script(
    """
local left = redis.call('PTTL', ARGV[1])
if left <= 0 or redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[1], left)
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
        self._records = f"{self._server.prefix}record:"
        self._index = f"{self._server.prefix}index"

    def __repr__(self) -> str:
        return f"<RedisStore: {self._server!r}>"

    def get(self, key: str) -> Record | None:
        version, value = self._server.ask("HMGET", self._records + key, "version", "value")
        return None if version is None or value is None else Record(value, version.decode())

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        version = new_version()
        if self._server.run(_PUT, 2, self._records + key, self._index, _expected(expect), key, version, bytes(value)) < 0:
            raise _conflict(key)
        return version

    def delete(self, key: str, *, expect: str | Expect = Expect.ANY) -> bool:
        deleted = self._server.run(_DELETE, 2, self._records + key, self._index, _expected(expect), key)
        if deleted < 0:
            raise _conflict(key)
        return bool(deleted)

    def scan(self, prefix: str) -> Iterator[tuple[str, Record]]:
        pages = []
        # Keys are ASCII, so what begins with the prefix is below the prefix and \xff.
        start, end = (f"[{prefix}", prefix.encode() + b"\xff") if prefix else ("-", b"")
        last = b"(" + end if prefix else "+"
        while True:
            after, page = self._server.run(_SCAN, 1, self._index, start, last, self._records, PAGE_RECORDS, PAGE_BYTES)
            pages.append(page)
            if not after:
                break
            start = f"({after.decode()}"
        return (
            (name.decode(), Record(value, version.decode()))
            for page in pages
            for name, version, value in zip(page[::3], page[1::3], page[2::3], strict=True)
        )

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

    def key_authorization(self, token: str) -> str | None:
        found = self._server.ask("GET", self._tokens + token)
        return None if found is None else found.decode("utf-8", "replace")

    def present(self, token: str, key_authorization: str, *, ttl: float) -> None:
        keys = self._tokens + token, self._fetches + token
        self._server.run(_PRESENT, 2, *keys, key_authorization, max(1, round(ttl * 1000)))

    def remove(self, token: str) -> None:
        self._server.ask("DEL", self._tokens + token, self._fetches + token)

    def log_fetch(self, token: str, fetch: Fetch) -> None:
        line = json.dumps([fetch.at, fetch.address, fetch.agent])
        self._server.run(_LOG_FETCH, 1, self._fetches + token, self._tokens + token, FETCHES_KEPT, line)

    def fetches(self, token: str) -> list[Fetch]:
        return [Fetch(*json.loads(line)) for line in self._server.ask("LRANGE", self._fetches + token, 0, -1)]
