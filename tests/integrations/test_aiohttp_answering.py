"""aiohttp sites over real sockets: our middleware stands before redirects, host checks, slashes and catch-all routes."""

import asyncio

import pytest
from aiohttp import ClientSession
from aiohttp_acme_middleware import acme_middleware
from aiohttp_talk import aiohttp
from loading import needless_imports
from serving import get, gunicorn, raw_request
from tornado_talk import talk

from acme_middleware.errors import ConfigurationError, StoreMisconfigured
from acme_middleware.stores import open_challenges

PREFIX = "/.well-known/acme-challenge/"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ANSWER = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI".encode()
HTTPS = {"X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "public").mkdir()
    (folder / "public" / "from-another-client").write_text("from-another-client.thumbprint")
    (folder / "secret").write_text("not for anybody")
    url = f"file://{folder / 'state'}"
    open_challenges(url).present(TOKEN, ANSWER.decode(), ttl=3600)
    return {"CHALLENGES": url, "FOLDER": str(folder / "public")}


SURFACES = {
    "aiohttp": lambda env: aiohttp("site", env=env),
    "gunicorn, 2 workers": lambda env: gunicorn("aiohttp_apps:site()", "-w", "2", "-k", "aiohttp.GunicornWebWorker", env=env),
}


@pytest.fixture(scope="module", params=SURFACES)
def server(request, env):
    with SURFACES[request.param](env) as server:
        yield server


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("www.example.com", id="a host of the site"),
        pytest.param("other.example", id="another host"),
        pytest.param("192.0.2.1", id="an IPv4 address"),
        pytest.param("[2001:db8::1]:80", id="an IPv6 address with a port"),
        pytest.param("", id="an empty Host"),
        pytest.param(None, id="HTTP/1.0 without Host"),
    ],
)
def test_any_host_may_ask_for_a_token_and_for_nothing_else(server, host):
    reply = get(server, PREFIX + TOKEN, host=host)
    assert (reply.status, reply.body, reply.header("Location")) == (200, ANSWER, None)
    page = get(server, "/page", host=host)
    assert page.status == (301 if host == "www.example.com" else 400)


def test_the_answer_has_its_headers_and_is_never_compressed(server):
    reply = get(server, PREFIX + TOKEN, headers={"Accept-Encoding": "gzip", "Range": "bytes=0-9", "If-None-Match": "*"})
    assert (reply.status, reply.body) == (200, ANSWER)
    assert reply.header("Content-Length") == str(len(ANSWER))
    assert reply.header("Content-Type") == "application/octet-stream"
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert reply.header("Cache-Control") == "no-store"
    assert reply.header("Content-Encoding") is None
    page = get(server, "/page", host="www.example.com", headers={**HTTPS, "Accept-Encoding": "gzip"})
    assert page.header("Content-Encoding") == "gzip"


def test_a_head_has_the_headers_of_a_get_and_no_body(server):
    head, reply = get(server, PREFIX + TOKEN, method="HEAD"), get(server, PREFIX + TOKEN)
    assert (head.status, head.body) == (200, b"")
    assert head.headers.keys() == reply.headers.keys()
    assert head.header("Content-Length") == reply.header("Content-Length")
    assert head.header("Content-Type") == reply.header("Content-Type")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_the_apps(server, method):
    headers = {**HTTPS, "Content-Length": "0"}
    reply = get(server, PREFIX + TOKEN, method=method, host="www.example.com", headers=headers)
    assert reply.body != ANSWER
    assert reply.status in (200, 405)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(PREFIX + "../secret", id="up"),
        pytest.param(PREFIX + "..%2fsecret", id="up, encoded"),
        pytest.param(PREFIX + "%2e%2e/secret", id="dots, encoded"),
        pytest.param(PREFIX + "../acme-challenge/" + TOKEN, id="up and down again"),
        pytest.param(PREFIX + TOKEN + "%00", id="a NUL"),
        pytest.param(PREFIX + TOKEN + "%0A", id="a line end"),
        pytest.param(PREFIX + TOKEN + "%2F", id="an encoded slash behind the token"),
        pytest.param(PREFIX + TOKEN + "/", id="a slash behind the token"),
        pytest.param(PREFIX + "%FF%FE", id="no UTF-8"),
        pytest.param(PREFIX + "%", id="half an escape"),
        pytest.param(PREFIX + "%25%36%35" + TOKEN[1:], id="encoded twice"),
        pytest.param(PREFIX + ".expires-" + TOKEN, id="the store's own file"),
        pytest.param("/" + PREFIX + TOKEN, id="two slashes first"),
    ],
)
def test_what_is_no_token_is_for_the_app(server, target):
    reply = get(server, target, host="www.example.com")
    assert reply.status in (301, 400)
    assert reply.body != ANSWER
    reply = get(server, target, host="www.example.com", headers=HTTPS)
    assert reply.status in (200, 301, 308, 400, 403, 404)
    assert b"not for anybody" not in reply.body
    assert reply.body != ANSWER


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"GET {PREFIX}%65vaGx{TOKEN[5:]} HTTP/1.1", id="an encoded letter of the token"),
        pytest.param(f"GET /%2Ewell-known/acme%2Dchallenge/{TOKEN} HTTP/1.1", id="encoded letters of the path"),
        pytest.param(f"GET {PREFIX}{TOKEN}?a=b HTTP/1.1", id="a query"),
        pytest.param(f"GET http://other.example{PREFIX}{TOKEN} HTTP/1.1", id="an absolute target"),
    ],
)
def test_a_target_is_read_as_other_servers_read_it(server, line):
    reply = raw_request(server, f"{line}\r\nHost: www.example.com\r\nConnection: close\r\n\r\n".encode())
    assert (reply.status, reply.body) == (200, ANSWER)


