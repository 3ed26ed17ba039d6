"""Requests to a CA that does not behave: nonces, faults, Retry-After, problem documents, hostile bytes."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Scripted, Server, scripted

from acme_middleware.errors import CARefused, CAUnreachable, ConfigurationError, UnexpectedAnswer
from acme_middleware.protocol import directory as acme_directory
from acme_middleware.protocol import network as network_module
from acme_middleware.protocol.account import load_key, new_key
from acme_middleware.protocol.network import NONCE_TRIES, Network
from acme_middleware.protocol.pace import Pace, shared
from acme_middleware.protocol.reply import ERROR_PREFIX, Reply, problem_from


def problem(kind: str, status: int = 400, headers: dict[str, str] | None = None, **more: Any) -> Scripted:
    document = {"type": ERROR_PREFIX + kind, "detail": f"the detail of {kind}", **more}
    return status, {"Content-Type": "application/problem+json", **(headers or {})}, json.dumps(document).encode()


def network(server: Server) -> Network:
    made = Network()
    made.new_nonce_url = server.url + "/nonce"
    made.sign_as(load_key(new_key()), None)
    return made


def with_nonces(answer: Callable[[str, str, int], Scripted]) -> Callable[[str, str, int], Scripted]:
    count = iter(range(10**6))

    def answering(method: str, path: str, before: int) -> Scripted:
        said = (200, {}, b"") if path == "/nonce" else answer(method, path, before)
        return said and (said[0], {"Replay-Nonce": f"{next(count):08}", **said[1]}, said[2])

    return answering


def nonce_of(body: bytes) -> str:
    import base64

    protected = json.loads(body)["protected"]
    return str(json.loads(base64.urlsafe_b64decode(protected + "=" * (-len(protected) % 4)))["nonce"])


def test_nonce_of_every_reply_is_used_and_none_twice() -> None:
    with scripted(with_nonces(lambda *_: (200, {}, b"{}"))) as server:
        made = network(server)
        for _ in range(5):
            made.post(server.url + "/x", {})
        assert server.asked("HEAD", "/nonce") == 1
        nonces = [nonce_of(body) for body in server.bodies if body]
        assert len(set(nonces)) == 5


def test_nonce_of_an_error_is_used_as_well() -> None:
    with scripted(with_nonces(lambda *_: problem("malformed"))) as server:
        made = network(server)
        for _ in range(3):
            with pytest.raises(CARefused):
                made.post(server.url + "/x", {})
        assert server.asked("HEAD", "/nonce") == 1


def test_refused_nonce_is_answered_with_the_one_that_came_along() -> None:
    with scripted(with_nonces(lambda _m, _p, before: problem("badNonce") if before < 10 else (200, {}, b"{}"))) as server:
        assert network(server).post(server.url + "/x", {}).status == 200
        assert server.asked("POST", "/x") == 11
        assert server.asked("HEAD", "/nonce") == 1


def test_tries_with_refused_nonces_are_bounded() -> None:
    with scripted(with_nonces(lambda *_: problem("badNonce"))) as server:
        with pytest.raises(CARefused) as refused:
            network(server).post(server.url + "/x", {})
        assert refused.value.problem.type == "badNonce"
        assert server.asked("POST", "/x") == NONCE_TRIES + 1


def test_ca_that_gives_no_nonce_is_named() -> None:
    with scripted(lambda *_: (200, {}, b"")) as server, pytest.raises(UnexpectedAnswer, match="no nonce"):
        network(server).post(server.url + "/x", {})


@pytest.mark.parametrize("fault", [(503, {}, b"busy"), None], ids=["a 503", "a cut connection"])
def test_what_may_be_repeated_is_repeated(fault: Scripted) -> None:
    with scripted(with_nonces(lambda _m, _p, before: fault if before < 2 else (200, {}, b"{}"))) as server:
        made = network(server)
        assert made.get(server.url + "/a").status == 200
        assert made.post_as_get(server.url + "/b").status == 200
        assert made.post(server.url + "/c", {}, idempotent=True).status == 200


def test_new_order_is_never_sent_twice_after_a_fault() -> None:
    with scripted(with_nonces(lambda *_: (500, {}, b"oops"))) as server:
        with pytest.raises(CARefused) as refused:
            network(server).post(server.url + "/new-order", {})
        assert refused.value.exit_code == 75
        assert server.asked("POST", "/new-order") == 1


def test_ca_that_gives_no_nonce_for_an_error_is_asked_four_times_in_all() -> None:
    with scripted(lambda *_: None) as server:
        with pytest.raises(CAUnreachable):
            network(server).post_as_get(server.url + "/x")
        assert len(server.requests) == 4


def test_repeating_ends() -> None:
    with scripted(lambda *_: None) as server:
        with pytest.raises(CAUnreachable) as unreachable:
            Network().get(server.url + "/x")
        assert server.asked("GET", "/x") == 4
        assert unreachable.value.url == server.url + "/x"
        assert unreachable.value.exit_code == 75


def test_retry_after_of_a_5xx_is_waited_for_when_short_and_left_to_the_caller_when_long() -> None:
    with scripted(lambda _m, _p, before: (503, {"Retry-After": "1"}, b"") if before < 1 else (200, {}, b"")) as server:
        began = time.monotonic()
        assert Network().get(server.url).status == 200
        assert time.monotonic() - began >= 1
    with scripted(lambda *_: (503, {"Retry-After": "3600"}, b"")) as server:
        with pytest.raises(CARefused) as refused:
            Network().get(server.url + "/x")
        assert refused.value.retry_after == 3600
        assert server.asked("GET", "/x") == 1


def test_problem_document_is_kept_whole() -> None:
    sub = {"type": ERROR_PREFIX + "caa", "detail": "CAA forbids", "identifier": {"type": "dns", "value": "a.example"}}
    said = problem("rateLimited", 429, {"Retry-After": "120"}, subproblems=[sub], instance="https://ca.example/unpause")
    with scripted(lambda *_: said) as server, pytest.raises(CARefused) as refused:
        Network().get(server.url)
    error = refused.value
    assert (error.status, error.retry_after, error.problem.type) == (429, 120.0, "rateLimited")
    assert error.problem.subproblems[0].lines() == ["a.example: CAA forbids (caa)"]
    assert "https://ca.example/unpause" in error.hint
    assert "CAA forbids" in error.hint


@pytest.mark.parametrize(
    "document",
    [
        pytest.param([], id="a list"),
        pytest.param({"type": 3, "detail": None, "subproblems": {}}, id="fields of the wrong types"),
        pytest.param({"subproblems": [3, None, {}], "identifier": "x"}, id="subproblems that are none"),
        pytest.param({"type": "urn:ietf:params:acme:error:fromTheFuture", "detail": "new"}, id="a type of the future"),
    ],
)
def test_any_problem_document_can_be_read(document: object) -> None:
    assert all(problem_from(document).lines())


def test_words_of_the_ca_cannot_move_the_cursor_or_fill_the_log() -> None:
    lines = problem_from({"type": "x\x1b[2J", "detail": "a\nb\r" + "x" * 10**6}).lines()
    assert all(line.isprintable() and len(line) < 5000 for line in lines)


def test_reply_larger_than_any_acme_object_is_refused() -> None:
    with scripted(lambda *_: (200, {}, b"x" * (1 << 20) + b"y")) as server, pytest.raises(UnexpectedAnswer, match="more than"):
        Network().get(server.url)


def test_redirect_is_not_followed() -> None:
    with scripted(lambda *_: (302, {"Location": "/elsewhere"}, b"")) as server:
        assert Network().get(server.url + "/x").status == 302
        assert server.asked("GET", "/elsewhere") == 0


def reply(**headers: str) -> Reply:
    return Reply("http://ca.example/x", 200, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Warsaw", "America/New_York"])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"Retry_After": "120"}, 120, id="a number"),
        pytest.param({"Retry_After": "0"}, 0, id="zero"),
        pytest.param({"Retry_After": "9" * 400}, 999999999, id="a number with 400 digits"),
        pytest.param(
            {"Date": "Tue, 24 Nov 2026 12:00:00 GMT", "Retry_After": "Tue, 24 Nov 2026 12:02:00 GMT"}, 120, id="a date"
        ),
        pytest.param(
            {"Date": "Tue, 24 Nov 2026 12:00:00 GMT", "Retry_After": "Tue, 24 Nov 2026 11:00:00 GMT"}, 0, id="a past date"
        ),
        pytest.param({"Retry_After": "Tuesday"}, None, id="a word"),
        pytest.param({"Retry_After": "-5"}, None, id="a negative number"),
        pytest.param({"Retry_After": "Tue, 99 Nov 2026 12:02:00 GMT"}, None, id="a date that is none"),
        pytest.param({"Retry_After": "Fri, 31 Dec 9999 23:59:59 -2359"}, None, id="a date beyond all years"),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert reply(**headers).retry_after == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


def test_several_links_of_one_relation() -> None:
    made = reply(Link='<http://ca.example/a>;rel="alternate", </b>;rel="alternate", </up>;rel="up"')
    assert made.links("alternate") == ["http://ca.example/a", "http://ca.example/b"]


def test_location_that_is_no_url_is_an_unexpected_answer() -> None:
    with pytest.raises(UnexpectedAnswer, match="no URL"):
        _ = reply(Location="http://[::").location
    with pytest.raises(UnexpectedAnswer, match="without a Location"):
        _ = reply().location


DIRECTORY = {name: f"http://ca.example/{name}" for name in ("newNonce", "newAccount", "newOrder")}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param((404, {}, b"not here"), "HTTP 404", id="404"),
        pytest.param((200, {}, b"<html>Welcome to nginx!</html>"), "no JSON object", id="a web page"),
        pytest.param((200, {}, b"[]"), "no JSON object", id="a list"),
        pytest.param((200, {}, b"{}"), "no newNonce, newAccount, newOrder", id="an empty object"),
        pytest.param((200, {}, json.dumps(DIRECTORY | {"newOrder": 3}).encode()), "no newOrder", id="an URL that is a number"),
        pytest.param((200, {}, b'{"a":' * 10**5), "no JSON object", id="nested a hundred thousand deep"),
        pytest.param((301, {"Location": "/x"}, b""), "no JSON object", id="a redirect"),
    ],
)
def test_what_is_no_directory_is_a_wrong_option(answer: Scripted, says: str) -> None:
    with scripted(lambda *_: answer) as server, pytest.raises(ConfigurationError, match="no ACME directory") as wrong:
        acme_directory.fetch(Network(), server.url)
    assert says in str(wrong.value)


def test_busy_ca_is_not_taken_for_a_wrong_url() -> None:
    with scripted(lambda *_: (503, {"Retry-After": "600"}, b"")) as server, pytest.raises(CARefused) as refused:
        acme_directory.fetch(Network(), server.url)
    assert refused.value.exit_code == 75


def test_directory_with_strange_meta_is_still_a_directory() -> None:
    document = DIRECTORY | {
        "meta": {"profiles": [1], "termsOfService": 7, "externalAccountRequired": "yes"},
        "renewalInfo": None,
    }
    with scripted(lambda *_: (200, {}, json.dumps(document).encode())) as server:
        found = acme_directory.fetch(Network(), server.url)
    assert (found.profiles, found.terms, found.eab_required, found.renewal_info, found.clock_ahead) == ({}, "", False, "", None)


def test_clock_is_compared_with_the_cas() -> None:
    answer = (200, {"Date": "Tue, 24 Nov 2020 12:00:00 GMT"}, json.dumps(DIRECTORY).encode())
    with scripted(lambda *_: answer) as server:
        ahead = acme_directory.fetch(Network(), server.url).clock_ahead
    assert ahead is not None
    assert ahead > 365 * 24 * 3600


def test_closed_port_is_said_plainly() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/dir"
        with pytest.raises(CAUnreachable, match="refused") as unreachable:
            Network().get(url)
    assert "HTTPConnectionPool" not in str(unreachable.value)


def dripping(at_once: bytes, drop: bytes, pause: float, drops: int, end: bytes) -> Callable[[socket.socket], None]:
    """Answer one connection, for as long as it is there."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(at_once)
            for _ in range(drops):
                time.sleep(pause)
                connection.sendall(drop)
            connection.sendall(end)

    return serve


