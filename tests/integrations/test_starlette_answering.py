"""What Starlette and FastAPI add to the requests that every surface answers: mounts, root paths, sockets, the lifespan."""

import json
import re
import socket
import subprocess
import sys

import pytest
from serving import get, serve, uvicorn
from starlette_acme_middleware import AcmeMiddleware

from acme_middleware.asgi import AcmeMiddleware as Plain
from acme_middleware.stores import open_challenges

PREFIX = "/.well-known/acme-challenge/"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ANSWER = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
HTTPS = {"X-Forwarded-Proto": "https"}


@pytest.fixture
def store(tmp_path):
    url = f"file://{tmp_path}/state"
    open_challenges(url).present(TOKEN, ANSWER, ttl=3600)
    return url


def served(name, store, *options, **variables):
    return uvicorn(f"starlette_apps:{name}", "--factory", *options, env={"STORE": store, **variables})


def test_all_else_is_the_apps_as_it_would_be_without_us(store):
    with served("first_in_the_list", store) as server:
        page = get(server, "/page", headers={**HTTPS, "Accept-Encoding": "gzip"})
        assert (page.status, page.header("Content-Encoding"), page.header("X-Counted")) == (200, "gzip", "yes")
        assert page.header("Set-Cookie").startswith("counted=yes")
        assert get(server, "/page").header("Location") == "https://example.com/page"
        assert get(server, "/page", host="other.example").status == 400
        assert get(server, PREFIX + "unknown").header("Location") == f"https://example.com{PREFIX}unknown"
        assert get(server, PREFIX + TOKEN, method="POST", headers={**HTTPS, "Content-Length": "0"}).status == 405


def test_a_login_of_fastapi_is_for_all_else(store):
    with served("alone", store) as server:
        assert get(server, PREFIX + TOKEN).body == ANSWER.encode()
        for target in ("/", PREFIX, PREFIX + "unknown", PREFIX + TOKEN + "/"):
            assert get(server, target).status == 401


def test_on_unknown_404_answers_before_the_app(store):
    with served("added_last", store, ON_UNKNOWN="404") as server:
        reply = get(server, PREFIX + "unknown", host="other.example")
        assert (reply.status, reply.body) == (404, b"unknown token\n")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("first_in_the_list", ["--root-path", "/api"], id="uvicorn's, Starlette"),
        pytest.param("added_last", ["--root-path", "/api"], id="uvicorn's, FastAPI"),
        pytest.param("wrapped", ["--root-path", "/api"], id="uvicorn's, wrapped"),
        pytest.param("rooted", [], id="FastAPI's own"),
    ],
)
def test_a_root_path_is_no_part_of_where_a_token_is_found(store, name, options):
    with served(name, store, *options) as server:
        assert get(server, PREFIX + TOKEN, host="other.example").body == ANSWER.encode()
        assert get(server, "/page").header("Location").startswith("https://example.com/")


def test_in_a_mounted_app_a_token_is_found_below_the_mount_alone(store):
    with served("mounted_with_us_inside", store) as server:
        assert get(server, "/sub" + PREFIX + TOKEN, host="other.example").body == ANSWER.encode()
        assert get(server, PREFIX + TOKEN).status == 404
        assert get(server, "/sub/page").header("Location") == "https://example.com/sub/page"


def test_around_a_mounted_app_a_token_is_found_at_the_top_alone(store):
    with served("mounted_with_us_outside", store) as server:
        assert get(server, PREFIX + TOKEN, host="other.example").body == ANSWER.encode()
        page = get(server, "/sub" + PREFIX + TOKEN, headers=HTTPS)
        assert page.body.startswith(f"page: /sub|/sub{PREFIX}{TOKEN} ".encode())


def test_a_websocket_on_the_path_of_a_token_is_the_apps(store):
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    upgrade = [f"GET {PREFIX}{TOKEN} HTTP/1.1", "Host: example.com", "Connection: Upgrade", "Upgrade: websocket"]
    upgrade += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "X-Forwarded-Proto: wss", "", ""]
    with (
        served("first_in_the_list", store) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection,
    ):
        connection.sendall("\r\n".join(upgrade).encode())
        received = b""
        while b"socket: " not in received:
            more = connection.recv(65536)
            assert more, received
            received += more
        assert received.startswith(b"HTTP/1.1 101 ")
        assert received.partition(b"socket: ")[2].startswith(f"{PREFIX}{TOKEN}".encode())


@pytest.mark.parametrize("name", ["first_in_the_list", "wrapped_starlette"])
def test_the_lifespan_is_the_apps(store, name):
    with served(name, store, "--lifespan", "on") as server:
        assert get(server, "/state", headers=HTTPS).body == b"by the lifespan"
        server.process.terminate()
        server.process.wait(10)
        assert re.findall("LIFESPAN (.*)", server.log()) == ["up", "down"]


