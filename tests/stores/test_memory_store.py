"""What is particular to the stores in memory."""

import time

import pytest

from acme_middleware.stores.base import Fetch
from acme_middleware.stores.memory import MemoryChallengeStore, MemoryStore, shared_challenges, shared_store


def test_there_is_one_of_each_in_a_process():
    assert shared_store() is shared_store()
    assert shared_challenges() is shared_challenges()


def test_two_made_by_hand_share_nothing():
    one, other = MemoryStore(), MemoryStore()
    one.put("renewal/a", b"one")
    assert other.get("renewal/a") is None


def test_a_buffer_changed_after_it_was_stored_changes_no_record():
    store, buffer = MemoryStore(), bytearray(b"value")
    store.put("renewal/a", buffer)
    buffer[:] = b"other"
    assert store.get("renewal/a").value == b"value"


@pytest.mark.parametrize("jump", [-7200.0, 7200.0], ids=["back two hours", "ahead two hours"])
def test_setting_the_clock_neither_keeps_nor_drops_a_token(monkeypatch, jump):
    store = MemoryChallengeStore()
    store.present("short", "short.x", ttl=0.1)
    store.present("long", "long.x", ttl=3600)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    time.sleep(0.15)
    assert store.key_authorization("short") is None
    assert store.key_authorization("long") == "long.x"


def test_a_list_of_fetches_is_not_changed_by_later_ones():
    store = MemoryChallengeStore()
    store.present("token", "token.x", ttl=3600)
    store.log_fetch("token", Fetch(1.0, "192.0.2.1", "a CA"))
    listed = store.fetches("token")
    store.log_fetch("token", Fetch(2.0, "192.0.2.2", "a CA"))
    assert listed == [Fetch(1.0, "192.0.2.1", "a CA")]


def test_fetches_of_an_expired_token_are_gone_with_it():
    store = MemoryChallengeStore()
    store.present("token", "token.x", ttl=0.05)
    store.log_fetch("token", Fetch(1.0, "192.0.2.1", "a CA"))
    time.sleep(0.1)
    assert store.fetches("token") == []


def test_no_key_authorization_or_value_is_shown_by_repr():
    store, challenges = MemoryStore(), MemoryChallengeStore()
    store.put("certificate/a", b"a private key")
    challenges.present("token", "token.x", ttl=3600)
    assert "private" not in repr(store)
    assert "token" not in repr(challenges)
