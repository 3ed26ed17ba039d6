"""A Tornado site over real sockets: nothing of it comes between the CA and a token, and nothing else changes for it."""

import asyncio
import gzip
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from loading import needless_imports
from serving import get, raw_request
from tornado.httpclient import HTTPRequest
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.web import Application
from tornado.websocket import websocket_connect
from tornado_acme_middleware import AcmeRouter
from tornado_talk import talk, tornado

from acme_middleware.errors import ConfigurationError, StoreMisconfigured
from acme_middleware.stores import open_challenges

PREFIX = "/.well-known/acme-challenge/"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ANSWER = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI".encode()
HTTPS = {"X-Forwarded-Proto": "https"}

SURFACES = {
    "one process": "one",
    "two processes, forked after the router has answered": "forked",
    "two processes, by bind() and start(2)": "started",
    "a router in a router": "one:twice",
}


class Surface:
    def __init__(self, folder):
        self.url = f"file://{folder / 'state'}"
        self.public = folder / "public"
        self.public.mkdir()
        (folder / "secret").write_text("not for anybody")
        (self.public / "from-another-client").write_text("from-another-client.thumbprint")
        open_challenges(self.url).present(TOKEN, ANSWER.decode(), ttl=3600)
        self.env = {"CHALLENGES": self.url, "FOLDER": str(self.public)}


@pytest.fixture(scope="module", params=SURFACES.values(), ids=SURFACES)
def server(request, tmp_path_factory):
    with tornado(request.param, env=Surface(tmp_path_factory.mktemp("site")).env) as server:
        yield server


@pytest.fixture(scope="module")
def surface(tmp_path_factory):
    return Surface(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def site(surface):
    """One process."""
    with tornado("one", env=surface.env) as server:
        yield server


def test_over_http_a_token_is_answered_and_any_other_page_redirects(server):
    reply = get(server, PREFIX + TOKEN, host="www.example.com")
    assert (reply.status, reply.body, reply.header("Location")) == (200, ANSWER, None)
    for target in ("/", "/page?a=b", PREFIX, "/.well-known/other"):
        page = get(server, target, host="www.example.com")
        if target == PREFIX:  # the seed's line takes it: a folder has no page there
            assert page.status == 403
        else:
            assert (page.status, page.header("Location")) == (301, f"https://www.example.com{target}")


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("www.example.com", id="a host that has handlers"),
        pytest.param("other.example", id="a host that has none"),
        pytest.param("www.example.com:80", id="with a port"),
        pytest.param("192.0.2.1", id="an IPv4 address"),
        pytest.param("[2001:db8::1]", id="an IPv6 address"),
        pytest.param("a/b", id="no name at all"),
        pytest.param("", id="an empty Host"),
        pytest.param(None, id="HTTP/1.0 without Host"),
    ],
)
def test_any_host_may_ask_for_a_token(server, host):
    reply = get(server, PREFIX + TOKEN, host=host)
    assert (reply.status, reply.body) == (200, ANSWER)


def test_hosts_still_have_their_own_handlers_and_the_default_host_its(site):
    assert get(site, "/", host="example.com", headers=HTTPS).body.startswith(b"page: GET / ")
    assert get(site, "/", host="other.example", headers=HTTPS).body.startswith(b"page: GET / ")  # default_host
    # Behind a proxy that says so, Tornado has no default host.
    behind = {**HTTPS, "X-Real-Ip": "192.0.2.7"}
    assert get(site, "/", host="other.example", headers=behind).status == 404


def test_the_answer_has_its_headers_and_none_of_the_site(server):
    reply = get(server, PREFIX + TOKEN)
    assert reply.header("Content-Length") == str(len(ANSWER))
    assert reply.header("Content-Type") == "application/octet-stream"
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert reply.header("Cache-Control") == "no-store"
    assert reply.header("Date")
    assert reply.headers.keys() == {
        "cache-control", "connection", "content-length", "content-type", "date", "x-content-type-options"
    }  # fmt: skip


