"""The stores in Redis: the contracts, and what only a server on a network can do."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import Redis

from acme_middleware.errors import Conflict, StoreMisconfigured, StoreUnavailable
from acme_middleware.responder import Responder
from acme_middleware.stores import open_challenges, open_store, redis_connection
from acme_middleware.stores import redis as redis_stores
from acme_middleware.stores.base import Expect, Fetch, key, new_version
from acme_middleware.stores.redis import RedisChallengeStore, RedisStore
from acme_middleware.testing import ChallengeStoreContract, FetchLogContract, LeaseContract, StoreContract
from acme_middleware.testing.threads import together

PAGE = Path(__file__).resolve().parents[2] / "docs" / "redis.md"
KEY = key("certificate", "example.com")
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"


@pytest.fixture
def url(redis: Redis) -> str:
    """An empty place on the server of all these tests."""
    return redis.new_database()


@pytest.fixture
def own() -> Iterator[Redis]:
    """A server that a test may do anything to."""
    with Redis() as server:
        yield server


@pytest.fixture
def store(url: str) -> RedisStore:
    return RedisStore(url)


@pytest.fixture
def challenges(url: str) -> RedisChallengeStore:
    return RedisChallengeStore(url)


def admin(server: Redis, *command: str | int) -> Any:
    """What the server's administrator gets for a command."""
    return RedisStore(server.admin_url)._server.ask(*command)


def as_user(server: Redis, name: str, url: str = "") -> str:
    """The URL for another user of the same server, whose password is their name."""
    return re.sub("//.*@", f"//{name}:{name}@", url or server.url)


class TestRedisStore(StoreContract, LeaseContract):
    """The contracts of a store and of leases over it."""

    called = "Redis store"

    @pytest.fixture
    def store(self, url: str) -> RedisStore:
        return RedisStore(url)

    @pytest.fixture
    def reopen(self, url: str) -> Callable[[], RedisStore]:
        return lambda: RedisStore(url)

    def fill(self, store: Any, records: Iterable[tuple[str, bytes]]) -> None:
        # As put() leaves them, without waiting for the disk after each.
        fields = [part for name, value in records for part in (name, new_version().encode() + value)]
        store._server.ask("HSET", store._records + "renewal", *fields)
        store._server.ask("SADD", store._kinds, "renewal")


class TestRedisChallengeStore(ChallengeStoreContract, FetchLogContract):
    """The contracts of a challenge store and of its log."""

    called = "Redis challenge store"

    @pytest.fixture
    def challenges(self, url: str) -> RedisChallengeStore:
        return RedisChallengeStore(url)

    @pytest.fixture
    def reopen(self, url: str) -> Callable[[], RedisChallengeStore]:
        return lambda: RedisChallengeStore(url)

    def held(self, challenges: Any) -> set[str]:
        return challenges.tokens()


def use_all(store: RedisStore, challenges: RedisChallengeStore) -> None:
    """Every method once, and what it must give."""
    version = store.put(KEY, b"value", expect=Expect.ABSENT)
    version = store.put(KEY, b"newer", expect=version)
    with pytest.raises(Conflict):
        store.put(KEY, b"late", expect="another")
    assert [(name, record.value) for name, record in store.scan("certificate/")] == [(KEY, b"newer")]
    store.check(writable=True)
    assert store.delete(KEY, expect=version) is True
    assert store.get(KEY) is None
    challenges.present(TOKEN, TOKEN + ".x", ttl=60)
    assert challenges.key_authorization(TOKEN) == TOKEN + ".x"
    challenges.log_fetch(TOKEN, Fetch(1.5, "192.0.2.1", "a CA"))
    assert challenges.fetches(TOKEN) == [Fetch(1.5, "192.0.2.1", "a CA")]
    challenges.remove(TOKEN)
    assert challenges.key_authorization(TOKEN) is None


def test_in_a_cluster_all_keys_are_in_one_slot() -> None:
    with Redis(settings={"cluster-enabled": "yes", "databases": "1"}) as server:
        admin(server, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: admin(server, "CLUSTER INFO")["cluster_state"] == "ok")
        use_all(RedisStore(server.url), RedisChallengeStore(server.url))


