"""Which certificate a client gets, and how a new one takes the place of the old, in handshakes in memory."""

import logging
import os
import pickle
import shutil
import ssl
import threading
import time
from datetime import timedelta

import pytest
from pebble_lab import wait_until
from tls_lab import DAY, NAME, certificate, client_context, der, fails, handshake, key_of, published, seen

from acme_middleware.clock import now
from acme_middleware.deploy import snapshot
from acme_middleware.errors import ConfigurationError, StoreMisconfigured
from acme_middleware.tls import TLSContext, context_from, served
from acme_middleware.tls.sources import FolderSource, Offer

QUICK = 0.01


@pytest.fixture
def live(tmp_path):
    return tmp_path / "live"


def followed(context, expected, name=NAME):
    wait_until(lambda: seen(context, name) == expected, "the new certificate is served", limit=5)


def test_a_renewed_certificate_is_served_and_nothing_was_loaded_into_the_context_of_the_server(live):
    first = published(live, certificate())
    context = TLSContext(live, check_every=QUICK)
    assert seen(context) == first
    for kind in ("rsa", "ec", "rsa"):
        followed(context, published(live, certificate(kind=kind)))
    assert context.cert_store_stats()["x509"] == 0
    context.sni_callback = None
    assert "HANDSHAKE_FAILURE" in fails(lambda: handshake(context)), "it has no certificate of its own"


def test_it_starts_without_a_certificate_and_serves_the_first_one_that_comes(live, caplog):
    context = TLSContext(str(live), check_every=QUICK)
    assert "ALERT_INTERNAL_ERROR" in fails(lambda: handshake(context))
    for _ in range(3):
        assert "ALERT_INTERNAL_ERROR" in fails(lambda: handshake(context))
    assert caplog.text.count("there is no certificate yet") == 1
    expected = published(live, certificate())
    wait_until(lambda: not fails_or_none(context), "there is a certificate", limit=5)
    assert seen(context) == expected


def fails_or_none(context):
    try:
        handshake(context)
    except ssl.SSLError as error:
        return error.reason
    return None


NAMES = [
    pytest.param("example.com", "example.com", id="its own name"),
    pytest.param("EXAMPLE.com", "example.com", id="in capitals"),
    pytest.param("example.com.", "example.com", id="with a final dot"),
    pytest.param("www.example.com", "example.com", id="another name of the same certificate"),
    pytest.param("a.wild.example", "*.wild.example", id="one label below a wildcard"),
    pytest.param("b.wild.example", "b.wild.example", id="a name that a wildcard covers too"),
    pytest.param("a.b.wild.example", "default.example", id="two labels below a wildcard"),
    pytest.param("wild.example", "default.example", id="a wildcard's own domain"),
    pytest.param("unknown.example", "default.example", id="a name that none is for"),
    pytest.param(None, "default.example", id="no name"),
]


@pytest.mark.parametrize(("asked", "expected"), NAMES)
def test_the_name_that_a_client_asks_for_decides(live, asked, expected):
    certificates = {
        "example.com": certificate("example.com", "WWW.example.com"),
        "*.wild.example": certificate("*.wild.example"),
        "b.wild.example": certificate("b.wild.example"),
        "default.example": certificate("default.example"),
    }
    for name, pems in certificates.items():
        published(live, pems, name)
    context = TLSContext(live, default="default.example")
    assert seen(context, asked) == der(certificates[expected])


def test_without_a_default_the_first_by_name_is_for_who_asks_for_none(live):
    published(live, certificate("b.example"), "b.example")
    expected = published(live, certificate("a.example"), "a.example")
    assert seen(TLSContext(live), None) == expected


def test_of_two_certificates_for_a_name_the_one_known_by_it_is_served_else_the_one_that_expires_later(live):
    own = published(live, certificate("a.example", expires=20 * DAY), "a.example")
    late = published(live, certificate("a.example", "b.example", expires=60 * DAY), "late")
    published(live, certificate("a.example", "b.example", expires=40 * DAY), "early")
    context = TLSContext(live)
    assert seen(context, "a.example") == own
    assert seen(context, "b.example") == late


def test_one_that_expires_while_it_is_served_gives_its_name_to_a_good_one(live):
    own = published(live, certificate("www.example.com", expires=timedelta(seconds=2)), "www.example.com")
    other = published(live, certificate("example.com", "www.example.com"), "example.com")
    context = TLSContext(live, check_every=60)
    assert seen(context, "www.example.com") == own
    followed(context, other, "www.example.com")


