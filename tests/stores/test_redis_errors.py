"""What the stores in Redis say when their URL is wrong, or the server refuses, is full, frozen or gone."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import local_ports
import pytest
from private_ca import write_server_certificate
from redis_server import Redis

from acme_middleware.errors import AcmeMiddlewareError, StoreMisconfigured, StoreUnavailable
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.base import Fetch, key
from acme_middleware.stores.redis import RedisChallengeStore, RedisStore

KEY = key("certificate", "example.com")
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
SECRET = "p4ssw0rd-of-nobody"


@pytest.fixture
def own() -> Iterator[Redis]:
    """A server that a test may do anything to."""
    with Redis() as server:
        yield server


def admin(server: Redis, *command: str | int) -> Any:
    """What the server's administrator gets for a command."""
    return RedisStore(server.admin_url)._server.ask(*command)


def fails(call: Callable[[], object], kind: type[AcmeMiddlewareError], said: str, hint: str, *, secret: str = SECRET) -> None:
    """Make sure that a call ends with that error, and that nothing which could be logged of it has the secret."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert hint in caught.value.hint
    shown = (
        "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caught.value.hint + repr(caught.value.facts)
    )
    assert secret not in shown


@pytest.mark.parametrize("opener", [open_store, open_challenges])
@pytest.mark.parametrize(
    ("url", "said", "hint"),
    [
        pytest.param(f"redis://user:{SECRET}@/0", "names no host", "redis://USER", id="no host"),
        pytest.param("redis:", "names no host", "redis://USER", id="a scheme alone"),
        pytest.param(f"redis://user:{SECRET}@host:port/0", "port is no number", "%40", id="a word for a port"),
        pytest.param(f"redis://user:/{SECRET}@host:6379/0", "database is no number", "%2F", id="a slash in the password"),
        pytest.param(f"redis://user:{SECRET}@host:99999/0", "port is no number", "%40", id="a port out of range"),
        pytest.param(f"redis://user:{SECRET}@[::1/0", "cannot be read", "%40", id="half a bracket"),
        pytest.param(f"redis://user:{SECRET}\u2100@host/0", "cannot be read", "%40", id="a letter that urlsplit quotes"),
        pytest.param(f"redis://user:{SECRET}@host/zero", "database is no number", "/0", id="a word for a database"),
        pytest.param(f"redis://user:{SECRET}@host/0/1", "database is no number", "/0", id="two databases"),
        pytest.param(f"redis://:{SECRET}@host?prefix=a%7Bb", "its prefix", "letters", id="a brace in the prefix"),
        pytest.param(f"redis://:{SECRET}@host?prefix=", "its prefix", "letters", id="an empty prefix"),
        pytest.param(f"redis://:{SECRET}@host?timeout=5", "has timeout", "prefix and db", id="an unknown setting"),
        pytest.param(f"redis://:{SECRET}@host?ssl_ca_certs=/x", "ssl_ca_certs", "with TLS", id="TLS settings without TLS"),
        pytest.param(f"redis+socket://user:{SECRET}@", "names no socket", "redis.sock", id="no socket"),
        pytest.param(f"redis://user:a@b?{SECRET}@host/0", "an @", "%40", id="@ and ? in the password"),
        pytest.param(f"redis://user:12?{SECRET}@host/0", "an @", "%40", id="digits and ? in the password"),
        pytest.param(f"redis://user:a@{SECRET}#b@host/0", "an @", "%23", id="@ and # in the password"),
        pytest.param(f"redis://user:a@{SECRET}/b@host?db=1", "database", "%2F", id="@ and / in the password, and a database"),
        pytest.param(f"redis+socket://:a/{SECRET}@/run/redis.sock", "an @", "%2F", id="a slash in a socket's password"),
    ],
)
def test_a_wrong_url_is_refused_when_it_is_opened(opener: Callable[[str], object], url: str, said: str, hint: str) -> None:
    fails(lambda: opener(url), StoreMisconfigured, said, hint)


def test_no_password_is_in_a_repr() -> None:
    url = f"rediss://user:{SECRET}@[2001:db8::1]/0"
    for opened in (open_store(url), open_challenges(url)):
        assert "[2001:db8::1]:6379" in repr(opened)
        assert SECRET not in repr(opened) + repr(vars(opened))


def test_an_at_sign_in_a_password_or_in_the_path_of_a_socket_is_read_as_one() -> None:
    assert "Redis at host:6379" in repr(open_store(f"redis://user:a@{SECRET}@host/0"))
    for user in ("", ":a@b@"):
        assert "Redis at /run/people@work/redis.sock" in repr(open_store(f"redis+socket://{user}/run/people@work/redis.sock"))


def both(url: str) -> list[Callable[[], object]]:
    return [lambda: open_store(url).get(KEY), lambda: open_challenges(url).key_authorization(TOKEN)]


@pytest.mark.parametrize(
    "user", [f"acme:{SECRET}@", f"nobody:{SECRET}@", f":{SECRET}@", ""], ids=["password", "user", "no user", "neither"]
)
def test_a_wrong_user_or_password_is_somebodys_to_mend(redis: Redis, user: str) -> None:
    for call in both(f"redis://{user}{redis.host}:{redis.port}/0"):
        fails(call, StoreMisconfigured, "refuses the user or the password", "USER:PASSWORD@HOST")


def test_a_database_that_there_is_not(redis: Redis) -> None:
    for call in both(redis.url.replace("/0", "/7")):
        fails(call, StoreMisconfigured, "no such database", "number after the host")


def test_somebody_elses_data_under_our_keys(redis: Redis) -> None:
    url = redis.new_database()
    store, challenges = RedisStore(url), RedisChallengeStore(url)
    admin(redis, "SET", store._records + "certificate", "theirs")
    admin(redis, "LPUSH", challenges._tokens + TOKEN, "theirs")
    fails(lambda: store.put(KEY, b"ours"), StoreMisconfigured, "something else under our keys", "?prefix=")
    fails(lambda: challenges.key_authorization(TOKEN), StoreMisconfigured, "something else under our keys", "?prefix=")


def test_a_replica_refuses_writes(own: Redis) -> None:
    store = RedisStore(own.url)
    store.put(KEY, b"value")
    admin(own, "REPLICAOF", "127.0.0.1", 1)
    fails(lambda: store.put(KEY, b"newer"), StoreMisconfigured, "is a replica", "the primary")
    fails(lambda: store.check(writable=True), StoreMisconfigured, "is a replica", "the primary")
    challenges = RedisChallengeStore(own.url)
    fails(lambda: challenges.present(TOKEN, TOKEN + ".x", ttl=60), StoreMisconfigured, "is a replica", "the primary")


def test_a_server_whose_memory_is_full_takes_no_writes_and_gives_what_it_has(own: Redis) -> None:
    store, challenges = RedisStore(own.url), RedisChallengeStore(own.url)
    store.put(KEY, b"value")
    admin(own, "CONFIG", "SET", "maxmemory", "1")
    fails(lambda: store.put(KEY, b"newer"), StoreUnavailable, "does not do its work", "maxmemory")
    fails(lambda: challenges.present(TOKEN, TOKEN + ".x", ttl=60), StoreUnavailable, "does not do its work", "maxmemory")
    assert store.get(KEY).value == b"value"
    assert store.delete(KEY) is True


def test_a_server_that_cannot_write_its_snapshots_takes_no_writes(tmp_path: Path) -> None:
    with Redis(folder=tmp_path / "data", settings={"appendonly": "no", "save": "3600 1"}) as server:
        store = RedisStore(server.url)
        store.put(KEY, b"value")
        log = server.log.open()  # its folder is about to go, as a disk may
        shutil.rmtree(server.folder)
        admin(server, "BGSAVE")
        deadline = time.monotonic() + 10
        while admin(server, "INFO", "persistence")["rdb_last_bgsave_status"] == "ok":
            assert time.monotonic() < deadline, log.read()
            time.sleep(0.02)
        log.close()
        fails(lambda: store.put(KEY, b"newer"), StoreUnavailable, "does not do its work", "cannot write to its disk")
        assert store.get(KEY).value == b"value"
        server.folder.mkdir()
        server.log.touch()


def test_a_server_that_a_long_script_keeps_busy(own: Redis) -> None:
    admin(own, "CONFIG", "SET", "busy-reply-threshold", "50")
    with pytest.raises(StoreUnavailable, match="did not answer within 1 s"):
        RedisStore(own.admin_url)._server.ask("EVAL", "while true do end", 0)
    fails(lambda: RedisStore(own.url).get(KEY), StoreUnavailable, "does not do its work", "a long script")
    admin(own, "SCRIPT", "KILL")
    assert RedisStore(own.url).get(KEY) is None


@contextmanager
def says(words: str) -> Iterator[str]:
    """A server that answers everything with the same line; for what real ones say at moments that cannot be brought about."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as accepted:

        def answer() -> None:
            while True:
                try:
                    connection = accepted.enter_context(listener.accept()[0])
                    while connection.recv(4096):
                        connection.sendall(f"{words}\r\n".encode())
                except OSError:
                    return

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("words", "kind", "hint"),
    [
        pytest.param("LOADING Redis is loading the dataset in memory", StoreUnavailable, "after a start", id="starting"),
        pytest.param("MASTERDOWN Link with MASTER is down", StoreUnavailable, "primary is down", id="a replica cut off"),
        pytest.param("CLUSTERDOWN Hash slot not served", StoreUnavailable, "cluster", id="a cluster that is down"),
        pytest.param("TRYAGAIN Multiple keys request during rehashing", StoreUnavailable, "moved", id="a slot on the move"),
        pytest.param("ERR max number of clients reached", StoreUnavailable, "maxclients", id="too many connections"),
        pytest.param("NOREPLICAS Not enough good replicas to write.", StoreUnavailable, "replicas", id="too few replicas"),
        pytest.param("ERR something new", StoreUnavailable, "try again", id="what nobody has met"),
        pytest.param("MOVED 866 192.0.2.1:6379", StoreMisconfigured, "one slot", id="another node has it"),
        pytest.param("DENIED Redis is running in protected mode", StoreMisconfigured, "protected-mode", id="protected mode"),
        pytest.param("NOAUTH Authentication required.", StoreMisconfigured, "PASSWORD", id="no password given"),
        pytest.param(
            "ERR unknown command 'HGET', with args beginning with: '" + SECRET + "'",
            StoreMisconfigured,
            "Redis 6",
            id="lacks it",
        ),
        pytest.param(
            "ERR Error running script (call to f_1): @user_script:4: @user_script: 4: -OOM command not allowed",
            StoreUnavailable,
            "maxmemory",
            id="full, in the words of Redis 6",
        ),
    ],
)
def test_what_a_server_says_is_told_with_what_to_do(words: str, kind: type[AcmeMiddlewareError], hint: str) -> None:
    with says(f"-{words}") as url:
        store = open_store(url)
        with pytest.raises(kind) as caught:
            store.get(KEY)
    assert hint in caught.value.hint
    assert SECRET not in str(caught.value) + caught.value.hint


