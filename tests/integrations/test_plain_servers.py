"""Requests over sockets to gunicorn and uvicorn, with several workers, issuing in another process."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import get, gunicorn, raw_request, uvicorn

from acme_middleware.stores import open_challenges

PREFIX = "/.well-known/acme-challenge/"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ANSWER = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"

SURFACES = {
    "gunicorn, 4 workers": ("", lambda env: gunicorn("plain_apps:wsgi", "-w", "4", env=env)),
    "gunicorn, threads, preloaded": ("", lambda env: gunicorn("plain_apps:wsgi", "--threads", "4", "--preload", env=env)),
    "gunicorn, mounted under a prefix": ("/site", lambda env: gunicorn("plain_apps:wsgi_mounted", env=env)),
    "uvicorn, 2 workers": ("", lambda env: uvicorn("plain_apps:asgi", "--workers", "2", env=env)),
    "uvicorn with h11": ("", lambda env: uvicorn("plain_apps:asgi", "--http", "h11", env=env)),
    "uvicorn with a root path": ("", lambda env: uvicorn("plain_apps:asgi", "--root-path", "/api", env=env)),
}


class Surface:
    """A server, the folder it reads tokens from, and what stands in front of its paths."""

    def __init__(self, server, base, url):
        self.server, self.base, self.url = server, base, url

    def get(self, target, **options):
        return get(self.server, self.base + target, **options)


@pytest.fixture(scope="module", params=SURFACES)
def surface(request, tmp_path_factory):
    base, start = SURFACES[request.param]
    url = f"file://{tmp_path_factory.mktemp('state')}"
    open_challenges(url).present(TOKEN, ANSWER, ttl=3600)
    with start({"CHALLENGES": url}) as server:
        yield Surface(server, base, url)


def from_app(reply):
    return reply.status == 200 and reply.body.startswith(b"app: ")


def test_the_answer_is_exact(surface):
    reply = surface.get(PREFIX + TOKEN)
    assert (reply.status, reply.body) == (200, ANSWER.encode())
    assert reply.header("Content-Length") == str(len(ANSWER))
    assert reply.header("Content-Type") == "application/octet-stream"
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert reply.header("Cache-Control") == "no-store"
    assert reply.header("Content-Encoding") is None
    assert reply.header("Location") is None


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Range": "bytes=0-9"}, id="a range"),
        pytest.param({"If-Modified-Since": "Thu, 01 Jan 2037 00:00:00 GMT"}, id="a date"),
        pytest.param({"If-None-Match": "*"}, id="any etag"),
        pytest.param({"If-Match": '"x"'}, id="an etag"),
        pytest.param({"Accept-Encoding": "gzip, br"}, id="compression"),
        pytest.param({"Accept": "text/html"}, id="another type"),
        pytest.param({"User-Agent": "\xe9\xff"}, id="an odd User-Agent"),
    ],
)
def test_headers_do_not_change_the_answer(surface, headers):
    reply = surface.get(PREFIX + TOKEN, headers=headers)
    assert (reply.status, reply.body) == (200, ANSWER.encode())


def test_a_head_has_the_headers_of_a_get_and_no_body(surface):
    head, reply = surface.get(PREFIX + TOKEN, method="HEAD"), surface.get(PREFIX + TOKEN)
    ignored = {"date"}
    assert (head.status, head.body) == (200, b"")
    assert {name: head.headers[name] for name in head.headers.keys() - ignored} == {
        name: reply.headers[name] for name in reply.headers.keys() - ignored
    }


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"])
def test_other_methods_are_the_apps(surface, method):
    reply = surface.get(PREFIX + TOKEN, method=method, headers={"Content-Length": "0"})
    assert from_app(reply)
    assert method.encode() in reply.body


@pytest.mark.parametrize("host", ["other.example", "192.0.2.1", "[2001:db8::1]", "example.com:80", "", None])
def test_any_host_will_do_and_none_too(surface, host):
    assert surface.get(PREFIX + TOKEN, host=host).body == ANSWER.encode()


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/", id="the front page"),
        pytest.param(PREFIX, id="the bare prefix"),
        pytest.param(PREFIX[:-1], id="the prefix without its slash"),
        pytest.param(PREFIX + "unknown", id="an unknown token"),
        pytest.param(PREFIX + TOKEN + "/", id="a slash at the end"),
        pytest.param(PREFIX + TOKEN.lower(), id="other case"),
        pytest.param(PREFIX + "../../x", id="traversal"),
        pytest.param(PREFIX + "..%2f..%2fx", id="encoded traversal"),
        pytest.param(PREFIX + "../acme-challenge/" + TOKEN, id="traversal back to a token"),
        pytest.param(PREFIX + TOKEN + "%0A", id="a newline"),
        pytest.param(PREFIX + TOKEN + "%00", id="a NUL"),
        pytest.param(PREFIX + "%2F" + TOKEN, id="an encoded slash"),
        pytest.param(PREFIX + "%C3%A9", id="Unicode"),
        pytest.param(PREFIX + "%FF%FE", id="no UTF-8"),
        pytest.param(PREFIX + "%", id="half an escape"),
        pytest.param(PREFIX + ".expires-" + TOKEN, id="one of our own files"),
        pytest.param(PREFIX + "a" * 2000, id="2 kB"),
    ],
)
def test_the_app_answers_whatever_is_not_one_of_our_tokens(surface, target):
    assert from_app(surface.get(target))


@pytest.mark.parametrize(
    ("target", "statuses"),
    [
        pytest.param(PREFIX + "a" * 10_000, {200, 400, 414}, id="10 kB"),
        pytest.param(PREFIX + "t\xf6ken", {200, 400}, id="a byte that no target may have"),
        pytest.param("/" + PREFIX + TOKEN, {200}, id="two slashes in front"),
        pytest.param("/.well-known%2Facme-challenge%2F" + TOKEN, {200}, id="encoded slashes"),
        pytest.param(PREFIX + TOKEN + "?query=1", {200}, id="a query"),
    ],
)
def test_odd_targets_have_a_defined_answer(surface, target, statuses):
    reply = surface.get(target)
    assert reply.status in statuses
    if reply.status == 200:
        assert from_app(reply) or reply.body == ANSWER.encode()


def test_an_absolute_target_has_a_defined_answer(surface):
    request = f"GET http://example.com{surface.base}{PREFIX}{TOKEN} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
    reply = raw_request(surface.server, request.encode())
    assert reply.status in {200, 421}
    assert reply.status == 421 or from_app(reply) or reply.body == ANSWER.encode()


def test_the_app_sees_its_requests_unchanged(surface):
    # RFC-conforming ASGI servers put the root path in front of the path; a dispatcher moves its prefix to SCRIPT_NAME.
    seen = {
        "/site": b"app: GET /site|/some/page",
        "": b"app: GET |/some/page",
    }[surface.base]
    if "--root-path" in surface.server.process.args:
        seen = b"app: GET /api|/api/some/page"
    assert surface.get("/some/page?query").body == seen


def test_what_another_process_presents_is_seen_by_every_worker_at_once(surface):
    script = f"""
