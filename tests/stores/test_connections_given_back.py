"""A program that issues again and again leaves no connections at its database, whatever the calls end with."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy
from pebble_lab import wait_until
from redis_server import Redis

from acme_middleware import delete, issue, options, revoke, status, statuses
from acme_middleware.errors import CAUnreachable, NoSuchCertificate
from acme_middleware.issuance.sweep import sweep
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.base import Connected, key
from acme_middleware.stores.redis import RedisStore
from acme_middleware.stores.sealed import SealedStore
from acme_middleware.stores.sql import SQLStore

KEY = key("renewal", "example.com")
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
LISTED = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()",
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE db = :name AND id <> connection_id()",
}

Place = tuple[str, Callable[[], int]]


@pytest.fixture(params=["redis", "postgresql", "mariadb"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The URL of an empty store, and a function that counts the connections to it."""
    if request.param == "redis":
        with Redis() as own:  # all that is connected to the shared one has the same user
            yield own.url, lambda: sum(one["user"] == "acme" for one in RedisStore(own.admin_url)._server.ask("CLIENT LIST"))
        return
    server = request.getfixturevalue(request.param)
    url = server.new_database()
    maker = SQLStore(url)
    maker.make_tables()
    maker.close_connections()
    name = url.rpartition("/")[2]
    admin = sqlalchemy.create_engine(server.admin_url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.pool.NullPool)

    def count() -> int:
        with admin.connect() as connection:
            return int(connection.execute(sqlalchemy.text(LISTED[request.param]), {"name": name}).scalar_one())

    yield url, count


@pytest.fixture
def uncollected() -> Iterator[None]:
    """What is in a circle stays: errors of the network are, and whoever collects errors keeps them for longer."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_calls_that_fail_leave_no_connections_while_their_errors_are_kept(place: Place) -> None:
    url, count = place
    kept = []
    for number in range(2):
        with pytest.raises(CAUnreachable) as caught:
            issue(
                f"c{number}.example",
                store=url,
                ca="https://127.0.0.1:1/directory",
                listener=lambda _: None,
                self_check="skip",
            )
        kept.append(caught.value)
    wait_until(lambda: count() == 0, "no connections", limit=5)
    assert len(kept) == 2


CALLS = {
    "status": lambda url: status("a.example", store=url),
    "statuses": lambda url: statuses(store=url),
    "revoke": lambda url: revoke("a.example", store=url),
    "delete": lambda url: delete("a.example", store=url),
    "renew": lambda url: sweep(options.read(("test", {"store": url, "ca": "https://127.0.0.1:1/directory"})), every=None),
}


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_a_program_asks_again_and_again_leaves_no_connections(place: Place, call: Callable[[str], object]) -> None:
    url, count = place
    kept = []
    for _ in range(2):
        try:
            kept.append(call(url))
        except NoSuchCertificate as error:
            kept.append(error)
    wait_until(lambda: count() == 0, "no connections", limit=5)
    assert len(kept) == 2


def test_a_store_is_used_again_after_its_connections_were_given_back(place: Place) -> None:
    url, count = place
    state, challenges = SealedStore(open_store(url)), open_challenges(url)
    version = state.put(KEY, b"1")
    assert challenges.key_authorization(TOKEN) is None
    assert isinstance(challenges, Connected)
    assert count() >= 2
    for _ in range(2):
        state.close_connections()
        challenges.close_connections()
    wait_until(lambda: count() == 0, "no connections", limit=5)
    assert state.put(KEY, b"2", expect=version) != version
    assert challenges.key_authorization(TOKEN) is None


@pytest.mark.usefixtures("uncollected")
def test_a_store_that_is_given_as_an_object_keeps_its_connections(place: Place) -> None:
    url, count = place
    state = open_store(url)
    with pytest.raises(CAUnreachable):
        issue("a.example", store=state, challenge_store="memory:", ca="https://127.0.0.1:1/directory", self_check="skip")
    wait_until(lambda: count() == 1, "its own connection alone", limit=5)