def test_the_password_that_a_server_without_auth_quotes_is_in_no_traceback() -> None:
    with says(f"-ERR unknown command 'AUTH', with args beginning with: '{SECRET}'") as url:
        store = open_store(url.replace("redis://", f"redis://:{SECRET}@"))
        fails(lambda: store.get(KEY), StoreMisconfigured, "unknown command 'AUTH'", "Redis 6")
        fails(lambda: store.put(KEY, b"1"), StoreMisconfigured, "unknown command 'AUTH'", "Redis 6")


def test_a_host_that_is_none_is_named_as_what_is_wrong() -> None:
    fails(lambda: open_store(f"redis://:{SECRET}@redis..internal/0").get(KEY), StoreMisconfigured, "is no host", "URL")


def test_another_kind_of_server() -> None:
    with says("HTTP/1.1 400 Bad Request") as url:
        fails(lambda: open_store(url).get(KEY), StoreMisconfigured, "does not speak as expected", "rediss://")


def test_with_tls_the_certificate_must_be_trusted(tmp_path: Path) -> None:
    bundle, certificate, private = write_server_certificate(tmp_path)
    with local_ports.reserve() as (port,):
        tls = {"tls-port": str(port), "tls-cert-file": str(certificate), "tls-key-file": str(private), "tls-auth-clients": "no"}
        with Redis(settings=tls) as server:
            url = server.url.replace("redis://", "rediss://").replace(f":{server.port}/", f":{port}/")
            store = open_store(f"{url}?ssl_ca_certs={bundle}")
            store.check(writable=True)
            fails(lambda: open_store(url).get(KEY), StoreMisconfigured, "certificate that is not trusted", "ssl_ca_certs=")
            without = open_store(url.replace("rediss://", "redis://"))
            fails(lambda: without.get(KEY), StoreUnavailable, "does not do its work", "try again")
            for_the_plain_port = open_store(server.url.replace("redis://", "rediss://"))
            fails(lambda: for_the_plain_port.get(KEY), StoreUnavailable, "did not answer", "redis:// where it has no TLS")