def test_a_name_that_is_added_by_a_renewal_is_served_and_one_that_is_deleted_no_more(live):
    first = published(live, certificate())
    context = TLSContext(live, check_every=QUICK)
    assert seen(context, "new.example") == first
    followed(context, published(live, certificate("new.example"), "new.example"), "new.example")
    both = published(live, certificate(NAME, "added.example"))
    followed(context, both, "added.example")
    shutil.rmtree(live / "new.example")
    followed(context, both, "new.example")


HOSTILE = ["../../etc", "a/b", "/etc/passwd", ".example.com", ".", ".."]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_looks_like_a_path_is_refused(live, name):
    published(live, certificate())
    (live / "b").symlink_to(live / NAME)
    context, client = TLSContext(live), client_context()
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    # Python's client would refuse to ask for it: a name of the same length is sent, and changed on its way.
    placeholder = "x" * len(name)
    end = client.wrap_bio(to_client, to_server, server_hostname=placeholder)
    with pytest.raises(ssl.SSLWantReadError):
        end.do_handshake()
    hello = to_server.read()
    assert hello.count(placeholder.encode()) >= 1
    server_in, server_out = ssl.MemoryBIO(), ssl.MemoryBIO()
    before, _, after = hello.rpartition(b"\x00\x00" + len(name).to_bytes(1, "big") + placeholder.encode())
    assert before, "the place of the name in the hello"
    server_in.write(before + b"\x00\x00" + len(name).to_bytes(1, "big") + name.encode() + after)
    server = context.wrap_bio(server_in, server_out, server_side=True)
    with pytest.raises(ssl.SSLError, match="callback failed"):
        server.do_handshake()
    to_client.write(server_out.read())
    assert "UNRECOGNIZED_NAME" in fails(end.do_handshake)


def damage_mismatch(folder, name=NAME):
    (folder / "privkey.pem").write_bytes(certificate(number=7).key)


def damage_unreadable(folder, name=NAME):
    (folder / "privkey.pem").unlink()
    (folder / "privkey.pem").mkdir()