from acme_middleware.stores import open_challenges
open_challenges({surface.url!r}).present("from-elsewhere", "from-elsewhere.thumbprint", ttl=60)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda _: surface.get(PREFIX + "from-elsewhere"), range(50)))
    assert {(reply.status, reply.body) for reply in replies} == {(200, b"from-elsewhere.thumbprint")}
    open_challenges(surface.url).remove("from-elsewhere")
    assert {surface.get(PREFIX + "from-elsewhere").body[:5] for _ in range(20)} == {b"app: "}


def test_the_log_names_what_was_answered_and_has_no_errors(surface):
    surface.get(PREFIX + TOKEN, headers={"User-Agent": "a CA"})
    log = surface.server.log()
    assert f"LOG INFO acme_middleware.responder answered challenge {TOKEN} for 127.0.0.1 ('a CA')" in log
    for trace in ("Traceback", "LOG ERROR", "[ERROR]", "ERROR:"):
        assert trace not in log


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(lambda env: gunicorn("plain_apps:wsgi", "--threads", "4", env=env), id="gunicorn"),
        pytest.param(lambda env: uvicorn("plain_apps:asgi", "--no-access-log", env=env), id="uvicorn"),
    ],
)
def test_bots_draw_one_line_a_minute_into_a_servers_log(tmp_path, start):
    with start({"CHALLENGES": f"file://{tmp_path}"}) as server:
        with ThreadPoolExecutor(4) as pool:
            paths = ["wanted", *["wp-login.php", "..%2f..%2fx", "%1b[2J%0aLOG ERROR forged", "a" * 43] * 50]
            list(pool.map(lambda path: get(server, PREFIX + path), paths))
            for method in ("POST", "PROPFIND", "OPTIONS"):
                get(server, PREFIX + "wanted", method=method)
        lines = [line for line in server.log().splitlines() if line.startswith("LOG ")]
    (line,) = [line for line in lines if "acme_middleware" in line]
    assert line.startswith("LOG WARNING acme_middleware.responder 1 fetch of an unknown token")
    assert line.endswith(", from 127.0.0.1; passed on to the app, where another ACME client may answer")
    assert not [line for line in lines if "ERROR" in line]


