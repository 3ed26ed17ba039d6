"""Certificates out of a store: a thread of each process asks it, and a handshake waits only where there is nothing to serve."""

import gc
import logging
import os
import threading
import time

import pytest
from pebble_lab import wait_until
from tls_lab import NAME, certificate, der, fails, handshake, seen

from acme_middleware.clock import now
from acme_middleware.errors import StoreUnavailable
from acme_middleware.issuance.records import CertificateRecord, certificate_key, renewal_key
from acme_middleware.issuance.renewal import record_of
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.stores.memory import MemoryStore
from acme_middleware.stores.sealed import SealedStore
from acme_middleware.tls import TLSContext, stored

QUICK = 0.02
KEY = bytes(32)


def saved(store, name=NAME, pems=None):
    """Save a certificate as issuing does; returns what clients are to see."""
    pems = pems or certificate(name)
    made = CertificateRecord(
        name=name,
        names=(name,),
        ca="letsencrypt",
        trusted=True,
        account_url="https://ca.example/account/1",
        profile="",
        key_type="ec256",
        issued_at=now(),
        key_pem=pems.key.decode(),
        cert_pem=pems.cert.decode(),
        chain_pem=pems.chain.decode(),
    )
    made.write(store, certificate_key(name))
    record_of(made).write(store, renewal_key(name))
    return der(pems)


def followed(context, expected, name=NAME):
    wait_until(lambda: seen(context, name) == expected, "the new certificate is served", limit=5)


class Unreliable:
    """A store that fails, or takes its time, when it is told to; and who has asked it for what."""

    def __init__(self):
        self.inner, self.down, self.delay, self.asked = MemoryStore(), False, 0.0, []

    def _pass(self, what):
        self.asked.append((threading.current_thread(), what))
        time.sleep(self.delay)  # it is slow
        if self.down:
            raise StoreUnavailable("the store is down")

    def get(self, key):
        self._pass(key)
        return self.inner.get(key)

    def scan(self, prefix):
        self._pass(prefix)
        return self.inner.scan(prefix)

    def put(self, key, value, **expect):
        return self.inner.put(key, value, **expect)

    def delete(self, key, **expect):
        return self.inner.delete(key, **expect)

    def check(self, *, writable):
        self.inner.check(writable=writable)


OPENED = [
    pytest.param(lambda folder: f"file:{folder}", id="by its URL"),
    pytest.param(DirectoryStore, id="open"),
]


@pytest.mark.parametrize("opened", OPENED)
def test_renewals_are_followed_and_names_that_are_added_and_deleted(tmp_path, opened):
    store = DirectoryStore(tmp_path / "store")
    expected = saved(store)
    context = TLSContext(opened(tmp_path / "store"), check_every=QUICK)
    assert seen(context) == expected, "the first handshake waits for the store"
    for kind in ("rsa", "ec"):
        followed(context, saved(store, pems=certificate(kind=kind)))
    followed(context, saved(store, "new.example"), "new.example")
    store.delete(renewal_key("new.example"))
    wait_until(lambda: seen(context, "new.example") == seen(context), "the deleted one is served no more", limit=5)


def test_it_starts_with_an_empty_store(caplog):
    store = MemoryStore()
    context = TLSContext(store, check_every=QUICK)
    assert "ALERT_INTERNAL_ERROR" in fails(lambda: handshake(context))
    expected = saved(store)
    wait_until(lambda: context.sni_callback.__self__.context_for(NAME), "there is a certificate", limit=5)
    assert seen(context) == expected
    assert "there is no certificate yet" in caplog.text


def test_private_records_that_are_encrypted_are_opened_with_the_keys_that_commands_have(tmp_path, monkeypatch):
    import base64

    expected = saved(SealedStore(DirectoryStore(tmp_path / "store"), (KEY,)))
    monkeypatch.setenv("ACME_ENCRYPTION_KEYS", base64.urlsafe_b64encode(KEY).decode())
    assert seen(TLSContext(f"file:{tmp_path / 'store'}", check_every=QUICK)) == expected


def test_without_the_key_it_says_which_record_cannot_be_opened(tmp_path, caplog):
    saved(SealedStore(DirectoryStore(tmp_path / "store"), (KEY,)))
    context = TLSContext(f"file:{tmp_path / 'store'}", check_every=QUICK)
    assert "ALERT_INTERNAL_ERROR" in fails(lambda: handshake(context))
    assert f"certificate/{NAME}" in caplog.text


def test_nothing_is_asked_before_the_first_handshake_and_then_by_the_thread_alone():
    store = Unreliable()
    saved(store)
    context = TLSContext(store, check_every=QUICK)
    assert store.asked == []
    handshake(context)
    assert {thread.name for thread, _ in store.asked} == {"acme-middleware-tls"}


def test_a_store_that_is_down_takes_nothing_from_who_is_served_and_is_told_once(caplog):
    store = Unreliable()
    expected = saved(store)
    context = TLSContext(store, check_every=QUICK)
    assert seen(context) == expected
    store.down = True
    wait_until(lambda: "the store is down" in caplog.text, "it is told", limit=5)
    asked = len(store.asked)
    wait_until(lambda: len(store.asked) > asked + 5, "it is asked again", limit=5)
    assert seen(context) == expected
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1
    store.down = False
    followed(context, saved(store))


def test_a_store_that_is_down_from_the_beginning_is_waited_for_once_only(caplog):
    store = Unreliable()
    expected = saved(store)
    store.down = True
    context = TLSContext(store, check_every=QUICK)
    for _ in range(20):
        assert "ALERT_INTERNAL_ERROR" in fails(lambda: handshake(context))
    assert "the store is down" in caplog.text
    store.down = False
    wait_until(lambda: context.sni_callback.__self__.context_for(NAME), "there is a certificate", limit=5)
    assert seen(context) == expected