def damage_garbage(folder):
    (folder / "fullchain.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def damage_empty(folder):
    (folder / "fullchain.pem").write_bytes(b"")


def damage_expired(folder, name=NAME):
    pems = certificate(name, expires=-timedelta(minutes=1))
    (folder / "fullchain.pem").write_bytes(pems.cert + pems.chain)


def damage_encrypted(folder, name=NAME):
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    (folder / "privkey.pem").write_bytes(
        key_of("ec").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )


DAMAGES = [
    pytest.param(damage_mismatch, "is not the key of", id="a key of another certificate"),
    pytest.param(damage_unreadable, "cannot read", id="a key that cannot be read"),
    pytest.param(damage_expired, "expired at", id="a certificate that has expired"),
    pytest.param(damage_encrypted, "is encrypted", id="a key with a password"),
    pytest.param(damage_garbage, "is no certificate in PEM", id="garbage for a certificate"),
    pytest.param(damage_empty, "is no certificate in PEM", id="an empty file"),
]


@pytest.mark.parametrize("layout", ["ours", "certbot's"])
@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_where_the_new_pair_is_no_good_the_old_one_stays_and_the_next_good_one_is_served(live, caplog, damage, said, layout):
    if layout == "ours":
        first = published(live, certificate())
        folder = live / NAME / "current"
    else:
        folder = live / NAME
        folder.mkdir(parents=True)
        first = write_in(folder, certificate())
    context = TLSContext(live, check_every=QUICK)
    assert seen(context) == first
    damage(folder)
    wait_until(lambda: seen(context) == first and said in caplog.text, "it is told", limit=5)
    assert "the old certificate stays, it is tried again by itself" in caplog.text
    ended = time.monotonic() + 10 * QUICK
    while time.monotonic() < ended:
        assert seen(context) == first
    assert len(caplog.records) == 1
    if (folder / "privkey.pem").is_dir():
        (folder / "privkey.pem").rmdir()
    after = certificate(kind="rsa")
    followed(context, published(live, after) if layout == "ours" else write_in(folder, after))


@pytest.mark.parametrize("missing", ["privkey.pem", "fullchain.pem", "both"])
@pytest.mark.parametrize("layout", ["ours", "certbot's"])
def test_a_file_that_is_unlinked_before_it_is_made_anew_gives_no_client_the_certificate_of_another(
    live, caplog, layout, missing
):
    published(live, certificate("another.example"), "another.example")
    folder = live / NAME / ("current" if layout == "ours" else "")
    if layout == "ours":
        first = published(live, certificate())
    else:
        folder.mkdir()
        first = write_in(folder, certificate())
    context = TLSContext(live, check_every=QUICK)
    assert seen(context) == first
    for name in ("privkey.pem", "fullchain.pem") if missing == "both" else (missing,):
        (folder / name).unlink()
    wait_until(lambda: seen(context) != first or caplog.text, "it is seen", limit=5)
    assert seen(context) == first
    assert f"{NAME} has no certificate with its key; the old certificate stays" in caplog.text
    assert len(caplog.records) == 1
    followed(context, write_in(folder, certificate(kind="rsa")))


NO_BETTER = [
    pytest.param("www.example.com", damage_mismatch, id="its key is of another certificate"),
    pytest.param("www.example.com", damage_unreadable, id="its key cannot be read"),
    pytest.param("www.example.com", damage_encrypted, id="its key has a password"),
    pytest.param("www.example.com", damage_expired, id="it has expired"),
    pytest.param("*.example.com", damage_mismatch, id="a wildcard is there, and its key is of another certificate"),
    pytest.param("*.example.com", damage_expired, id="a wildcard is there, and it has expired"),
]


@pytest.mark.parametrize("served_before", [True, False])
@pytest.mark.parametrize(("good", "damage"), NO_BETTER)
def test_a_certificate_that_is_no_good_takes_its_very_name_from_no_good_one(live, good, damage, served_before):
    expected = published(live, certificate("example.com", good), "example.com")
    context = TLSContext(live, check_every=QUICK)
    if served_before:
        assert seen(context, "www.example.com") == expected
    folder = live / "www.example.com"
    folder.mkdir()
    write_in(folder, certificate("www.example.com", number=3))
    damage(folder, "www.example.com")
    for _ in range(3):
        time.sleep(QUICK)  # until the next look
        assert seen(context, "www.example.com") == expected
    if (folder / "privkey.pem").is_dir():
        (folder / "privkey.pem").rmdir()
    followed(context, write_in(folder, certificate("www.example.com")), "www.example.com")


def write_in(folder, pems):
    (folder / "privkey.pem").write_bytes(pems.key)
    (folder / "fullchain.pem").write_bytes(pems.cert + pems.chain)
    return der(pems)


def test_an_expired_certificate_is_served_where_there_is_no_other(live):
    expected = published(live, certificate(expires=-DAY))
    assert seen(TLSContext(live)) == expected


def test_a_folder_that_is_away_for_a_while_takes_nothing_from_who_is_served(live, caplog):
    first = published(live, certificate())
    context = TLSContext(live, check_every=QUICK)
    assert seen(context) == first
    for times in (1, 2):
        live.rename(live.with_name("away"))
        wait_until(lambda: seen(context) and caplog.text.count("the old ones stay") == times, "it is told", limit=5)  # noqa: B023
        assert seen(context) == first
        live.with_name("away").rename(live)
        first = published(live, certificate())
        followed(context, first)


def test_a_pair_of_paths_is_served_for_every_name(tmp_path):
    pems = certificate()
    (tmp_path / "cert.pem").write_bytes(pems.cert + pems.chain)
    (tmp_path / "key.pem").write_bytes(pems.key)
    context = TLSContext((tmp_path / "cert.pem", str(tmp_path / "key.pem")), check_every=QUICK)
    assert {seen(context, name) for name in (NAME, "other.example", None)} == {der(pems)}
    after = certificate("another.example", number=1)
    (tmp_path / "key.pem").write_bytes(after.key)
    (tmp_path / "cert.pem").write_bytes(after.cert + after.chain)
    followed(context, der(after))


def test_one_file_with_both_will_do(tmp_path):
    pems = certificate()
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(pems.cert + pems.chain + pems.key)
    assert seen(TLSContext((bundle, bundle))) == der(pems)


def test_protocols_and_settings_of_the_server_hold_for_every_certificate(live):
    published(live, certificate())
    context = TLSContext(live, check_every=QUICK)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
    for kind in ("ec", "rsa"):
        followed(context, published(live, certificate(kind=kind)))
        end = handshake(context, client=client_context(alpn=["h2"]))
        assert end.selected_alpn_protocol() == "h2"
        assert end.version() == "TLSv1.2"
        assert "AES128" in end.cipher()[0]


@pytest.mark.parametrize("form", ["TLSContext", "context_from"])
def test_client_certificates_are_asked_for_and_checked_after_a_renewal_as_before(live, tmp_path, form):
    published(live, certificate())
    ours, theirs = certificate("client.example", number=2), certificate("client.example", number=3)
    (tmp_path / "ca.pem").write_bytes(ours.chain)

    def with_settings(context):
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tmp_path / "ca.pem")
        return context

    if form == "TLSContext":
        context = with_settings(TLSContext(live, check_every=QUICK))
    else:
        context = context_from(lambda: with_settings(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), live, check_every=QUICK)
    client = client_context()
    (tmp_path / "client.pem").write_bytes(ours.cert + ours.key)
    client.load_cert_chain(tmp_path / "client.pem")
    for _ in range(2):
        expected = published(live, certificate())
        wait_until(lambda expected=expected: seen(context, client=client) == expected, "it is served", limit=5)
        with pytest.raises(ssl.SSLError):
            handshake(context)
    assert theirs.cert != ours.cert