def test_a_head_has_the_headers_of_a_get_and_no_body(server):
    head, reply = get(server, PREFIX + TOKEN, method="HEAD"), get(server, PREFIX + TOKEN)
    assert (head.status, head.body) == (200, b"")
    assert head.headers.keys() == reply.headers.keys()
    assert head.header("Content-Length") == reply.header("Content-Length")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_other_methods_are_the_apps(server, method):
    # StaticFileHandler has none of them.
    assert get(server, PREFIX + TOKEN, method=method, host="example.com", headers={"Content-Length": "0"}).status == 405


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(PREFIX + "../secret", id="up"),
        pytest.param(PREFIX + "../../secret", id="further up"),
        pytest.param(PREFIX + "..%2fsecret", id="up, encoded"),
        pytest.param(PREFIX + "%2e%2e/secret", id="dots, encoded"),
        pytest.param(PREFIX + "%2Fetc%2Fhostname", id="an absolute path"),
        pytest.param(PREFIX + TOKEN + "%0A", id="a line end"),
        pytest.param(PREFIX + "%FF%FE", id="no UTF-8"),
        pytest.param(PREFIX + "%", id="half an escape"),
        pytest.param(PREFIX + "a" * 10_000, id="10 kB"),
        pytest.param(PREFIX + "t\xf6ken", id="a byte that no target may have"),
        pytest.param(PREFIX + TOKEN + "/", id="a slash behind the token"),
        pytest.param(PREFIX + ".expires-" + TOKEN, id="the store's own file"),
    ],
)
def test_what_is_no_token_gets_what_the_apps_own_routes_say(site, target):
    reply = get(site, target, host="www.example.com")
    assert reply.status in (301, 400, 403, 404)
    assert b"not for anybody" not in reply.body
    assert ANSWER not in reply.body


@pytest.mark.parametrize(
    ("line", "body"),
    [
        pytest.param(f"GET {PREFIX}%65vaGx{TOKEN[5:]} HTTP/1.1", ANSWER, id="an encoded letter of the token"),
        pytest.param(f"GET /%2Ewell-known/acme%2Dchallenge/{TOKEN} HTTP/1.1", ANSWER, id="encoded letters of the path"),
        pytest.param(f"GET {PREFIX}{TOKEN}?a=b HTTP/1.1", ANSWER, id="a query"),
        pytest.param(f"GET http://other.example{PREFIX}{TOKEN} HTTP/1.1", ANSWER, id="an absolute target"),
        pytest.param(
            f"GET HTTPS://other.example:8443{PREFIX}{TOKEN}?a=b HTTP/1.1", ANSWER, id="an absolute one of another kind"
        ),
        pytest.param(f"GET /{PREFIX}{TOKEN} HTTP/1.1", b"", id="two slashes first"),
        pytest.param(f"GET /?{PREFIX}{TOKEN} HTTP/1.1", b"", id="only in the query"),
        pytest.param(f"GET http:{PREFIX}{TOKEN} HTTP/1.1", b"", id="a scheme and no host"),
        pytest.param("GET http://other.example HTTP/1.1", b"", id="an absolute target without a path"),
        pytest.param("GET * HTTP/1.1", b"", id="an asterisk"),
    ],
)
def test_a_target_is_read_as_other_servers_read_it(site, line, body):
    reply = raw_request(site, f"{line}\r\nHost: www.example.com\r\nConnection: close\r\n\r\n".encode())
    if body:
        assert (reply.status, reply.body) == (200, body)
    else:
        assert reply.status in (301, 404)  # the wildcard route has all that begin with a slash


def test_an_unknown_token_is_for_the_seeds_own_line(server):
    reply = get(server, PREFIX + "from-another-client", host="www.example.com")
    assert (reply.status, reply.body) == (200, b"from-another-client.thumbprint")
    assert get(server, PREFIX + "unknown", host="www.example.com").status == 404


def test_one_connection_mixes_tokens_and_pages(server):
    with talk(server) as connection:
        for _ in range(20):
            assert connection.ask("GET", PREFIX + TOKEN).body == ANSWER
            page = connection.ask("POST", "/page", "X-Forwarded-Proto: https", body=b"12345")
            assert page.body.startswith(b"page: POST /page for 127.0.0.1 at ")
            assert page.body.endswith(b" body=5")
            assert connection.ask("HEAD", PREFIX + TOKEN).header("Content-Length") == str(len(ANSWER))
            assert connection.ask("GET", PREFIX + TOKEN, body=b"a GET with a body").body == ANSWER
            assert connection.ask("GET", PREFIX + "from-another-client", body=b"abc").status == 200
            assert connection.ask("GET", "/page").status == 301


