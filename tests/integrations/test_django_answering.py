"""Django sites on real servers: nothing that a site puts before its pages comes between the CA and a token."""

import pytest
from django_sites import PREFIX, SURFACES, THUMBPRINT, Site, walled
from serving import get, raw_request

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ANSWER = f"{TOKEN}.{THUMBPRINT}".encode()
COOKIE = {"Cookie": "sessionid=0123456789abcdef0123456789abcdef; csrftoken=x"}
HTTPS = {"X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module", params=SURFACES)
def surface(request, tmp_path_factory):
    """The walled site and its server. The token is presented by another process, when the workers are up."""
    with walled(tmp_path_factory.mktemp("site"), request.param) as (site, server):
        site.present(TOKEN)
        yield site, server


@pytest.fixture
def site(surface):
    surface[0].queries()
    return surface[0]


@pytest.fixture
def server(surface):
    return surface[1]


def test_over_http_a_token_is_answered_and_any_other_page_redirects_to_https(server):
    reply = get(server, PREFIX + TOKEN)
    assert (reply.status, reply.body, reply.header("Location")) == (200, ANSWER, None)
    for target in ("/", "/account/", "/healthz", PREFIX, "/.well-known/other"):
        page = get(server, target, host="www.example.com")
        assert (page.status, page.header("Location")) == (301, f"https://www.example.com{target}")


def test_the_answer_has_its_headers_and_none_of_the_site(server):
    reply = get(server, PREFIX + TOKEN)
    assert reply.header("Content-Length") == str(len(ANSWER))
    assert reply.header("Content-Type") == "application/octet-stream"
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert reply.header("Cache-Control") == "no-store"
    for name in ("Location", "Vary", "Set-Cookie", "Content-Language", "Strict-Transport-Security", "Content-Encoding"):
        assert reply.header(name) is None


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("other.example", id="another name"),
        pytest.param("example.com", id="a name that PREPEND_WWW redirects"),
        pytest.param("192.0.2.1", id="an IPv4 address"),
        pytest.param("[2001:db8::1]", id="an IPv6 address"),
        pytest.param("[2001:db8::1]:80", id="an IPv6 address with a port"),
        pytest.param("bad host_", id="no name at all"),
        pytest.param("", id="an empty Host"),
        pytest.param(None, id="HTTP/1.0 without Host"),
    ],
)
def test_any_host_may_ask_for_a_token_and_for_nothing_else(server, host):
    reply = get(server, PREFIX + TOKEN, host=host)
    assert (reply.status, reply.body) == (200, ANSWER)
    if host != "example.com":
        assert get(server, "/healthz", host=host, headers=HTTPS).status == 400


def test_a_token_is_answered_before_the_login_with_no_query_but_its_own(site, server):
    reply = get(server, PREFIX + TOKEN, headers=COOKIE)
    assert (reply.status, reply.body) == (200, ANSWER)
    queries = site.queries()
    assert queries
    assert [query for query in queries if "acme_middleware_" not in query] == []
    page = get(server, "/account/", host="www.example.com", headers={**COOKIE, **HTTPS})
    assert (page.status, page.header("Location")) == (302, "/login/?next=/account/")
    assert any("django_session" in query for query in site.queries())


@pytest.mark.parametrize(
    "target", ["/", "/healthz", "/anything", PREFIX, PREFIX + "not.a.token", PREFIX + "a%0Ab", "/favicon.ico"]
)
def test_what_is_no_token_never_reaches_the_store(site, server, target):
    assert get(server, target, host="www.example.com", headers=HTTPS).status == 200
    assert site.look_ups() == []


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(PREFIX + TOKEN + "/", id="a slash behind the token"),
        pytest.param(PREFIX + "unknown-token", id="an unknown token"),
        pytest.param(PREFIX + TOKEN.swapcase(), id="the token in the other case"),
        pytest.param(PREFIX + "..%2f" + TOKEN, id="a way up"),
        pytest.param(PREFIX + TOKEN + "%00", id="a NUL"),
        pytest.param(PREFIX + TOKEN + "%0A", id="a line end"),
        pytest.param(PREFIX + "%C3%A9%FF", id="half a character"),
        pytest.param(PREFIX + "a" * 4000, id="4,000 letters"),
        pytest.param("/" + PREFIX + TOKEN, id="two slashes first"),
        pytest.param("/en" + PREFIX + TOKEN, id="a language first"),
    ],
)
def test_what_is_not_ours_is_for_the_site(server, target):
    page = get(server, target, host="www.example.com", headers=HTTPS)
    assert page.status == 200
    assert page.body.startswith(b"caught ")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Accept-Encoding": "gzip"}, id="compression"),
        pytest.param({"Range": "bytes=0-9"}, id="a range"),
        pytest.param({"If-None-Match": "*"}, id="any etag"),
        pytest.param({"If-Modified-Since": "Thu, 01 Jan 2037 00:00:00 GMT"}, id="a date"),
        pytest.param({"Accept-Language": "de"}, id="another language"),
        pytest.param({"X-Forwarded-Proto": "https"}, id="https at the proxy"),
        pytest.param({"User-Agent": "\xe9\xff" * 200}, id="an odd User-Agent"),
    ],
)
def test_headers_do_not_change_the_answer(server, headers):
    reply = get(server, PREFIX + TOKEN, headers=headers)
    assert (reply.status, reply.body, reply.header("Content-Encoding")) == (200, ANSWER, None)
    assert reply.header("Content-Length") == str(len(ANSWER))