OPERATIONS = [
    pytest.param(lambda url: RedisStore(url).get(KEY), id="get"),
    pytest.param(lambda url: RedisStore(url).put(KEY, b"value"), id="put"),
    pytest.param(lambda url: RedisStore(url).delete(KEY), id="delete"),
    pytest.param(lambda url: RedisStore(url).scan("renewal/"), id="scan"),
    pytest.param(lambda url: RedisStore(url).check(writable=False), id="check"),
    pytest.param(lambda url: RedisStore(url).durability_warnings(), id="durability warnings"),
    pytest.param(lambda url: RedisChallengeStore(url).key_authorization(TOKEN), id="read a token"),
    pytest.param(lambda url: RedisChallengeStore(url).present(TOKEN, "x", ttl=60), id="present"),
    pytest.param(lambda url: RedisChallengeStore(url).remove(TOKEN), id="remove"),
    pytest.param(lambda url: RedisChallengeStore(url).log_fetch(TOKEN, Fetch(1.0, "", "")), id="log a fetch"),
    pytest.param(lambda url: RedisChallengeStore(url).fetches(TOKEN), id="list fetches"),
]


@pytest.fixture(scope="module")
def frozen() -> Iterator[Redis]:
    """A server that accepts connections and answers nothing."""
    with Redis() as server:
        server.freeze()
        yield server