@contextmanager
def served(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        thread.join()


HEAD = b"HTTP/1.1 200 OK\r\n"
WAYS_TO_DRIP = [
    pytest.param(HEAD + b"Content-Length: 9000\r\n\r\n", b" ", id="the body"),
    pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", id="the chunks of the body"),
    pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0", id="the length of a chunk"),
    pytest.param(HEAD, b"X-Header: x\r\n", id="the headers"),
    pytest.param(HEAD, b"X", id="one header"),
    pytest.param(b"", b"H", id="the status line"),
]


@pytest.mark.parametrize(("at_once", "drop"), WAYS_TO_DRIP)
@pytest.mark.parametrize("proxied", [False, True], ids=["by the CA", "by a proxy"])
def test_reply_that_drips_is_given_up(at_once: bytes, drop: bytes, proxied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module, "TIMEOUT", 0.3)
    monkeypatch.setattr(network_module, "FAULT_TRIES", 1)
    with served(dripping(at_once, drop, 0.1, 50, b"")) as url:
        if proxied:
            monkeypatch.setenv("http_proxy", url)
        began = time.monotonic()
        with pytest.raises(CAUnreachable, match=r"the reply did not end within 0\.9 s"):
            Network().get("http://ca.example/x" if proxied else url)
        assert 0.8 < time.monotonic() - began < 4


def test_reply_that_takes_longer_than_a_part_of_it_may_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module, "TIMEOUT", 1.0)
    with served(dripping(HEAD + b"Content-Length: 16\r\n\r\n", b" ", 0.1, 14, b"{}")) as url:
        assert Network().get(url).json() == {}