WALLS = {
    "WSGI": lambda env: gunicorn("plain_apps:wsgi_walled", env=env),
    "ASGI": lambda env: uvicorn("plain_apps:asgi_walled", env=env),
}


@pytest.fixture(scope="module", params=WALLS)
def walled(request, tmp_path_factory):
    url = f"file://{tmp_path_factory.mktemp('state')}"
    open_challenges(url).present(TOKEN, ANSWER, ttl=3600)
    with WALLS[request.param]({"CHALLENGES": url}) as server:
        yield server


@pytest.mark.parametrize("host", ["example.com", "other.example", "192.0.2.1", "[2001:db8::1]", None])
def test_no_redirect_host_check_or_login_stands_before_a_token(walled, host):
    reply = get(walled, PREFIX + TOKEN, host=host)
    assert (reply.status, reply.body, reply.header("Location")) == (200, ANSWER.encode(), None)


def test_the_walls_still_stand_for_everything_else(walled):
    assert get(walled, "/page").header("Location") == "https://example.com/page"
    assert get(walled, PREFIX + "unknown").header("Location") == f"https://example.com{PREFIX}unknown"
    assert get(walled, "/page", host="other.example").status == 400


@pytest.mark.parametrize("start", [gunicorn, uvicorn])
def test_unknown_tokens_are_404_by_option_and_nothing_else_is(tmp_path, start):
    application = "plain_apps:wsgi" if start is gunicorn else "plain_apps:asgi"
    with start(application, env={"CHALLENGES": f"file://{tmp_path}", "ON_UNKNOWN": "404"}) as server:
        for rest in ("unknown", "un/known", "..%2f"):
            reply = get(server, PREFIX + rest)
            assert (reply.status, reply.body) == (404, b"unknown token\n")
        assert from_app(get(server, PREFIX))
        assert from_app(get(server, "/"))


def test_the_lifespan_is_the_apps(tmp_path):
    with uvicorn("plain_apps:asgi", "--lifespan", "on", env={"CHALLENGES": f"file://{tmp_path}"}) as server:
        assert "LIFESPAN lifespan.startup" in server.log()
        assert "Application startup complete" in server.log()


def test_a_wrong_scheme_keeps_the_server_from_starting_and_says_what_to_write():
    with (
        pytest.raises(RuntimeError, match="there is no store for etcd:"),
        uvicorn("plain_apps:asgi", env={"CHALLENGES": "etcd://user:secret@host/x"}),
    ):
        pytest.fail("it started")


@pytest.mark.parametrize("kind", ["folder", "FIFO", "link", "5 MB", "empty"])
def test_what_is_no_token_file_is_the_apps_at_once(surface, kind):
    hostile = open_challenges(surface.url).root / ".well-known" / "acme-challenge" / f"hostile-{kind.replace(' ', '')}"
    {
        "folder": hostile.mkdir,
        "FIFO": lambda: os.mkfifo(hostile),
        "link": lambda: hostile.symlink_to("/etc/hostname"),
        "5 MB": lambda: hostile.write_bytes(b"x" * 5_000_000),
        "empty": hostile.touch,
    }[kind]()
    assert from_app(surface.get(PREFIX + hostile.name, limit=2))


def test_another_clients_file_is_answered_without_its_newline(surface):
    foreign = open_challenges(surface.url).root / ".well-known" / "acme-challenge" / "foreign"
    foreign.write_text("foreign.thumbprint\n")
    reply = surface.get(PREFIX + "foreign")
    assert (reply.body, reply.header("Content-Length")) == (b"foreign.thumbprint", "18")
