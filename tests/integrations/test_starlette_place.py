"""Where the middleware stands in a Starlette or FastAPI app: answered wherever it can be, and reported where it is wrong."""

import time

import pytest
from serving import get, uvicorn

from acme_middleware.stores import open_challenges

PREFIX = "/.well-known/acme-challenge/"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ANSWER = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
SAID = "AcmeMiddleware is not the outermost"


@pytest.fixture
def store(tmp_path):
    url = f"file://{tmp_path}/state"
    open_challenges(url).present(TOKEN, ANSWER, ttl=3600)
    return url


def serve(name, store, *options, **variables):
    return uvicorn(f"starlette_apps:{name}", "--factory", *options, env={"STORE": store, **variables})


def warnings(server):
    return [line for line in server.log().splitlines() if SAID in line]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        pytest.param("first_in_the_list", "", id="Starlette, first in the list"),
        pytest.param("added_last", "", id="FastAPI, added last"),
        pytest.param("fastapi_list", "", id="FastAPI, first in the list"),
        pytest.param("alone", "", id="FastAPI, nothing else added"),
        pytest.param("subclass", "", id="a subclass"),
        pytest.param("factory", "", id="made by a function"),
        pytest.param("twice", "", id="twice, for two stores"),
        pytest.param("wrapped", "", id="wrapped around FastAPI"),
        pytest.param("wrapped_starlette", "", id="wrapped around Starlette"),
        pytest.param("mounted_with_us_outside", "", id="around a mounted app"),
        pytest.param("mounted_with_us_inside", "/sub", id="in a mounted app"),
    ],
)
def test_in_the_right_place_it_answers_before_every_wall_and_nothing_is_reported(store, name, path):
    with serve(name, store) as server:
        for host in ("example.com", "other.example", "192.0.2.1", "[2001:db8::1]", None):
            reply = get(server, path + PREFIX + TOKEN, host=host, headers={"Accept-Encoding": "gzip", "Cookie": "session=x"})
            assert (reply.status, reply.body) == (200, ANSWER.encode())
            for absent in ("Location", "Content-Encoding", "Set-Cookie", "X-Counted", "Vary"):
                assert reply.header(absent) is None
        log = server.log()
    assert "Application startup complete" in log
    assert "AcmeMiddleware" not in log
    assert "unsupported" not in log


def moved(below):
    return f"Move app.add_middleware(AcmeMiddleware, ...) below the line that adds {below};"


@pytest.mark.parametrize(
    ("name", "outside", "below"),
    [
        pytest.param(
            "added_first", "HTTPSRedirectMiddleware, TrustedHostMiddleware", "HTTPSRedirectMiddleware", id="added first"
        ),
        pytest.param(
            "last_in_the_list", "TrustedHostMiddleware, HTTPSRedirectMiddleware", "TrustedHostMiddleware", id="last in the list"
        ),
        pytest.param("fastapi_list_wrong", "HTTPSRedirectMiddleware", "HTTPSRedirectMiddleware", id="second in FastAPI's list"),
        pytest.param("list_then_added", "HTTPSRedirectMiddleware", "HTTPSRedirectMiddleware", id="in the list, another added"),
        pytest.param("function_after", "check_login", "check_login", id="before a function"),
        pytest.param("counting_outside", "CountingMiddleware", "CountingMiddleware", id="below one that harms nobody"),
        pytest.param("twice_and_wrong", "HTTPSRedirectMiddleware", "HTTPSRedirectMiddleware", id="twice, another between"),
        pytest.param("twice_below_another", "HTTPSRedirectMiddleware", "HTTPSRedirectMiddleware", id="twice, below another"),
    ],
)
def test_in_a_wrong_place_the_app_says_so_once_at_the_start_with_the_line_to_change(store, name, outside, below):
    with serve(name, store, "--log-level", "error") as server:
        (said,) = warnings(server)  # before any request but the one that saw the server up
        assert said.startswith(f"{SAID}; outside of it: {outside}. ")
        assert moved(below) in said
        assert said.endswith("where both are in middleware=[...], put AcmeMiddleware first.")
        for _ in range(5):
            get(server, PREFIX + TOKEN, headers={"X-Forwarded-Proto": "https"})
        assert len(warnings(server)) == 1


def test_every_worker_says_it_once(store):
    with serve("added_first", store, "--workers", "2") as server:
        deadline = time.monotonic() + 20
        while server.log().count("Application startup complete") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for _ in range(20):
            get(server, PREFIX + TOKEN)
        assert len(warnings(server)) == 2


def test_without_a_lifespan_it_is_said_once_at_the_first_request_that_gets_there(store):
    with serve("hosts_outside", store, "--lifespan", "off") as server:
        get(server, "/", host="other.example")  # refused outside of us
        assert warnings(server) == []
        for _ in range(5):
            assert get(server, PREFIX + TOKEN).body == ANSWER.encode()
        (said,) = warnings(server)
        assert moved("TrustedHostMiddleware") in said


def test_in_the_right_place_nothing_is_said_without_a_lifespan_either(store):
    with serve("first_in_the_list", store, "--lifespan", "off") as server:
        assert get(server, PREFIX + TOKEN).body == ANSWER.encode()
        assert SAID not in server.log()


def test_adding_it_before_or_after_a_redirect_both_work_or_the_wrong_one_is_reported(store):
    for name, status, said in (("added_last", 200, 0), ("added_first", 307, 1)):
        with serve(name, store) as server:
            assert get(server, PREFIX + TOKEN).status == status
            assert len(warnings(server)) == said


def test_below_a_middleware_that_only_counts_it_answers_all_the_same(store):
    with serve("counting_outside", store) as server:
        reply = get(server, PREFIX + TOKEN, host="other.example")
        assert (reply.status, reply.body, reply.header("X-Counted")) == (200, ANSWER.encode(), "yes")
        assert get(server, "/").header("Location") == "https://example.com/"


def test_a_compression_outside_of_it_is_why_one_says_so(store):
    with serve("gzip_outside", store) as server:
        reply = get(server, PREFIX + TOKEN, headers={"Accept-Encoding": "gzip"})
        assert reply.header("Content-Encoding") == "gzip"
        assert "GZipMiddleware" in warnings(server)[0]


def test_the_two_stores_of_two_are_both_answered_from(store, tmp_path):
    other = f"webroot://{tmp_path}"
    open_challenges(other).present("other", "other.thumbprint", ttl=60)
    with serve("twice", store, OTHER_STORE=other) as server:
        assert get(server, PREFIX + TOKEN).body == ANSWER.encode()
        assert get(server, PREFIX + "other", host="other.example").body == b"other.thumbprint"