def test_a_slow_store_holds_up_no_handshake_once_there_is_something_to_serve():
    store = Unreliable()
    expected = saved(store)
    context = TLSContext(store, check_every=QUICK)
    assert seen(context) == expected
    store.delay = 0.3
    after = saved(store)
    slowest, ended = 0.0, time.monotonic() + 20
    while seen(context) != after:
        began = time.monotonic()
        handshake(context)
        slowest = max(slowest, time.monotonic() - began)
        assert began < ended
    assert slowest < 0.3


def test_a_store_that_does_not_answer_holds_up_the_first_handshake_for_two_seconds_at_most(caplog):
    store = Unreliable()
    saved(store)
    store.delay = 30.0
    context = TLSContext(store, check_every=10)
    began = time.monotonic()
    assert "ALERT_INTERNAL_ERROR" in fails(lambda: handshake(context))
    assert 1.5 < time.monotonic() - began < 10
    assert "no answer in 2 s" in caplog.text
    began = time.monotonic()
    assert "ALERT_INTERNAL_ERROR" in fails(lambda: handshake(context))
    assert time.monotonic() - began < 1


def test_of_many_certificates_those_are_read_that_somebody_asks_for():
    store, pems = Unreliable(), certificate("*.example.com")
    for number in range(250):
        saved(store, f"site-{number}.example", pems)
    asked = ("site-7.example", "site-249.example")
    expected = {name: saved(store, name) for name in asked}
    context = TLSContext(store, check_every=QUICK)
    assert {name: seen(context, name) for name in asked} == expected
    assert {what for _, what in store.asked if what.startswith("certificate/")} == {certificate_key(name) for name in asked}
    followed(context, saved(store, asked[0]), asked[0])


def test_a_damaged_record_is_told_and_the_others_are_served(caplog):
    store = MemoryStore()
    expected = saved(store)
    store.put(renewal_key("damaged.example"), b"{")
    context = TLSContext(store, check_every=QUICK)
    assert seen(context) == expected
    assert caplog.text.count("renewal/damaged.example is damaged") == 1


def test_after_a_fork_the_child_asks_by_a_thread_of_its_own(tmp_path):
    store = DirectoryStore(tmp_path / "store")
    first = saved(store)
    context = TLSContext(store, check_every=QUICK)
    assert seen(context) == first
    pid = os.fork()
    if pid == 0:
        after, ended = saved(store), time.monotonic() + 10
        while seen(context) != after and time.monotonic() < ended:
            pass
        os._exit(0 if seen(context) == after else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_thread_ends_when_nobody_has_the_context_any_more():
    store = Unreliable()
    saved(store)
    context = TLSContext(store, check_every=QUICK)
    handshake(context)
    (thread,) = {thread for thread, _ in store.asked}
    assert thread.is_alive()
    del context
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


AT_ONCE = [pytest.param(200, id="read before anybody asks"), pytest.param(0, id="read when somebody asks")]


@pytest.mark.parametrize("ahead", AT_ONCE)
def test_a_renewal_that_was_killed_between_its_two_writes_is_served_and_holds_up_no_handshake(monkeypatch, ahead):
    monkeypatch.setattr(stored, "AHEAD", ahead)
    store = MemoryStore()
    saved(store)
    public = store.get(renewal_key(NAME)).value
    expected = saved(store, pems=certificate(NAME, "added.example"))
    complete = store.get(renewal_key(NAME)).value
    other = saved(store, "a.example")
    store.put(renewal_key(NAME), public)
    context = TLSContext(store, check_every=QUICK)
    began = time.monotonic()
    assert seen(context, "a.example") == other
    if ahead:
        assert seen(context) == expected
    else:
        fails_at_first(context)
    assert time.monotonic() - began < stored.LIMIT
    for name in (NAME, "added.example"):
        followed(context, expected, name)
    # The next run makes the public record anew, and a renewal is followed as ever.
    store.put(renewal_key(NAME), complete)
    followed(context, saved(store, pems=certificate(kind="rsa")))


def fails_at_first(context):
    """It has no such certificate: the first handshake is told so, and the next look finds what there is."""
    assert "ALERT_INTERNAL_ERROR" in fails(lambda: handshake(context))
    wait_until(lambda: context.sni_callback.__self__.context_for(NAME), "it is read", limit=5)


def test_where_no_thread_can_be_started_for_a_moment_the_next_look_starts_it(monkeypatch, caplog):
    store = MemoryStore()
    expected = saved(store)
    context = TLSContext(store, check_every=QUICK)

    def refused(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        assert "ALERT_INTERNAL_ERROR" in fails(lambda: handshake(context))
    assert "can't start new thread" in caplog.text
    time.sleep(QUICK)  # until the next look
    assert seen(context) == expected


def test_no_secret_is_in_its_log_or_its_name(caplog):
    store = Unreliable()
    saved(store)
    context = TLSContext(store, check_every=QUICK)
    handshake(context)
    assert "PRIVATE" not in caplog.text + repr(context.sni_callback.__self__._offers)


def test_a_store_that_takes_its_time_is_asked_less_often():
    store = Unreliable()
    saved(store)
    store.delay = 0.05
    context = TLSContext(store, check_every=QUICK)
    handshake(context)
    asked, ended = len(store.asked), time.monotonic() + 1.5
    wait_until(lambda: time.monotonic() > ended, "a while is over")
    # Half a second between two looks, where twenty times in a second were asked for.
    assert 1 <= len(store.asked) - asked <= 4