def test_a_session_is_resumed_after_a_renewal(live):
    published(live, certificate())
    context, client = TLSContext(live, check_every=QUICK), client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    session = handshake(context, client=client).session
    followed(context, published(live, certificate()))
    assert handshake(context, client=client, session=session).session_reused


def test_it_can_be_pickled_for_workers_that_are_spawned(live):
    expected = published(live, certificate())
    context = TLSContext(live, check_every=3, default=NAME)
    context.set_alpn_protocols(["h2"])
    again = pickle.loads(pickle.dumps(context))
    assert seen(again) == expected
    assert handshake(again, client=client_context(alpn=["h2"])).selected_alpn_protocol() == "h2"


def test_it_serves_in_a_child_that_was_forked_while_another_thread_was_at_it(live):
    expected = published(live, certificate())
    context = TLSContext(live, check_every=QUICK)
    assert seen(context) == expected
    served = context.sni_callback.__self__
    with served._lock:  # which nobody will ever give back in the child
        pid = os.fork()
        if pid == 0:
            after = published(live, certificate())
            threading.Event().wait(2 * QUICK)
            os._exit(0 if seen(context) == after else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_threads_that_ask_while_it_is_renewed_never_fail(live):
    versions = {published(live, certificate())}
    context = TLSContext(live, check_every=QUICK)
    stop, failures, counts = threading.Event(), [], [0] * 4

    def ask(number):
        while not stop.is_set():
            try:
                if seen(context) not in versions:
                    failures.append("a certificate that never was")
                counts[number] += 1
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        pems = certificate(kind="rsa" if number % 2 else "ec")
        versions.add(der(pems))
        followed(context, published(live, pems))
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(counts) > 0


class Failing:
    def look(self, known):
        raise RuntimeError("a source of somebody's own")


def test_what_a_source_of_ones_own_raises_reaches_no_client_and_the_log_once(caplog):
    context = TLSContext(Failing(), check_every=QUICK)
    for _ in range(5):
        assert "ALERT_INTERNAL_ERROR" in fails(lambda: handshake(context))
        threading.Event().wait(QUICK)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "a source of somebody's own" in caplog.text


WRONG = [
    pytest.param({"source": 3}, ConfigurationError, "type int", id="a number for a source"),
    pytest.param({"source": "/live", "check_every": 0}, ConfigurationError, "check_every is 0", id="never looking"),
    pytest.param({"source": "/live", "check_every": float("nan")}, ConfigurationError, "check_every is nan", id="not a number"),
    pytest.param({"source": "nosuch://x"}, StoreMisconfigured, "no store", id="an unknown scheme"),
]


@pytest.mark.parametrize(("given", "kind", "said"), WRONG)
def test_what_cannot_work_is_refused_when_it_is_made(given, kind, said):
    with pytest.raises(kind, match=said):
        TLSContext(**given)


def test_one_folder_that_cannot_be_read_keeps_no_other_from_being_served(live, caplog):
    expected = published(live, certificate())
    broken = live / "broken.example" / "current"
    broken.mkdir(parents=True)
    (broken / "fullchain.pem").write_bytes(b"nothing")
    (broken / "privkey.pem").write_bytes(b"nothing")
    (live / "README").write_text("certbot has this one")
    context = TLSContext(live, check_every=QUICK)
    for _ in range(3):
        assert seen(context, "broken.example") == expected
        context.sni_callback.__self__._next_look = 0
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "broken.example" in caplog.text
    assert "it is left out, it is tried again by itself" in caplog.text


def test_so_many_contexts_are_kept_and_no_more_and_whoever_comes_back_is_served_again(live, monkeypatch):
    monkeypatch.setattr(served, "MOST_CONTEXTS", 3)
    names = [f"site-{number}.example" for number in range(8)]
    expected = {name: published(live, certificate(name), name) for name in names}
    context = TLSContext(live)
    for _ in range(2):
        assert {name: seen(context, name) for name in names} == expected
        assert len(context.sni_callback.__self__._held) == 3


def test_a_look_that_costs_much_is_made_rarer(live):
    class Costly:
        looks = 0

        def look(self, known):
            self.looks += 1
            ended = time.thread_time() + 0.02
            while time.thread_time() < ended:
                pass
            return {}

    source = Costly()
    context = TLSContext(source, check_every=QUICK)
    ended = time.monotonic() + 1.0
    while time.monotonic() < ended:
        assert context.sni_callback.__self__.context_for(NAME) is None
    # A twentieth of the time is two or three looks of 20 ms in a second, and not the hundred that were asked for.
    assert 1 <= source.looks <= 4


def test_who_has_something_to_serve_waits_for_nobody_who_makes_the_new(live):
    first = published(live, certificate())
    context = TLSContext(live, check_every=QUICK)
    assert seen(context) == first
    ours, made = context.sni_callback.__self__, []
    for looked in (False, True):
        published(live, certificate())
        ours._next_look = 0
        if looked:
            ours._look()
        asking = threading.Thread(target=lambda: made.append(seen(context)))
        with ours._lock:  # as by one who looks, or makes the new context
            asking.start()
            asking.join(5)
            assert made == [first] * (1 + looked)


def test_what_is_deleted_is_forgotten(live):
    published(live, certificate())
    published(live, certificate("gone.example"), "gone.example")
    context = TLSContext(live, check_every=QUICK)
    for name in (NAME, "gone.example"):
        seen(context, name)
    shutil.rmtree(live / "gone.example")
    wait_until(lambda: seen(context) and list(context.sni_callback.__self__._held) == [NAME], "it is forgotten", limit=5)


def test_a_pair_that_is_no_good_is_tried_once_in_a_while_and_not_by_each_handshake():
    tried = []

    def load(context):
        tried.append(context)
        raise OSError("no good")

    class Source:
        def look(self, known):
            return {NAME: Offer(NAME, NAME, (NAME,), now() + DAY, "1", load)}

    context = TLSContext(Source(), check_every=60)
    for _ in range(10):
        assert "ALERT_INTERNAL_ERROR" in fails(lambda: handshake(context))
    assert len(tried) == 1


def test_an_offer_loads_the_version_that_it_was_made_of_though_the_link_has_turned_since(live):
    first = published(live, certificate())
    (offer,) = FolderSource(live).look({}).values()
    published(live, certificate(kind="rsa"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    offer.load(context)
    assert seen(context) == first


def test_a_pair_that_does_not_match_holds_up_no_handshake(live):
    published(live, certificate())
    context = TLSContext(live, check_every=QUICK)
    seen(context)
    damage_mismatch(live / NAME / "current")
    slowest, ended = 0.0, time.monotonic() + 1
    while time.monotonic() < ended:
        began = time.monotonic()
        seen(context)
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < snapshot.PATIENCE / 2


def test_in_a_forked_child_threads_that_come_first_at_the_same_time_all_are_served(live):
    expected = published(live, certificate())
    context = TLSContext(live, check_every=1e-9)
    seen(context)
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            start, failed = threading.Barrier(6), []

            def ask(start=start, failed=failed):
                start.wait()
                try:
                    assert seen(context) == expected
                except BaseException as error:
                    failed.append(error)

            threads = [threading.Thread(target=ask) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            os._exit(len(failed))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