def wait_until(ready: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_is_opened_by_url_under_both_names(redis: Redis, url: str) -> None:
    open_store(url).put(KEY, b"value")
    open_challenges(url).present(TOKEN, TOKEN + ".x", ttl=60)
    valkey = url.replace("redis://", "valkey://")
    assert open_store(valkey).get(KEY).value == b"value"
    assert open_challenges(valkey).key_authorization(TOKEN) == TOKEN + ".x"
    assert open_store(redis.new_database()).get(KEY) is None, "another prefix is another place"
    assert open_store(url.replace("/0?", "/1?")).get(KEY) is None, "another database is another place"
    assert open_store(url.replace("/0?", "/?db=0&")).get(KEY).value == b"value"


def test_over_a_socket_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with Redis(settings={"unixsocket": str(path)}) as server:
        url = re.sub("redis://(.*)@.*", rf"redis+socket://\1@{path}?prefix=here", server.url)
        use_all(open_store(url), open_challenges(url))
        assert str(path) in repr(open_store(url))


def test_a_scan_is_two_commands_and_walks_through_no_keyspace(own: Redis) -> None:
    store = RedisStore(own.url)
    for number in range(300):
        store.put(key("renewal", f"{number}.example.com"), b"{}")
        store.put(key("ledger", f"{number}"), b"{}")
    admin(own, "CONFIG", "RESETSTAT")
    assert len(list(store.scan("renewal/"))) == 300
    commands = {name.removeprefix("cmdstat_"): used["calls"] for name, used in admin(own, "INFO", "commandstats").items()}
    assert (commands["hkeys"], commands["hmget"]) == (1, 1)
    assert not {"keys", "scan", "hget"} & set(commands)


@pytest.mark.parametrize("page", [1, 7, 31], ids=["one by one", "some at once", "all at once"])
def test_a_scan_of_more_than_a_page_misses_nothing(store: RedisStore, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    written = {key("renewal", f"{number:03}"): b"%03d" % number * 20 for number in range(31)}
    for name, value in written.items():
        store.put(name, value)
    store.put(key("sweep", "host"), b"another kind")
    monkeypatch.setattr(redis_stores, "PAGE", page)
    assert [(name, record.value) for name, record in store.scan("renewal/")] == list(written.items())


def test_kinds_that_the_server_dropped_are_listed_again_by_the_next_write(redis: Redis, store: RedisStore) -> None:
    store.put(KEY, b"value")
    admin(redis, "DEL", store._kinds)
    store.put(KEY, b"newer")
    assert [record.value for _, record in store.scan("")] == [b"newer"]


def test_no_change_is_a_transaction_as_servers_may_lose_those_at_a_restart(own: Redis) -> None:
    use_all(RedisStore(own.url), RedisChallengeStore(own.url))
    (log,) = own.folder.rglob("*.incr.aof")
    assert b"HSET" in log.read_bytes()
    assert b"MULTI" not in log.read_bytes()


def test_scripts_that_the_server_forgot_are_brought_again(redis: Redis, store: RedisStore) -> None:
    version = store.put(KEY, b"value")
    admin(redis, "SCRIPT", "FLUSH")
    with pytest.raises(Conflict):
        store.put(KEY, b"late", expect="another")
    admin(redis, "SCRIPT", "FLUSH")
    assert store.delete(KEY, expect=version) is True


def test_threads_get_each_their_own_answer(store: RedisStore) -> None:
    def use(number: int) -> Callable[[], None]:
        def call() -> None:
            name = key("order", f"{number}")
            for step in range(20):
                version = store.put(name, b"%d-%d" % (number, step))
                record = store.get(name)
                assert record is not None
                assert (record.value, record.version) == (b"%d-%d" % (number, step), version)

        return call

    together([use(number) for number in range(12)])


FORKED = """
import json, os, sys
from acme_middleware.stores.redis import RedisChallengeStore, RedisStore

url = sys.argv[1]
store, challenges = RedisStore(url), RedisChallengeStore(url)
challenges.present("token", "token.x", ttl=60)
store.put("order/parent", b"parent")
before = store._server.ask("CLIENT ID")
children = []
for number in range(4):
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        right = True
        for step in range(100):
            store.put(f"order/{number}", b"%d" % step)
            right &= store.get(f"order/{number}").value == b"%d" % step
            right &= challenges.key_authorization("token") == "token.x"
        os.write(writing, json.dumps([right, store._server.ask("CLIENT ID")]).encode())
        os._exit(0)
    os.close(writing)
    children.append((pid, reading))
mixed = [step for step in range(100) if store.get("order/parent").value != b"parent"]
told = [json.loads(os.read(reading, 1000)) for _, reading in children]
for pid, _ in children:
    os.waitpid(pid, 0)
print(json.dumps({"mixed": mixed, "right": [right for right, _ in told], "before": before,
                  "after": store._server.ask("CLIENT ID"), "children": [number for _, number in told]}))
"""


def test_children_of_a_fork_have_connections_of_their_own_and_leave_the_parents_open(url: str) -> None:
    run = subprocess.run([sys.executable, "-c", FORKED, url], check=True, timeout=60, capture_output=True, text=True)
    told = json.loads(run.stdout)
    assert told["mixed"] == []
    assert told["right"] == [True] * 4
    assert told["before"] == told["after"]
    assert len({told["before"], *told["children"]}) == 5


def test_an_idle_connection_is_not_used_again_as_a_firewall_may_have_forgotten_it(
    own: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_connection, "TIME_LIMIT", 30.0)
    store = RedisStore(own.url)

    def let_go() -> None:
        wait_until(lambda: admin(own, "INFO", "clients")["blocked_clients"] == 6)
        admin(own, "RPUSH", "list", *range(6))

    def rush() -> set[int]:
        together([*[lambda: store._server.ask("BLPOP", "list", 20)] * 6, let_go])
        return {int(client["id"]) for client in admin(own, "CLIENT LIST") if client["user"] == "acme"}

    store.get(KEY)
    first = rush()
    assert len(first) == 6
    assert rush() == first, "nobody makes a connection where one was used just now"
    monkeypatch.setattr(redis_connection, "IDLE_LIMIT", 1.0)
    used = store._server.ask("CLIENT ID")
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert store._server.ask("CLIENT ID") == used
        time.sleep(0.02)
    assert rush() & first == {used}, "only the one that was in use all the time"


def test_what_was_written_is_there_after_a_crash_and_the_first_call_works(own: Redis) -> None:
    store, challenges = RedisStore(own.url), RedisChallengeStore(own.url)
    version = store.put(KEY, b"value")
    challenges.present(TOKEN, TOKEN + ".x", ttl=3600)
    own.kill()
    own.restart()
    assert challenges.key_authorization(TOKEN) == TOKEN + ".x"
    assert store.put(KEY, b"newer", expect=version)
    assert 0 < admin(own, "PTTL", challenges._tokens + TOKEN) <= 3_600_000
    own.stop()


def test_nothing_is_tried_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        met = []

        def refuse() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                met.append(connection.recv(100))
                connection.close()

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        store = open_store(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(StoreUnavailable):
            store.get(KEY)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert len(met) == 1


def acl_line(user: str) -> list[str]:
    """The words of the page's ACL line for a user, the password filled in."""
    (line,) = re.findall(rf"^ACL SETUSER {user} .*$", PAGE.read_text(), re.MULTILINE)
    return line.replace("PASSWORD", user).split()


@pytest.fixture
def two_users(own: Redis) -> Redis:
    for user in ("acme-issuer", "acme-web"):
        admin(own, *acl_line(user))
    return own


def test_the_pages_line_for_the_issuer_is_enough_for_everything_and_for_no_other_key(two_users: Redis) -> None:
    url = as_user(two_users, "acme-issuer")
    store = RedisStore(url)
    use_all(store, RedisChallengeStore(url))
    assert store.durability_warnings() == []
    with pytest.raises(StoreMisconfigured, match="rights"):
        RedisStore(url + "?prefix=another").get(KEY)
    for command in (["FLUSHALL"], ["KEYS", "*"], ["ACL", "LIST"], ["CONFIG", "SET", "appendonly", "no"]):
        with pytest.raises(StoreMisconfigured, match="rights"):
            store._server.ask(*command)


def test_the_pages_line_for_web_workers_lets_them_answer_and_log_and_nothing_else(two_users: Redis) -> None:
    issuer, web = as_user(two_users, "acme-issuer"), as_user(two_users, "acme-web")
    issuing, serving = RedisChallengeStore(issuer), RedisChallengeStore(web)
    RedisStore(issuer).put(KEY, b"a private key")
    issuing.present(TOKEN, TOKEN + ".x", ttl=60)
    assert serving.key_authorization(TOKEN) == TOKEN + ".x"
    assert serving.key_authorization("unknown") is None
    serving.log_fetch(TOKEN, Fetch(1.5, "192.0.2.1", "a CA"))
    assert issuing.fetches(TOKEN) == [Fetch(1.5, "192.0.2.1", "a CA")]
    state = RedisStore(web)
    refused = [
        lambda: state.get(KEY),
        lambda: state.put(KEY, b"theirs"),
        lambda: state.delete(KEY),
        lambda: list(state.scan("")),
        lambda: serving.present("planted", "planted.x", ttl=60),
        lambda: serving.remove(TOKEN),
        lambda: state._server.ask("EVAL", "return redis.call('SET', ARGV[1], 'x')", 0, serving._tokens + TOKEN),
        lambda: state._server.ask("EVAL", "return redis.call('GET', ARGV[1])", 0, state._records + KEY),
    ]
    for attempt in refused:
        with pytest.raises(StoreMisconfigured, match="rights"):
            attempt()
    assert RedisChallengeStore(two_users.url).tokens() == {TOKEN}
    assert RedisStore(issuer).get(KEY).value == b"a private key"


def test_a_web_worker_of_that_line_answers_the_ca_and_the_issuer_sees_by_whom_it_was_asked(two_users: Redis) -> None:
    issuing = RedisChallengeStore(as_user(two_users, "acme-issuer"))
    issuing.present(TOKEN, TOKEN + ".x", ttl=60)
    responder = Responder(as_user(two_users, "acme-web"))
    answer = responder.respond("GET", f"/.well-known/acme-challenge/{TOKEN}", ("192.0.2.1", "a CA"))
    assert answer is not None
    assert (answer.status, answer.body) == (200, f"{TOKEN}.x".encode())
    wait_until(lambda: [(fetch.address, fetch.agent) for fetch in issuing.fetches(TOKEN)] == [("192.0.2.1", "a CA")])


DURABLE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({}, None, id="all as the page says"),
        pytest.param({"maxmemory-policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru", id="evicts any key"),
        pytest.param({"maxmemory-policy": "volatile-ttl"}, "maxmemory-policy is volatile-ttl", id="evicts tokens"),
        pytest.param({"maxmemory-policy": "allkeys-lru", "maxmemory": "0"}, None, id="would evict, but has no limit"),
        pytest.param({"appendfsync": "everysec"}, "appendfsync is everysec", id="a second may be lost"),
        pytest.param({"appendonly": "no"}, "nothing is written to the disk", id="in memory only"),
        pytest.param({"appendonly": "no", "save": "60 1"}, "since the last snapshot", id="snapshots only"),
    ],
)
def test_what_may_lose_private_keys_is_warned_of(settings: dict[str, str], said: str | None) -> None:
    with Redis(settings={**DURABLE, **settings}) as server:
        warnings = RedisStore(server.url).durability_warnings()
    assert len(warnings) == (said is not None)
    assert said is None or said in warnings[0]


def test_a_replica_and_a_user_who_may_not_ask_are_warned_of(own: Redis) -> None:
    admin(own, "ACL", "SETUSER", "blind", "on", ">blind", "~*", "+@all", "-info")
    (warning,) = RedisStore(as_user(own, "blind")).durability_warnings()
    assert "is not known" in warning
    admin(own, "ACL", "SETUSER", "half", "on", ">half", "~*", "+@all", "-config")
    (warning,) = RedisStore(as_user(own, "half")).durability_warnings()
    assert "appendfsync cannot be read" in warning
    admin(own, "REPLICAOF", "127.0.0.1", 1)
    assert any("is a replica" in warning for warning in RedisStore(own.url).durability_warnings())


def test_without_the_library_the_extra_is_named(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['redis'] = None\n"
        "from acme_middleware.errors import StoreMisconfigured\n"
        "from acme_middleware.stores import open_challenges, open_store\n"
        "for opener in (open_challenges, open_store):\n"
        "    try: opener('redis://user:secret@127.0.0.1')\n"
        "    except StoreMisconfigured as error: print(error, '|', error.hint)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True)
    lines = run.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.endswith("| pip install 'acme-middleware[redis]'")
        assert "secret" not in line


def test_opening_connects_to_nothing() -> None:
    for opener in (open_challenges, open_store):
        opener("redis://user:secret@192.0.2.1:1/0")
        opener("redis+socket:///nowhere/redis.sock")