def test_an_unknown_token_is_for_the_apps_own_route(server):
    reply = get(server, PREFIX + "from-another-client", host="www.example.com", headers=HTTPS)
    assert (reply.status, reply.body) == (200, b"from-another-client.thumbprint")


def test_one_connection_mixes_tokens_and_pages(server):
    with talk(server) as connection:
        for _ in range(10):
            assert connection.ask("GET", PREFIX + TOKEN).body == ANSWER
            assert connection.ask("POST", "/page", "X-Forwarded-Proto: https", body=b"12345").body == b"page: POST /page body=5"
            assert connection.ask("HEAD", PREFIX + TOKEN).header("Content-Length") == str(len(ANSWER))
            assert connection.ask("GET", PREFIX + TOKEN, body=b"a GET with a body").body == ANSWER
            assert connection.ask("GET", "/page").status == 301


def test_pipelined_requests_are_answered_in_their_order(server):
    with talk(server) as connection:
        for target in (PREFIX + TOKEN, "/a", PREFIX + TOKEN, "/b"):
            connection.send("GET", target)
        replies = [connection.receive() for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 301, 200, 301]
    assert [reply.header("Location") for reply in replies[1::2]] == ["https://www.example.com/a", "https://www.example.com/b"]


@pytest.mark.parametrize("path", ["/socket", PREFIX + "socket"])
def test_websockets_are_the_apps(server, path):
    async def chat():
        headers = {**HTTPS, "Host": "www.example.com"}
        async with (
            ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{server.port}{path}", headers=headers) as ws,
        ):
            await ws.send_str("hello")
            return await ws.receive_str()

    assert asyncio.run(chat()) == "hello"


@pytest.mark.parametrize(("method", "path"), [("POST", "/upload"), ("GET", PREFIX + "upload")])
def test_bodies_stream_to_the_app(server, method, path):
    with talk(server) as connection:
        for _ in range(2):
            said = connection.ask(method, path, "X-Forwarded-Proto: https", body=b"x" * 3_000_000).body
            assert said == b"upload: 3000000 bytes, streamed: True"
            assert connection.ask("GET", PREFIX + TOKEN).body == ANSWER


def test_no_worker_logs_an_error(server):
    get(server, PREFIX + TOKEN, headers={"User-Agent": "a CA"})
    log = server.log()
    assert f"LOG INFO acme_middleware.responder answered challenge {TOKEN} for 127.0.0.1 ('a CA')" in log
    for trace in ("Traceback", "LOG ERROR"):
        assert trace not in log


def test_where_no_route_matches_and_slashes_are_added_a_token_is_answered_first(env):
    with aiohttp("sparse", env=env) as server:
        assert get(server, PREFIX + TOKEN).body == ANSWER
        assert get(server, PREFIX + TOKEN, method="HEAD").status == 200
        assert get(server, "/page").header("Location") == "/page/"
        assert get(server, PREFIX + "unknown").header("Location") == PREFIX + "unknown/"
        assert get(server, "/nothing").status == 404


def test_apps_below_a_path_and_for_a_host_come_after_the_outermosts_middleware(env):
    with aiohttp("nested", env=env) as server:
        for host in ("example.com", "api.example.com"):
            assert get(server, PREFIX + TOKEN, host=host).body == ANSWER
            assert get(server, PREFIX + "unknown", host=host).status == 301
        assert get(server, "/page", host="example.com").status == 404


def test_it_answers_over_ipv6(env):
    with aiohttp("site", env=env, address="::1") as server:
        assert get(server, PREFIX + TOKEN).body == ANSWER
        assert f"answered challenge {TOKEN} for ::1" in server.log()


def test_unknown_tokens_are_404_by_option_and_nothing_else_is(env):
    with aiohttp("site", env={**env, "ON_UNKNOWN": "404"}) as server:
        for rest in ("unknown", "from-another-client", "un/known", "..%2f", "%FF", TOKEN + "%00"):
            reply = get(server, PREFIX + rest)
            assert (reply.status, reply.body) == (404, b"unknown token\n")
        assert get(server, PREFIX, host="www.example.com").status == 301
        assert get(server, PREFIX + TOKEN).body == ANSWER


@pytest.mark.parametrize(
    ("store", "option", "error", "words"),
    [
        pytest.param("memory:", "403", ConfigurationError, "on_unknown is '403' but must be", id="on_unknown"),
        pytest.param("etcd://u:secret@h/x", "pass", StoreMisconfigured, "there is no store for etcd:", id="store"),
    ],
)
def test_a_wrong_option_fails_when_the_middleware_is_made(store, option, error, words):
    with pytest.raises(error, match=words) as caught:
        acme_middleware(store, on_unknown=option)
    assert "secret" not in str(caught.value)


def test_a_web_worker_loads_nothing_that_only_issuing_needs():
    assert not needless_imports("aiohttp.web", "aiohttp_acme_middleware")