def test_ca_bundle_that_is_not_there_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises((CAUnreachable, ConfigurationError), match="none"):
        Network(ca_bundle=tmp_path / "none.pem").get("https://127.0.0.1:9/dir")


def test_key_authorization_is_token_and_thumbprint() -> None:
    made = Network()
    made.sign_as(load_key(new_key()), None)
    token, _, thumbprint = made.key_authorization("abc").partition(".")
    assert (token, len(thumbprint)) == ("abc", 43)


def test_ca_with_a_limit_for_all_requests_is_asked_no_faster_by_several_networks() -> None:
    times: list[float] = []

    def answer(*_: object) -> Scripted:
        times.append(time.monotonic())
        return 200, {}, b"{}"

    with scripted(answer) as server:
        pace = Pace(5)
        networks = [Network(pace=pace) for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda number: networks[number % 3].get(server.url + "/x"), range(12)))
    times.sort()
    # A request may be on its way for longer than the next one.
    assert all(later - earlier > 0.8 for earlier, later in zip(times, times[5:], strict=False)), times
    assert times[4] - times[0] < 0.8, "the first five do not wait"
    assert times[-1] - times[0] >= 1.8


def test_process_has_one_pace_for_each_ca() -> None:
    assert shared("a", 20) is shared("a", 20)
    assert shared("a", 20) is not shared("b", 20)