def test_an_http_1_0_connection_is_kept_when_asked_for(server):
    with talk(server) as connection:
        for _ in range(3):
            connection.socket.sendall(f"GET {PREFIX}{TOKEN} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode())
            assert connection.receive().body == ANSWER


@pytest.mark.parametrize(
    "body", ["Content-Length: 5\r\n\r\nabcde", "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"]
)
def test_a_token_is_answered_when_its_body_has_come(site, body):
    with talk(site) as connection:
        for _ in range(2):
            connection.socket.sendall(f"GET {PREFIX}{TOKEN} HTTP/1.1\r\nHost: x\r\n{body}".encode())
            assert connection.receive().body == ANSWER


def test_pipelined_requests_are_answered_in_their_order(server):
    with talk(server) as connection:
        asked = [
            ("GET", PREFIX + TOKEN),
            ("GET", "/a"),
            ("HEAD", PREFIX + TOKEN),
            ("GET", PREFIX + "unknown"),
            ("POST", "/b"),
        ] * 10
        connection.socket.sendall(
            b"".join(
                f"{method} {target} HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 2\r\n\r\nxy".encode()
                for method, target in asked
            )
        )
        replies = [connection.receive(method) for method, _ in asked]
    locations = [reply.header("Location") for reply in replies]
    assert [reply.status for reply in replies] == [200, 301, 200, 404, 301] * 10
    assert locations == [None, "https://www.example.com/a", None, None, "https://www.example.com/b"] * 10
    assert [reply.body for reply in replies[0::5]] == [ANSWER] * 10


@pytest.mark.parametrize(
    "path", [pytest.param("/socket", id="a path of the app"), pytest.param(PREFIX + "socket", id="one below our prefix")]
)
def test_websockets_are_the_apps(server, path):
    async def chat():
        request = HTTPRequest(f"ws://127.0.0.1:{server.port}{path}", headers={"Host": "www.example.com"})
        socket = await websocket_connect(request)
        echoed = []
        for message in ("first", "x" * 100_000, "last"):
            await socket.write_message(message)
            echoed.append(await socket.read_message())
        socket.close()
        assert await socket.read_message() is None  # the other side has closed it too
        return echoed

    assert asyncio.run(chat()) == ["first", "x" * 100_000, "last"]
    assert get(server, PREFIX + TOKEN).body == ANSWER


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("POST", "/upload", id="a path of the app"),
        pytest.param("POST", PREFIX + "upload", id="a POST below our prefix"),
        pytest.param("GET", PREFIX + "upload", id="a GET of a token that we do not have"),
    ],
)
def test_bodies_stream_to_the_app(server, method, path):
    body = b"x" * 3_000_000
    with talk(server) as connection:
        assert connection.ask(method, path, body=body).body == b"upload: 3000000 bytes, streamed: True"
        assert connection.ask("GET", PREFIX + TOKEN).body == ANSWER
        assert connection.ask(method, path, body=body).body == b"upload: 3000000 bytes, streamed: True"


@pytest.mark.parametrize("target", [pytest.param(PREFIX + TOKEN, id="a token"), pytest.param("/upload", id="the app's")])
def test_who_asks_first_whether_to_send_a_body_is_told_to(site, target):
    with talk(site) as connection:
        connection.send("GET", target, "Content-Length: 5", "Expect: 100-continue")
        assert connection._until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        connection.socket.sendall(b"12345")
        assert connection.receive().body in (ANSWER, b"upload: 5 bytes, streamed: False")
        assert connection.ask("GET", PREFIX + TOKEN).body == ANSWER


def test_compressed_bodies_are_decompressed_for_the_app(site):
    body = gzip.compress(b"x" * 1000)
    with talk(site) as connection:
        page = connection.ask("POST", "/page", "Content-Encoding: gzip", "X-Forwarded-Proto: https", body=body)
        assert page.body.endswith(b" body=1000")
        assert connection.ask("GET", PREFIX + TOKEN, "Content-Encoding: gzip", body=body).body == ANSWER


def test_the_proxys_word_on_the_client_is_taken_for_one_request_only(site):
    with talk(site) as connection:
        connection.ask("GET", PREFIX + TOKEN, "X-Real-Ip: 192.0.2.1", "User-Agent: a CA")
        page = connection.ask("GET", "/page", "X-Forwarded-Proto: https")
        connection.ask("GET", PREFIX + TOKEN, "User-Agent: another")
        forwarded = connection.ask("GET", "/page", "X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.9")
    assert b" for 127.0.0.1 " in page.body
    assert b" for 192.0.2.9 " in forwarded.body
    assert f"acme_middleware.responder answered challenge {TOKEN} for 192.0.2.1 ('a CA')" in site.log()
    assert f"acme_middleware.responder answered challenge {TOKEN} for 127.0.0.1 ('another')" in site.log()


def test_a_page_that_fails_is_the_apps_own_500(site):
    with talk(site) as connection:
        assert connection.ask("GET", "/fails").status == 500
        assert connection.ask("GET", PREFIX + TOKEN).body == ANSWER