WRONG = [
    pytest.param("etcd://user:secret@host/x", "pass", ["there is no store for etcd:", "file:"], id="store"),
    pytest.param("file:state", "maybe", ['on_unknown is \'maybe\' but must be "pass" or "404"'], id="on_unknown"),
]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("first_in_the_list", [], id="Starlette"),
        pytest.param("added_last", [], id="FastAPI"),
        pytest.param("wrapped", [], id="wrapped"),
        pytest.param("first_in_the_list", ["--lifespan", "on"], id="its lifespan on"),
        pytest.param("first_in_the_list", ["--workers", "2"], id="two workers"),
    ],
)
@pytest.mark.parametrize(("url", "on_unknown", "said"), WRONG)
def test_a_wrong_option_keeps_uvicorn_from_starting(name, options, url, on_unknown, said):
    with pytest.raises(RuntimeError) as refused, served(name, url, *options, ON_UNKNOWN=on_unknown):
        pytest.fail("it started")
    log = str(refused.value)
    for words in (*said, "ERROR:    AcmeMiddleware: ", "Application startup failed. Exiting."):
        assert words in log
    assert "secret" not in log
    assert "Traceback" not in log


@pytest.mark.parametrize(("url", "on_unknown", "said"), WRONG)
def test_a_wrong_option_keeps_hypercorn_from_starting(url, on_unknown, said):
    command = [sys.executable, "-m", "hypercorn", "starlette_apps:first_in_the_list()", "--bind", "fd://{fd}"]
    with pytest.raises(RuntimeError) as refused, serve(command, env={"STORE": url, "ON_UNKNOWN": on_unknown}):
        pytest.fail("it started")
    assert all(words in str(refused.value) for words in said)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("misspelt", "AcmeMiddleware: got an unexpected keyword argument 'on_unkown'", id="misspelt"),
        pytest.param("without_a_store", "AcmeMiddleware: missing a required argument: 'store'", id="missing"),
    ],
)
def test_an_option_that_is_misspelt_or_missing_keeps_uvicorn_from_starting(name, said):
    with pytest.raises(RuntimeError) as refused, served(name, "file:state"):
        pytest.fail("it started")
    log = str(refused.value)
    # Python 3.13 says which kind of argument.
    for words in (said, "the options are: store, on_unknown", "Application startup failed. Exiting."):
        assert words in log.replace("required keyword-only argument", "required argument")
    assert "Traceback" not in log


def test_without_a_lifespan_every_request_says_what_is_wrong_and_nothing_grows():
    with served("first_in_the_list", "file:state", "--lifespan", "off", ON_UNKNOWN="maybe") as server:
        for target in ("/", PREFIX + TOKEN, "/"):
            assert get(server, target).status == 500
        tracebacks = server.log().split("Traceback")[1:]
        assert len(tracebacks) >= 3
        assert all("ConfigurationError: on_unknown is 'maybe'" in text for text in tracebacks)
        assert len({text.count("File ") for text in tracebacks}) == 1


def calls_of_a_request(middleware):
    """How many Python functions are called for a request, after a first one."""
    calls = []
    for profile in (None, lambda frame, event, _: calls.append(frame) if event == "call" else None):
        request = middleware({"type": "http", "path": "/page", "method": "GET", "headers": []}, None, None)
        sys.setprofile(profile)
        try:
            request.send(None)
        except StopIteration:
            sys.setprofile(None)
        else:
            pytest.fail("it waited")
    return len(calls)


def test_an_ordinary_request_costs_one_call_more_than_without_the_adapter():
    async def app(scope, receive, send):
        return None

    plain = calls_of_a_request(Plain(app, store="file:state"))
    assert plain == 2  # the middleware and the app
    assert calls_of_a_request(AcmeMiddleware(app, store="file:state")) == plain + 1


def test_a_worker_that_imports_it_gets_nothing_heavy():
    script = (
        "import json, sys\n"
        "from starlette_acme_middleware import AcmeMiddleware\n"
        "AcmeMiddleware(None, store='file:state')\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    loaded = json.loads(done.stdout)
    heavy = {"acme", "josepy", "requests", "cryptography", "idna", "click", "rich", "sqlalchemy", "redis", "starlette", "ssl"}
    assert {name.partition(".")[0] for name in loaded} & heavy == set()
    ours = {name.split(".")[1] for name in loaded if name.startswith("acme_middleware.")}
    assert ours == {"asgi", "challenge", "errors", "lookup", "responder", "stores"}
