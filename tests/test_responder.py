"""What the adapters get for a request, by both ways in: the answer, the app's turn, and what is logged."""

import logging
import subprocess
import sys
import threading
import time

import anyio
import pytest

from acme_middleware import lookup
from acme_middleware import responder as responder_module
from acme_middleware.challenge import PREFIX
from acme_middleware.errors import ConfigurationError, StoreMisconfigured
from acme_middleware.responder import Responder
from acme_middleware.stores.base import FETCHES_KEPT
from acme_middleware.stores.memory import MemoryChallengeStore, shared_challenges

LOGGER = "acme_middleware.responder"


@pytest.fixture(params=["sync", "async on asyncio", "async on trio"])
def respond(request):
    """Call a responder, by either way in."""

    def call(responder, method, path, address="", agent=""):
        client = address, agent
        if request.param == "sync":
            return responder.respond(method, path, client)
        backend = request.param.removeprefix("async on ")

        async def run():
            return await responder.respond_async(method, path, client)

        return anyio.run(run, backend=backend)

    return call


class Counting:
    """A source that counts, answers every token but ``unknown``, and records fetches."""

    def __init__(self, *, blocking, failing_log=False):
        self.blocking = blocking
        self.failing_log = failing_log
        self.calls, self.logged = [], []

    def key_authorization(self, token):
        self.calls.append(token)
        return None if token == "unknown" else f"{token}.thumbprint"

    def log_fetch(self, token, fetch):
        if self.failing_log:
            raise RuntimeError("no such table: fetch")
        self.logged.append((token, fetch, threading.current_thread()))

    def fetches(self, token):
        return [fetch for name, fetch, _ in self.logged if name == token]


both_kinds = pytest.mark.parametrize(
    "blocking", [pytest.param(False, id="a local source"), pytest.param(True, id="a blocking source")]
)


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@both_kinds
def test_a_known_token_is_answered(respond, blocking):
    answer = respond(Responder(Counting(blocking=blocking)), "GET", PREFIX + "token")
    assert (answer.status, answer.body) == (200, b"token.thumbprint")


@both_kinds
@pytest.mark.parametrize("rest", ["unknown", "to/ken", "..", "a" * 129, "token\n"])
def test_an_unknown_token_is_the_apps_by_default_and_404_by_option(respond, blocking, rest):
    assert respond(Responder(Counting(blocking=blocking)), "GET", PREFIX + rest) is None
    answer = respond(Responder(Counting(blocking=blocking), on_unknown="404"), "GET", PREFIX + rest)
    assert answer.status == 404
    assert answer.body == b"unknown token\n"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/", id="the front page"),
        pytest.param("GET", PREFIX, id="the bare prefix"),
        pytest.param("POST", PREFIX + "token", id="another method"),
        pytest.param("GET", PREFIX + "../token", id="a malformed token"),
        pytest.param("GET", PREFIX + "token/", id="a token with a slash"),
    ],
)
def test_the_store_is_asked_for_well_formed_tokens_only(respond, method, path):
    source = Counting(blocking=False)
    assert respond(Responder(source), method, path) is None
    assert source.calls == []


@pytest.mark.parametrize(("method", "path"), [("GET", PREFIX), ("POST", PREFIX + "token"), ("GET", "/")])
def test_what_is_not_for_us_is_the_apps_even_where_unknown_tokens_are_404(respond, method, path):
    assert respond(Responder(Counting(blocking=False), on_unknown="404"), method, path) is None


@both_kinds
def test_a_store_that_fails_is_503_for_known_and_unknown_alike(respond, blocking):
    class Failing(Counting):
        def key_authorization(self, token):
            raise OSError("no route to host")

    responder = Responder(Failing(blocking=blocking))
    assert [respond(responder, "GET", PREFIX + token).status for token in ("token", "unknown")] == [503, 503]
    assert respond(responder, "GET", PREFIX + "to/ken") is None, "no store is needed to know that this is no token"


@both_kinds
def test_an_answer_is_logged_as_information_with_who_asked(respond, blocking, caplog):
    caplog.set_level(logging.DEBUG)
    agent = "Mozilla/5.0 (compatible; a CA)\nERROR forged " + "x" * 500
    respond(Responder(Counting(blocking=blocking)), "GET", PREFIX + "token", address="192.0.2.7", agent=agent)
    (record,) = [record for record in caplog.records if record.name == LOGGER]
    message = record.getMessage()
    assert record.levelno == logging.INFO
    assert message.startswith("answered challenge token for 192.0.2.7 ('Mozilla/5.0 (compatible; a CA)")
    assert "\n" not in message
    assert len(message) < 300