def test_below_other_rules_it_answers_all_the_same(surface):
    with tornado("rules", env=surface.env) as server, talk(server) as connection:
        for _ in range(3):
            assert connection.ask("GET", PREFIX + TOKEN, host="other.example").body == ANSWER
            assert connection.ask("GET", "/page").status == 301
            assert connection.ask("GET", PREFIX + "from-another-client").status == 200


def test_both_processes_answer_what_another_process_presents(surface):
    with tornado("forked", env=surface.env) as server:
        script = f"from acme_middleware.stores import open_challenges as o; o({surface.url!r}).present('new', 'new.t', ttl=60)"
        subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
        with ThreadPoolExecutor(10) as pool:
            tokens = list(pool.map(lambda _: get(server, PREFIX + "new").body, range(50)))
            pages, deadline = set(), time.monotonic() + 20
            while len(pages) < 2 and time.monotonic() < deadline:  # which of them takes a connection is the kernel's to say
                pages |= set(pool.map(lambda _: get(server, "/", host="example.com", headers=HTTPS).body, range(50)))
    assert set(tokens) == {b"new.t"}
    assert len(pages) == 2


def test_it_answers_over_ipv6(surface):
    with tornado("one", env=surface.env, address="::1") as server:
        assert get(server, PREFIX + TOKEN).body == ANSWER
        assert f"answered challenge {TOKEN} for ::1" in server.log()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        pytest.param("function", b"function: GET /page?a body=3", id="a function of the request"),
        pytest.param("wsgi", b"wsgi: GET /page", id="a WSGI app"),
        pytest.param("server", b"page: GET /page?a for 127.0.0.1 at ", id="a server"),
        pytest.param("rules", b"page: GET /page?a for 127.0.0.1 at ", id="a router"),
    ],
)
def test_whatever_a_server_takes_can_be_wrapped(surface, what, said):
    with tornado(f"one:{what}", env=surface.env) as server, talk(server) as connection:
        for _ in range(3):
            assert connection.ask("GET", PREFIX + TOKEN).body == ANSWER
            assert connection.ask("GET", "/page?a", "X-Forwarded-Proto: https", body=b"123").body.startswith(said)
            assert connection.ask("GET", PREFIX + "unknown").body != ANSWER


def test_unknown_tokens_are_404_by_option_and_nothing_else_is(surface):
    with tornado("one", env={**surface.env, "ON_UNKNOWN": "404"}) as server, talk(server) as connection:
        for rest in ("unknown", "from-another-client", "un/known", "..%2f", "%FF", TOKEN + "%00"):
            reply = connection.ask("GET", PREFIX + rest)
            assert (reply.status, reply.body) == (404, b"unknown token\n")
        assert connection.ask("GET", PREFIX).status == 403
        assert connection.ask("GET", "/page").status == 301
        assert connection.ask("GET", PREFIX + TOKEN).body == ANSWER


def test_no_process_logs_an_error_that_is_not_the_pages(server):
    get(server, PREFIX + TOKEN)
    log = server.log()
    assert f"answered challenge {TOKEN}" in log
    for trace in ("Traceback", "LOG ERROR", "never retrieved", "never awaited"):
        assert trace not in log


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        pytest.param({"on_unknown": "403"}, ConfigurationError, "on_unknown is '403' but must be", id="on_unknown"),
        pytest.param({"store": "etcd://u:secret@h/x"}, StoreMisconfigured, "there is no store for etcd:", id="store"),
        pytest.param({"app": None}, ConfigurationError, "app is None but must be what HTTPServer takes", id="no app"),
        pytest.param({"app": [("/", Application)]}, ConfigurationError, "app is", id="routes without an app"),
    ],
)
def test_a_wrong_option_fails_when_the_router_is_made(options, error, words):
    given = {"app": Application(), "store": "memory:", **options}
    with pytest.raises(error, match=words) as caught:
        AcmeRouter(given.pop("app"), **given)
    assert "secret" not in str(caught.value)


def test_a_closed_connection_is_told_to_a_target_that_has_connections():
    class Noted(HTTPServerConnectionDelegate):
        closed = ()

        def on_close(self, server_conn):
            self.closed += (server_conn,)

    target, connection = Noted(), object()
    AcmeRouter(target, store="memory:").on_close(connection)
    assert target.closed == (connection,)
    AcmeRouter(lambda request: None, store="memory:").on_close(connection)  # a function knows of none


def test_a_web_worker_loads_nothing_that_only_issuing_needs():
    assert not needless_imports("tornado.web, tornado.httpserver", "tornado_acme_middleware")