@pytest.mark.parametrize("use", OPERATIONS)
def test_against_a_frozen_server_everything_ends_within_two_seconds(frozen: Redis, use: Callable[[str], object]) -> None:
    start = time.monotonic()
    fails(lambda: use(frozen.url), StoreUnavailable, "did not answer within 1 s", "try again", secret=frozen.url[13:37])
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("use", OPERATIONS)
def test_against_a_server_that_is_gone_everything_ends_at_once(use: Callable[[str], object]) -> None:
    with local_ports.reserve() as (port,):
        start = time.monotonic()
        url = f"redis://user:{SECRET}@127.0.0.1:{port}/0"
        fails(lambda: use(url), StoreUnavailable, "Connection refused", "try again")
        assert time.monotonic() - start < 1


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A URL to which connections are not even refused: the server's queue is full, and the kernel says nothing to who comes."""
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        while True:
            try:
                waiting.enter_context(socket.create_connection(listener.getsockname(), timeout=0.3))
            except TimeoutError:
                break
        yield f"redis://user:{SECRET}@127.0.0.1:{listener.getsockname()[1]}/0"


def test_a_connection_that_is_never_made_is_given_up_after_a_second(black_hole: str) -> None:
    for call in both(black_hole):
        start = time.monotonic()
        fails(call, StoreUnavailable, "did not answer within 1 s", "that the network reaches it")
        assert time.monotonic() - start < 2


def test_a_name_that_leads_nowhere_and_a_socket_that_is_not_there() -> None:
    for call in both(f"redis://user:{SECRET}@no-such-host.invalid/0") + both("redis+socket:///nowhere/redis.sock"):
        fails(call, StoreUnavailable, "does not do its work", "try again")


def test_a_frozen_server_that_thaws_is_used_again_by_those_who_were_connected(own: Redis) -> None:
    store, challenges = RedisStore(own.url), RedisChallengeStore(own.url)
    store.put(KEY, b"value")
    challenges.present(TOKEN, TOKEN + ".x", ttl=60)
    own.freeze()
    for call in (lambda: store.get(KEY), lambda: challenges.key_authorization(TOKEN)):
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            call()
        assert time.monotonic() - start < 1.5
    own.thaw()
    assert store.get(KEY).value == b"value"
    assert challenges.key_authorization(TOKEN) == TOKEN + ".x"


def test_answers_that_came_too_late_are_nobody_elses(own: Redis) -> None:
    challenges = RedisChallengeStore(own.url)
    for name in ("one", "other"):
        challenges.present(name, f"{name}.x", ttl=60)
    own.freeze()
    with pytest.raises(StoreUnavailable):
        challenges.key_authorization("one")
    own.thaw()
    assert challenges.key_authorization("other") == "other.x"


def test_what_is_said_names_the_server_and_not_the_password(own: Redis) -> None:
    password = re.search("acme:(.*)@", own.url).group(1)
    own.kill()
    fails(
        lambda: RedisStore(own.url).get(KEY),
        StoreUnavailable,
        f"Redis at 127.0.0.1:{own.port}",
        "see that it is up",
        secret=password,
    )