def test_an_address_from_a_header_draws_no_lines_into_the_log(respond, caplog):
    caplog.set_level(logging.INFO)
    respond(Responder(Counting(blocking=False)), "GET", PREFIX + "token", address="192.0.2.7\nERROR forged \x1b[2J" + "x" * 500)
    (message,) = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert message.startswith("answered challenge token for '192.0.2.7\\nERROR forged \\x1b[2Jxxx")
    assert message.isprintable()
    assert len(message) < 200


PASSED = "; passed on to the app, where another ACME client may answer"


@pytest.fixture
def said(caplog, monkeypatch):
    """The lines about unknown tokens since the last call, in a process that has had none before."""
    monkeypatch.setattr(responder_module, "_unknown_here", None)
    caplog.set_level(logging.DEBUG)

    def lines():
        found = [record for record in caplog.records if record.name.startswith("acme_middleware")]
        caplog.clear()
        assert {(record.name, record.levelname) for record in found} <= {(LOGGER, "WARNING")}
        return [record.getMessage() for record in found]

    return lines


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

        time = staticmethod(time.time)

    clock = Clock()
    monkeypatch.setattr(responder_module, "time", clock)
    return clock


@both_kinds
def test_the_first_unknown_token_is_said_at_once(respond, blocking, said, clock):
    respond(Responder(Counting(blocking=blocking)), "GET", PREFIX + "unknown", address="192.0.2.7")
    assert said() == ["1 fetch of an unknown token; the latest token, unknown, from 192.0.2.7" + PASSED]


def test_what_is_answered_404_is_said_to_be(respond, said, clock):
    respond(Responder(Counting(blocking=False), on_unknown="404"), "HEAD", PREFIX + "unknown")
    assert said() == ["1 fetch of an unknown token; the latest token, unknown, from an unknown address; answered 404"]


def test_bots_draw_one_line_a_minute_with_a_count_into_the_log(respond, said, clock):
    first, second = Responder(MemoryChallengeStore()), Responder(MemoryChallengeStore())
    for number in range(480):
        clock.now += 0.125
        respond(first if number % 2 else second, "GET", f"{PREFIX}bot{number}", address="192.0.2.8")
    assert said() == ["1 fetch of an unknown token; the latest token, bot0, from 192.0.2.8" + PASSED]
    clock.now += 0.125
    respond(first, "GET", PREFIX + "wanted", address="192.0.2.7")
    assert said() == ["480 fetches of unknown tokens in 60 s; the latest token, wanted, from 192.0.2.7" + PASSED]
    for method, path in (("GET", PREFIX), ("POST", PREFIX + "unknown"), ("GET", "/")):
        clock.now += 100
        respond(first, method, path)
    assert said() == []
    respond(first, "GET", PREFIX + "later")
    assert said() == ["1 fetch of an unknown token; the latest token, later, from an unknown address" + PASSED]


def test_malformed_ones_count_and_hide_no_token(respond, said, clock):
    responder = Responder(MemoryChallengeStore())
    respond(responder, "GET", PREFIX + "wp-login.php", address="192.0.2.8")
    assert said() == ["1 fetch of an unknown token, 1 malformed; the latest, 'wp-login.php', from 192.0.2.8" + PASSED]
    for rest in ("../x", "wanted", "../y"):
        respond(responder, "GET", PREFIX + rest, address="192.0.2.7" if rest == "wanted" else "192.0.2.8")
    clock.now += 61
    respond(responder, "GET", PREFIX + "../z", address="192.0.2.8")
    assert said() == ["4 fetches of unknown tokens in 61 s, 3 malformed; the latest token, wanted, from 192.0.2.7" + PASSED]


@pytest.mark.parametrize(
    "rest", ["x\nERROR forged", "\x1b[2J", "\x00", "\u202egnp.exe", "\udcff", "\xe9" * 50_000, "'\r\n" * 1000]
)
def test_a_malformed_tokens_text_is_harmless_in_the_log(respond, said, clock, rest):
    respond(Responder(MemoryChallengeStore()), "GET", PREFIX + rest, address="192.0.2.8")
    (line,) = said()
    assert line.isprintable()
    assert line.isascii()
    assert len(line) < 350


def test_threads_draw_one_line_together_and_none_is_lost(said, clock):
    responder = Responder(MemoryChallengeStore())

    def bot():
        for _ in range(500):
            responder.respond("GET", PREFIX + "unknown")

    threads = [threading.Thread(target=bot) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said()) == 1
    clock.now += 60
    responder.respond("GET", PREFIX + "unknown")
    assert said()[0].startswith("4000 fetches of unknown tokens in 60 s;")


