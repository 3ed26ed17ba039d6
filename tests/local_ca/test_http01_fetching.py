"""How the CA fetches tokens: over real sockets, from where it was told that names are, with a public CA's limits."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from ca_lab import PREFIX, Lab
from raw_acme import Client
from scripted_server import Scripted, Server, scripted

Responder = Callable[[str, str], Scripted]


class Answers:
    """A server whose answers are made when the key authorization is known: ``{0}`` is it."""

    def __init__(self, stack: ExitStack, answer: Responder) -> None:
        self.key_authorization = ""
        self.server: Server = stack.enter_context(scripted(lambda method, path, before: answer(path, self.key_authorization)))

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server.port}"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def validate(lab: Lab, answers: Answers | None, identifier: tuple[str, str] = ("dns", "site.test")) -> dict[str, Any]:
    """The challenge of a new order, when the CA has looked."""
    client = lab.client()
    challenge = pending(client, identifier)
    if answers is not None:
        answers.key_authorization = client.key_authorization(challenge["token"])
    client.post(challenge["url"], {}).ok()
    return client.poll(challenge["url"], until=lambda found: found["status"] in ("valid", "invalid"))


def pending(client: Client, identifier: tuple[str, str]) -> dict[str, Any]:
    kind, value = identifier
    request = {"identifiers": [{"type": kind, "value": value}]}
    order = client.post(client.directory["newOrder"], request).ok(201).json()
    [challenge] = client.post(order["authorizations"][0]).ok().json()["challenges"]
    assert isinstance(challenge, dict)
    return challenge


def said(body: bytes | str, status: int = 200, **headers: str) -> Scripted:
    return (
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
        body if isinstance(body, bytes) else body.encode(),
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(lambda path, right: said(right), "", id="exactly the key authorization"),
        pytest.param(lambda path, right: said(right + " \r\n\t\n"), "", id="white space after it"),
        pytest.param(lambda path, right: said(right, Content_Type="text/html"), "", id="any content type"),
        pytest.param(lambda path, right: said(" " + right), "not the key authorization", id="white space before it"),
        pytest.param(lambda path, right: said(right + "x"), "not the key authorization", id="more after it"),
        pytest.param(lambda path, right: said(right[:-1]), "not the key authorization", id="less than it"),
        pytest.param(lambda path, right: said(right + " " * 41), "128 bytes and more", id="128 bytes with white space"),
        pytest.param(lambda path, right: said(right + " " * 40), "", id="127 bytes with white space"),
        pytest.param(lambda path, right: said(b"\xff" * 10_000), "128 bytes and more", id="10 kB of rubbish"),
        pytest.param(lambda path, right: said(b"\xff\x00"), "not the key authorization", id="bytes that are no text"),
        pytest.param(lambda path, right: said(right, 201), "201", id="status 201"),
        pytest.param(lambda path, right: said(right, 404), "404", id="status 404"),
        pytest.param(lambda path, right: said(right, 500), "500", id="status 500"),
        pytest.param(lambda path, right: said(right, 303, Location="/x"), "303", id="a redirect by 303 is not followed"),
        pytest.param(lambda path, right: None, "127.0.0.1", id="the connection ends without an answer"),
    ],
)
def test_answer_decides(lab: Lab, stack: ExitStack, answer: Responder, reason: str) -> None:
    answers = Answers(stack, answer)
    lab.start(resolve={"*": answers.place}, perspectives=3)
    challenge = validate(lab, answers)
    assert challenge["status"] == ("invalid" if reason else "valid")
    if reason:
        assert reason in challenge["error"]["detail"]
        assert challenge["error"]["type"].rpartition(":")[2] in ("unauthorized", "connection")
        assert len(answers.server.requests) == 1
    else:
        assert answers.server.requests == [("GET", PREFIX + challenge["token"])] * 3
        assert challenge["validated"]


def test_host_header_is_the_name_and_nothing_else(lab: Lab) -> None:
    seen: list[str] = []
    with listening(lambda head: seen.append(head) or b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as port:  # type: ignore[func-returns-value]
        lab.start(resolve={"shop.site.test": f"127.0.0.1:{port}"})
        validate(lab, None, ("dns", "shop.site.test"))
    lines = seen[0].split("\r\n")
    assert lines[0].startswith(f"GET {PREFIX}")
    assert lines[0].endswith(" HTTP/1.1")
    assert [line for line in lines if line.lower().startswith("host:")] == ["Host: shop.site.test"]
    assert any(line.startswith("User-Agent: acme-middleware local CA") for line in lines)


@pytest.mark.parametrize(
    ("address", "host"),
    [pytest.param("192.0.2.7", "192.0.2.7", id="IPv4"), pytest.param("2001:db8::7", "[2001:db8::7]", id="IPv6")],
)
def test_host_of_an_address_is_the_address(lab: Lab, address: str, host: str) -> None:
    seen: list[str] = []
    with listening(lambda head: seen.append(head) or b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as port:  # type: ignore[func-returns-value]
        lab.start(resolve={address: f"127.0.0.1:{port}"})
        validate(lab, None, ("ip", address))
    assert f"\r\nHost: {host}\r\n" in seen[0]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_followed(lab: Lab, stack: ExitStack, status: int) -> None:
    def answer(path: str, right: str) -> Scripted:
        if path.startswith(PREFIX):
            return said(b"", status, Location=f"http://www.site.test:80/elsewhere{path}?a=b")
        return said(right) if path.endswith("?a=b") else said(b"", 404)

    answers = Answers(stack, answer)
    lab.start(resolve={"site.test": answers.place, "www.site.test": answers.place})
    assert validate(lab, answers)["status"] == "valid"


def test_redirect_to_a_path_that_is_not_ascii_is_followed(lab: Lab, stack: ExitStack) -> None:
    def answer(path: str, right: str) -> Scripted:
        return said(right) if path.isascii() and "%" in path else said(b"", 302, Location="/fa\u00e7ade?x=\u00fc y")

    answers = Answers(stack, answer)
    lab.start(resolve={"*": answers.place})
    assert validate(lab, answers)["status"] == "valid"


@pytest.mark.parametrize(
    ("count", "status"), [pytest.param(10, "valid", id="10 are followed"), pytest.param(11, "invalid", id="11 are too many")]
)
def test_number_of_redirects_is_limited(lab: Lab, stack: ExitStack, count: int, status: str) -> None:
    def answer(path: str, right: str) -> Scripted:
        done = int(path.partition("?")[2] or 0)
        return said(right) if done == count else said(b"", 302, Location=f"?{done + 1}")

    answers = Answers(stack, answer)
    lab.start(resolve={"*": answers.place})
    assert validate(lab, answers)["status"] == status


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        pytest.param("http://site.test:8080/", "only the ports 80 and 443", id="another port"),
        pytest.param("ftp://site.test/", "only http and https", id="another scheme"),
        pytest.param("http://unknown.test/", "was not told where unknown.test is", id="a name that nobody knows"),
        pytest.param("https://site.test/", "was not told where site.test:443 is", id="https that nobody serves"),
        pytest.param("http://[::1/", "no URL", id="no URL at all"),
        pytest.param("http://site.test:80:80/", "no URL", id="two ports"),
        pytest.param("http://b\u00fccher.test/", "was not told where", id="a name that is not ASCII"),
    ],
)
def test_redirect_that_leads_nowhere_is_told(lab: Lab, stack: ExitStack, location: str, reason: str) -> None:
    answers = Answers(stack, lambda path, right: said(b"", 302, Location=location))
    lab.start(resolve={"site.test": answers.place})
    challenge = validate(lab, answers)
    assert challenge["status"] == "invalid"
    assert reason in challenge["error"]["detail"]


def test_redirect_to_https_is_followed_whatever_its_certificate(lab: Lab, stack: ExitStack) -> None:
    redirecting = Answers(stack, lambda path, right: said(b"", 301, Location=f"https://site.test{path}"))
    with Lab(lab.state) as other:
        # Any TLS server does; the CA's own is at hand, and answers 404.
        port = other.start(resolve={}).port
        lab.start(resolve={"site.test": redirecting.place, "site.test:443": f"127.0.0.1:{port}"})
        challenge = validate(lab, redirecting)
        assert challenge["error"]["detail"].endswith(": 404")
        assert [entry.status for entry in other.ca.requests("")] == [404]


def test_plain_http_where_tls_should_be_is_a_tls_problem(lab: Lab, stack: ExitStack) -> None:
    plain = Answers(stack, lambda path, right: said(b"", 301, Location=f"https://site.test{path}"))
    lab.start(resolve={"site.test": plain.place, "site.test:443": plain.place})
    assert validate(lab, plain)["error"]["type"].endswith(":tls")


def test_name_that_the_ca_was_not_told_of_is_a_dns_problem(lab: Lab) -> None:
    lab.start(resolve={"other.test": "127.0.0.1:1"})
    problem = validate(lab, None)["error"]
    assert problem["type"].endswith(":dns")
    assert "--resolve site.test=ADDRESS:PORT" in problem["detail"]


def test_port_that_nobody_listens_on_is_a_connection_problem(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    lab.start(resolve={"*": f"127.0.0.1:{port}"})
    problem = validate(lab, None)["error"]
    assert problem["type"].endswith(":connection")
    assert "refused" in problem["detail"]


def test_site_that_does_not_answer_is_given_up(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        lab.start(resolve={"*": f"127.0.0.1:{server.getsockname()[1]}"}, validation_timeout=0.3)
        began = time.monotonic()
        problem = validate(lab, None)["error"]
    assert problem["type"].endswith(":connection")
    assert "no answer within" in problem["detail"]
    assert time.monotonic() - began < 5


def test_site_that_does_not_answer_does_not_keep_the_ca(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ca = lab.start(resolve={"*": f"127.0.0.1:{server.getsockname()[1]}"}, validation_timeout=60)
        client = lab.client()
        client.post(pending(client, ("dns", "site.test"))["url"], {}).ok()
        connection, _ = server.accept()
        with connection:
            assert connection.recv(3) == b"GET"
            began = time.monotonic()
            ca.stop()
    assert time.monotonic() - began < 10


def test_ipv6_is_asked_first_and_ipv4_when_nobody_is_there(lab: Lab, stack: ExitStack) -> None:
    answers = Answers(stack, lambda path, right: said(right))
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        closed = server.getsockname()[1]
    lab.start(resolve={"*": [answers.place, f"[::1]:{closed}"]})
    assert validate(lab, answers)["status"] == "valid"


def test_ipv4_is_not_asked_where_ipv6_has_answered(lab: Lab, stack: ExitStack) -> None:
    answers = Answers(stack, lambda path, right: said(right))
    with listening(lambda head: b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "::1") as port:
        lab.start(resolve={"*": [answers.place, f"[::1]:{port}"]})
        challenge = validate(lab, answers)
    assert "::1: invalid response" in challenge["error"]["detail"]
    assert answers.server.requests == []


def test_name_of_its_own_comes_before_the_star(lab: Lab, stack: ExitStack) -> None:
    right, wrong = (Answers(stack, lambda path, text: said(text)) for _ in range(2))
    lab.start(resolve={"*": wrong.place, "site.test": right.place})
    assert validate(lab, right)["status"] == "valid"
    assert wrong.server.requests == []


def test_where_a_name_is_may_change_while_the_ca_runs(lab: Lab, stack: ExitStack) -> None:
    answers = Answers(stack, lambda path, right: said(right))
    lab.start(resolve={}).resolve["site.test"] = answers.place
    assert validate(lab, answers)["status"] == "valid"


def test_perspectives_that_see_something_else_fail_the_validation(lab: Lab, stack: ExitStack) -> None:
    looks: list[str] = []

    def answer(path: str, right: str) -> Scripted:
        looks.append(path)
        return said(right) if len(looks) < 3 else said(b"", 404)

    answers = Answers(stack, answer)
    lab.start(resolve={"*": answers.place}, perspectives=4)
    challenge = validate(lab, answers)
    assert challenge["status"] == "invalid"
    assert challenge["error"]["detail"].startswith("during secondary validation: 127.0.0.1")
    assert len(looks) == 4


def test_app_in_this_process_is_asked_without_a_socket(lab: Lab) -> None:
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(environ)
        start_response("404 Not Found", [])
        return [b""]

    lab.start(resolve={"*": app})
    challenge = validate(lab, None)
    assert challenge["error"]["detail"].startswith("the app in this process: invalid response")
    assert seen[0]["PATH_INFO"] == PREFIX + challenge["token"]
    assert seen[0]["HTTP_HOST"] == "site.test"
    assert seen[0]["wsgi.url_scheme"] == "http"


def test_app_that_raises_fails_the_validation_and_is_logged(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        raise LookupError("no such page")

    lab.start(resolve={"*": app})
    challenge = validate(lab, None)
    assert challenge["status"] == "invalid"
    assert "LookupError('no such page')" in challenge["error"]["detail"]
    assert "the app in this process" in caplog.text


def test_validation_waits_as_long_as_it_was_told_to(lab: Lab, stack: ExitStack) -> None:
    answers = Answers(stack, lambda path, right: said(right))
    lab.start(resolve={"*": answers.place}, validation_delay=0.4)
    client = lab.client()
    challenge = pending(client, ("dns", "site.test"))
    answers.key_authorization = client.key_authorization(challenge["token"])
    assert client.post(challenge["url"], {}).ok().json()["status"] == "processing"
    assert client.post(challenge["url"]).ok().json()["status"] == "processing"
    assert answers.server.requests == []
    client.poll(challenge["url"], until=lambda found: found["status"] == "valid")


def test_25_names_are_validated_side_by_side(lab: Lab, stack: ExitStack) -> None:
    tokens: dict[str, bytes] = {}

    def answer(path: str, right: str) -> Scripted:
        time.sleep(0.1)
        return said(tokens[path.removeprefix(PREFIX)])

    answers = Answers(stack, answer)
    lab.start(resolve={"*": answers.place}, perspectives=3)
    client = lab.client()
    placed = client.new_order(*(f"n{number}.test" for number in range(25))).ok(201)
    for _, authorization in lab.authorizations(client, placed.json()):
        [challenge] = authorization["challenges"]
        tokens[challenge["token"]] = client.key_authorization(challenge["token"]).encode()
        client.post(challenge["url"], {}).ok()
    began = time.monotonic()
    client.poll(placed.location, until=lambda order: order["status"] == "ready")
    # One after the other they would take 7.5 s.
    assert time.monotonic() - began < 4
    assert len(answers.server.requests) == 75


@contextmanager
def listening(answer: Callable[[str], bytes], address: str = "127.0.0.1") -> Iterator[int]:
    """A server that shows the head of each request as it came; yields its port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    head = b""
                    while b"\r\n\r\n" not in head and (part := connection.recv(4096)):
                        head += part
                    connection.sendall(answer(head.decode()))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
