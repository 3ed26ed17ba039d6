"""The self-check, over real sockets: what it accepts, what it finds wrong, and how it says which layer answered."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scripted_server import Scripted, scripted

from acme_middleware.issuance.self_check import Finding, check

TOKEN = "a-token_1"
ANSWER = f"{TOKEN}." + "T" * 43
PATH = f"/.well-known/acme-challenge/{TOKEN}"


def look(answer: Scripted) -> Finding:
    with scripted(lambda *_: answer) as server:
        return check("example.com", TOKEN, ANSWER, via=f"127.0.0.1:{server.port}")


@pytest.mark.parametrize("tail", [b"", b"\n", b"\r\n", b"  "], ids=["exactly", "a newline", "CRLF", "blanks"])
def test_token_is_found(tail: bytes) -> None:
    assert look((200, {}, ANSWER.encode() + tail)) == Finding(served=True)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param((404, {"Server": "nginx"}, b""), "404, an empty page (no type; Server: nginx)", id="404, and who says so"),
        pytest.param(
            (404, {"Content-Type": "text/html; charset=x"}, b"<html><TITLE>Welcome to nginx!</title>"),
            'a page of 38 bytes (text/html; "Welcome to nginx!")',
            id="404 with a page, and its title",
        ),
        pytest.param((400, {}, b"Bad Request (400)"), "400, a page of 17 bytes", id="400, as of a host check"),
        pytest.param((200, {}, b"other"), "200, a page of 5 bytes", id="another body"),
        pytest.param((200, {}, ANSWER.encode() + b"x"), "200, a page", id="a body that goes on"),
        pytest.param((200, {}, b"x" * (1 << 20)), "more than 65,536 bytes", id="a body of a megabyte"),
        pytest.param((503, {}, b""), "503", id="503"),
        pytest.param(
            (301, {"Location": "https://example.com/x"}, b""), "a redirect to https://example.com/x", id="redirect to https"
        ),
        pytest.param((302, {"Location": PATH}, b""), "more than 10 times", id="redirect loop"),
        pytest.param((302, {"Location": "http://example.com:8080/"}, b""), "a CA does not go", id="redirect to another port"),
        pytest.param((302, {"Location": "ftp://example.com/"}, b""), "a CA does not go", id="redirect to another scheme"),
        pytest.param((302, {"Location": "http://[::"}, b""), "leads nowhere", id="redirect to no URL"),
        pytest.param((303, {"Location": PATH}, b""), "303", id="303, which a CA does not follow"),
        pytest.param(None, "no HTTP", id="cut connection"),
    ],
)
def test_wrong_answer_is_described(answer: Scripted, says: str) -> None:
    finding = look(answer)
    assert not finding.served
    assert says in finding.wrong


def test_redirect_is_followed_as_the_ca_does() -> None:
    answers: dict[str, Scripted] = {
        PATH: (301, {"Location": "http://www.example.com/moved?x=1"}, b""),
        "/moved?x=1": (200, {}, ANSWER.encode()),
    }
    with scripted(lambda _m, path, _n: answers[path]) as server:
        assert check("example.com", TOKEN, ANSWER, via=f"127.0.0.1:{server.port}").served


def test_nobody_listening_is_no_answer_rather_than_a_wrong_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        finding = check("example.com", TOKEN, ANSWER, via=f"127.0.0.1:{taken.getsockname()[1]}")
    assert not finding.wrong
    assert "refused" in finding.silent


def test_name_that_does_not_resolve_is_no_answer() -> None:
    finding = check("no-such-name.invalid", TOKEN, ANSWER)
    assert not finding.wrong
    assert "does not resolve" in finding.silent


@contextmanager
def dripping(part: bytes, begin: bytes) -> Iterator[int]:
    """A server that sends ``begin``, then ``part`` twenty times a second for ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    connection.sendall(begin)
                    while not ended.wait(0.05):
                        connection.sendall(part)
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    ("part", "begin"),
    [
        pytest.param(b"x", b"HTTP/1.1 200 OK\r\n\r\n", id="a body that never ends"),
        pytest.param(b"X-A: b\r\n", b"HTTP/1.1 200 OK\r\n", id="headers that never end"),
        pytest.param(b"x", b"", id="a status line that never ends"),
    ],
)
def test_server_that_drips_is_given_up_after_five_seconds(part: bytes, begin: bytes) -> None:
    with dripping(part, begin) as port:
        began = time.monotonic()
        finding = check("example.com", TOKEN, ANSWER, via=f"127.0.0.1:{port}")
        assert time.monotonic() - began < 7
        assert not finding.served
        assert finding.wrong or finding.silent


def test_answer_of_control_characters_cannot_reach_the_terminal() -> None:
    finding = look((404, {"Server": "x\x1b[2J"}, b"<title>\x1b[31m\x07</title>"))
    assert finding.wrong.isprintable()


def test_via_that_is_no_host_is_no_answer() -> None:
    assert "does not resolve" in check("example.com", TOKEN, ANSWER, via="a..b:80").silent


@pytest.mark.parametrize("family", ["127.0.0.1", "[::1]"])
def test_via_may_be_an_address_of_either_family(family: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        finding = check("2001:db8::1", TOKEN, ANSWER, via=f"{family}:{taken.getsockname()[1]}")
    assert "no answer from" in finding.silent