def test_a_child_of_a_fork_counts_for_itself():
    # In a process of its own: forking this one, with the threads of other tests, is what Python 3.12 warns about.
    script = """
import os, sys
from acme_middleware import responder
made = responder.Responder("memory:")
made.respond("GET", "/.well-known/acme-challenge/unknown")
responder._unknown()._lock.acquire()  # the worst moment to fork in
child = os.fork()
if not child:
    made.respond("GET", "/.well-known/acme-challenge/childs")
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=30, capture_output=True, text=True)
    assert [line.split(",")[1] for line in done.stderr.splitlines()] == [" unknown", " childs"]


@both_kinds
def test_a_fetch_is_recorded_where_the_store_keeps_a_log(respond, blocking):
    source = Counting(blocking=blocking)
    before = time.time()
    responder = Responder(source)
    respond(responder, "GET", PREFIX + "token", address="192.0.2.7", agent="a CA" + "x" * 1000)
    respond(responder, "GET", PREFIX + "unknown", address="192.0.2.8", agent="a bot")
    wait_for(lambda: source.logged)
    ((token, fetch, thread),) = source.logged
    assert (token, fetch.address, fetch.agent[:5], len(fetch.agent)) == ("token", "192.0.2.7", "a CAx", 200)
    assert before <= fetch.at <= time.time()
    assert (thread is threading.current_thread()) is not blocking


@both_kinds
def test_who_fetches_on_and_on_is_recorded_as_often_as_is_kept_and_no_more(respond, blocking, clock):
    source = Counting(blocking=blocking)
    responder = Responder(source)
    for _ in range(FETCHES_KEPT + 30):
        clock.now += 0.01
        respond(responder, "GET", PREFIX + "token")
    respond(responder, "GET", PREFIX + "other")
    wait_for(lambda: source.fetches("other"))
    assert (len(source.fetches("token")), len(source.fetches("other"))) == (FETCHES_KEPT, 1)
    clock.now += 60
    respond(responder, "GET", PREFIX + "token")
    wait_for(lambda: len(source.fetches("token")) == FETCHES_KEPT + 1)


@both_kinds
def test_a_log_of_fetches_that_fails_is_said_once_and_never_reaches_the_client(respond, blocking, caplog):
    responder = Responder(Counting(blocking=blocking, failing_log=True))
    for _ in range(10):
        assert respond(responder, "GET", PREFIX + "token").status == 200
    wait_for(lambda: caplog.records)
    responder._lookup.fetch("token")  # after the writes in the background
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert messages == ["fetches of challenges are not recorded (said once): RuntimeError: no such table: fetch"]


def test_a_log_of_fetches_that_hangs_does_not_hold_up_answers_for_ever(caplog, monkeypatch):
    monkeypatch.setattr(lookup, "WAITING_LATER", 4)
    release = threading.Event()

    class Hanging(Counting):
        def log_fetch(self, token, fetch):
            release.wait(30)

    responder = Responder(Hanging(blocking=True))
    assert [responder.respond("GET", PREFIX + "token").status for _ in range(30)] == [200] * 30
    release.set()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "fetches of challenges are not recorded (said once): too many wait to be written"
    ]


def test_the_memory_store_of_the_process_answers_by_url(respond):
    shared_challenges().present("by-url", "by-url.thumbprint", ttl=60)
    try:
        assert respond(Responder("memory:"), "GET", PREFIX + "by-url").body == b"by-url.thumbprint"
        assert [fetch.agent for fetch in shared_challenges().fetches("by-url")] == [""]
    finally:
        shared_challenges().remove("by-url")


@pytest.mark.parametrize("value", ["deny", "", None, 404])
def test_on_unknown_takes_two_values(value):
    with pytest.raises(ConfigurationError, match='must be "pass" or "404"') as caught:
        Responder("memory:", on_unknown=value)
    assert caught.value.option == "on_unknown"


def test_a_wrong_scheme_is_refused_at_construction():
    with pytest.raises(StoreMisconfigured, match=r"^store: there is no store for etcd:") as caught:
        Responder("etcd://user:secret@host/database")
    assert "webroot:" in caught.value.hint
    assert "secret" not in str(caught.value) + caught.value.hint


def test_a_store_that_is_not_there_yet_is_no_reason_not_to_start(tmp_path, respond):
    responder = Responder(f"file://{tmp_path}/later")
    assert respond(responder, "GET", PREFIX + "token") is None