def test_the_site_does_compress_its_own_pages(server):
    page = get(server, "/anything", host="www.example.com", headers={**HTTPS, "Accept-Encoding": "gzip"})
    assert page.header("Content-Encoding") == "gzip"


def test_head_is_as_get_without_a_body(server):
    reply = get(server, PREFIX + TOKEN, method="HEAD")
    assert (reply.status, reply.body, reply.header("Content-Length")) == (200, b"", str(len(ANSWER)))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_for_the_site(site, server, method):
    reply = get(server, PREFIX + TOKEN, method=method, host="www.example.com", headers=HTTPS)
    # CSRF protection refuses what would change something: the site has answered, not we.
    assert reply.status == (200 if method == "OPTIONS" else 403)
    assert site.look_ups() == []


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"GET {PREFIX}../../account/ HTTP/1.1", id="traversal"),
        pytest.param(f"GET http://other.example{PREFIX}{TOKEN} HTTP/1.1", id="absolute form"),
        pytest.param(f"GET {PREFIX}{TOKEN}?a=b#c HTTP/1.1", id="query and fragment"),
    ],
)
def test_odd_request_lines_get_a_defined_answer(server, line):
    reply = raw_request(server, f"{line}\r\nHost: www.example.com\r\nConnection: close\r\n\r\n".encode())
    assert reply.status in (200, 301, 302, 400, 404)
    assert "Traceback" not in server.log()


def test_fetches_are_logged_in_the_database_for_the_one_who_issues(site, server):
    site.present("fetched-token")
    assert get(server, PREFIX + "fetched-token", headers={"User-Agent": "a CA"}).status == 200
    site.in_python(
        "import time; store = open_challenges('django:'); end = time.monotonic() + 5\n"
        "while not (found := store.fetches('fetched-token')) and time.monotonic() < end: time.sleep(0.05)\n"
        "assert [(fetch.address, fetch.agent) for fetch in found] == [('127.0.0.1', 'a CA')], found"
    )


def test_a_removed_token_is_unknown_at_once(site, server):
    site.present("soon-gone")
    assert get(server, PREFIX + "soon-gone").status == 200
    site.in_python("open_challenges('django:').remove('soon-gone')")
    assert get(server, PREFIX + "soon-gone", host="www.example.com", headers=HTTPS).body.startswith(b"caught ")


def test_no_worker_logs_a_traceback_or_an_async_error(server):
    log = server.log()
    assert "Traceback" not in log
    assert "SynchronousOnlyOperation" not in log


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        pytest.param("gunicorn, 4 workers", [PREFIX], id="gunicorn"),
        # In ASGI the path has the script name in front, where the proxy leaves it there.
        pytest.param("uvicorn, 2 workers", [PREFIX, "/app" + PREFIX], id="uvicorn"),
    ],
)
def test_under_a_forced_script_name_the_path_below_it_counts(tmp_path, name, targets):
    with walled(tmp_path, name, WALLS_SCRIPT_NAME="/app") as (site, server):
        site.present(TOKEN)
        assert [get(server, target + TOKEN).body for target in targets] == [ANSWER] * len(targets)
        page = get(server, "/account/", host="www.example.com", headers=HTTPS)
        assert page.header("Location").startswith("/app/login/")


def test_a_root_path_is_not_part_of_the_token(tmp_path):
    site = Site(tmp_path)
    site.manage("migrate", "-v0")
    site.present(TOKEN)
    with site.asgi("--root-path", "/api") as server:
        assert get(server, PREFIX + TOKEN).body == ANSWER
        page = get(server, "/healthz", host="www.example.com")
        assert page.header("Location") == "https://www.example.com/api/healthz"


@pytest.mark.parametrize("name", ["gunicorn, 4 workers", "uvicorn, 2 workers"])
def test_on_unknown_404_answers_without_asking_the_site(tmp_path, name):
    with walled(tmp_path, name, WALLS_ON_UNKNOWN="404") as (_, server):
        reply = get(server, PREFIX + "unknown-token", host="other.example")
        assert (reply.status, reply.header("Content-Type")) == (404, "text/plain; charset=utf-8")
