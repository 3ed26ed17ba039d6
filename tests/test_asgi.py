"""The ASGI class by the rules of ASGI 3, on asyncio and trio, and how little it does for other scopes."""

import inspect

import pytest

from acme_middleware.asgi import AcmeMiddleware
from acme_middleware.challenge import PREFIX
from acme_middleware.errors import ConfigurationError, StoreMisconfigured
from acme_middleware.stores.memory import MemoryChallengeStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def store():
    store = MemoryChallengeStore()
    store.present("token", "token.thumbprint", ttl=60)
    return store


def scope(path=PREFIX + "token", **more):
    return {"type": "http", "method": "GET", "path": path, "headers": [], "client": ("192.0.2.7", 1234), **more}


async def receive():
    raise AssertionError("nothing is to be received")


async def call(application, scope):
    """Return the status, headers and body that were sent, or None where the app was called."""
    sent = []

    async def send(message):
        sent.append(message)

    await application(scope, receive, send)
    if not sent:
        return None
    start, body = sent
    assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
    assert not body.get("more_body")
    return start["status"], start["headers"], body["body"]


async def app(scope, receive, send):
    """Sends nothing: the caller sees that it was its turn."""


async def test_servers_see_an_asgi_3_app(store):
    application = AcmeMiddleware(app, store=store)
    assert inspect.iscoroutinefunction(application.__call__)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_token_is_answered_with_lower_case_headers(store, method):
    status, headers, body = await call(AcmeMiddleware(app, store=store), scope(method=method))
    assert (status, body) == (200, b"token.thumbprint" if method == "GET" else b"")
    assert headers == [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", b"16"),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
    ]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"type": "lifespan", "asgi": {"version": "3.0"}}, id="the lifespan"),
        pytest.param({"type": "websocket", "path": PREFIX + "token", "headers": []}, id="a websocket on a token's path"),
        pytest.param({"type": "webtransport", "path": PREFIX + "token"}, id="a scope of the future"),
        pytest.param(scope("/page"), id="another path"),
        pytest.param(scope("/page" + PREFIX + "token"), id="the prefix further on"),
        pytest.param(scope(method="POST"), id="another method"),
        pytest.param(scope(PREFIX), id="the bare prefix"),
        pytest.param(scope(PREFIX + "unknown"), id="an unknown token"),
    ],
)
async def test_anything_else_is_the_apps_its_arguments_untouched(store, other):
    before, seen = dict(other), []

    async def remembering(*arguments):
        seen.append(arguments)

    async def send(message):
        raise AssertionError("nothing is to be sent")

    await AcmeMiddleware(remembering, store=store)(other, receive, send)
    ((scope, receive_seen, send_seen),) = seen
    assert (scope is other, receive_seen is receive, send_seen is send) == (True, True, True)
    assert other == before


@pytest.mark.parametrize(
    ("root_path", "path", "answered"),
    [
        pytest.param("", PREFIX + "token", True, id="no root path"),
        pytest.param("/api", "/api" + PREFIX + "token", True, id="in front of the path, as ASGI 2.3 says"),
        pytest.param("/api", PREFIX + "token", True, id="left out of the path, as older servers do"),
        pytest.param("/a/b", "/a/b" + PREFIX + "token", True, id="of two parts"),
        pytest.param("/api/", "/api/" + PREFIX + "token", True, id="with a slash at its end, in front of a whole path"),
        pytest.param("/", PREFIX + "token", True, id="a slash alone"),
        pytest.param("/api", "/apix" + PREFIX + "token", False, id="the beginning of another word"),
        pytest.param("/api", "/other" + PREFIX + "token", False, id="another app's"),
        pytest.param("/api", "/api/api" + PREFIX + "token", False, id="twice in the path"),
        pytest.param("/.well-known", PREFIX + "token", False, id="that is part of the prefix"),
    ],
)
async def test_the_path_is_what_follows_the_root_path(store, root_path, path, answered):
    answer = await call(AcmeMiddleware(app, store=store), scope(path, root_path=root_path))
    assert (answer is not None) is answered


@pytest.mark.parametrize(
    ("more", "address", "agent"),
    [
        pytest.param({"headers": [(b"host", b"x"), (b"user-agent", b"a CA")]}, "192.0.2.7", "a CA", id="usual"),
        pytest.param({"headers": [(b"user-agent", b"\xe9")]}, "192.0.2.7", "\xe9", id="a User-Agent that is not ASCII"),
        pytest.param({"client": None}, "", "", id="a Unix socket has no address"),
    ],
)
async def test_the_client_is_recorded(store, more, address, agent):
    assert await call(AcmeMiddleware(app, store=store), scope(**more))
    assert [(fetch.address, fetch.agent) for fetch in store.fetches("token")] == [(address, agent)]


async def test_scopes_without_what_asgi_leaves_optional(store):
    bare = {"type": "http", "method": "GET", "path": PREFIX + "token", "headers": iter([])}
    assert (await call(AcmeMiddleware(app, store=store), bare))[0] == 200


async def test_unknown_tokens_are_404_by_option(store):
    application = AcmeMiddleware(app, store=store, on_unknown="404")
    assert (await call(application, scope(PREFIX + "unknown")))[0] == 404
    assert await call(application, scope(PREFIX)) is None


async def test_wrong_options_are_refused_at_construction():
    with pytest.raises(StoreMisconfigured, match="no store for nothing:"):
        AcmeMiddleware(app, store="nothing:")
    with pytest.raises(ConfigurationError, match="on_unknown"):
        AcmeMiddleware(app, store="memory:", on_unknown="deny")
    with pytest.raises(TypeError, match="store"):
        AcmeMiddleware(app)
