"""Flask apps on real servers: nothing that an app puts before its pages comes between the CA and a token."""

import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import pytest
from flask_sites import ANSWER, PREFIX, SERVERS, TOKEN, Site
from serving import get, gunicorn

HTTPS = {"X-Forwarded-Proto": "https"}
COOKIE = {"Cookie": "session=eyJ1c2VyIjoiYW5uIn0.aAaAaA.0123456789abcdef"}
# Flask reads TRUSTED_HOSTS since 3.1; before, any host is as good as another for the app's own pages.
CHECKS_HOSTS = tuple(map(int, version("flask").split(".")[:2])) >= (3, 1)


@pytest.fixture(scope="module", params=SERVERS)
def surface(request, tmp_path_factory):
    """The walled app on one of the servers. The token is presented when the workers are up, by another process."""
    site = Site(tmp_path_factory.mktemp("instance"), "walled")
    with SERVERS[request.param](site) as server:
        site.present()
        yield site, server


@pytest.fixture
def site(surface):
    surface[0].requests()
    return surface[0]


@pytest.fixture
def server(surface):
    return surface[1]


def test_over_http_a_token_is_answered_and_any_other_page_redirects_to_https(server):
    reply = get(server, PREFIX + TOKEN)
    assert (reply.status, reply.body, reply.header("Location")) == (200, ANSWER.encode(), None)
    for target in ("/", "/page/", PREFIX, PREFIX + "unknown", "/.well-known/other"):
        page = get(server, target)
        debugging = "--debug" in server.process.args  # Talisman lets pages be seen over http then; the login remains
        assert (page.status, page.header("Location")) == (302, "/login" if debugging else f"https://example.com{target}")


def test_the_answer_has_its_own_headers_and_none_of_the_app(server):
    reply = get(server, PREFIX + TOKEN, headers={"Accept-Encoding": "gzip"})
    assert reply.header("Content-Length") == str(len(ANSWER))
    assert reply.header("Content-Type") == "application/octet-stream"
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert reply.header("Cache-Control") == "no-store"
    page = get(server, "/", headers=HTTPS)
    for name in ("X-App", "Content-Security-Policy", "Strict-Transport-Security", "X-Frame-Options"):
        assert page.header(name)
        assert reply.header(name) is None
    for name in ("Vary", "Set-Cookie", "Content-Encoding"):
        assert reply.header(name) is None


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("other.example", id="another name"),
        pytest.param("192.0.2.1", id="an IPv4 address"),
        pytest.param("[2001:db8::1]", id="an IPv6 address"),
        pytest.param("[2001:db8::1]:80", id="an IPv6 address with a port"),
        pytest.param("bad host_", id="no name at all"),
        pytest.param(None, id="HTTP/1.0 without Host"),
    ],
)
def test_any_host_may_ask_for_a_token_and_for_nothing_else(server, host):
    reply = get(server, PREFIX + TOKEN, host=host)
    assert (reply.status, reply.body) == (200, ANSWER.encode())
    # The login page: Flask refuses a host only when it is about to route, after the app's own before_request.
    assert get(server, "/login", host=host, headers=HTTPS).status == (400 if CHECKS_HOSTS else 200)
    assert get(server, "/login", headers=HTTPS).status == 200


def test_a_token_is_answered_before_the_login_and_no_session_is_opened(site, server):
    assert get(server, PREFIX + TOKEN, headers=COOKIE).body == ANSWER.encode()
    assert get(server, PREFIX + TOKEN, headers=COOKIE, method="HEAD").status == 200
    assert site.requests() == []
    page = get(server, "/page/", headers={**COOKIE, **HTTPS})
    assert (page.status, page.header("Location")) == (302, "/login")
    assert site.requests() == ["session opened", "before_request /page/"]


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(PREFIX, id="the bare prefix"),
        pytest.param(PREFIX + TOKEN + "/", id="a slash behind the token"),
        pytest.param(PREFIX + "unknown-token", id="an unknown token"),
        pytest.param(PREFIX + TOKEN.swapcase(), id="the token in the other case"),
        pytest.param(PREFIX + "..%2f" + TOKEN, id="a way up"),
        pytest.param(PREFIX + TOKEN + "%0A", id="a line end"),
        pytest.param(PREFIX + "%C3%A9", id="Unicode"),
        pytest.param("/en" + PREFIX + TOKEN, id="a language first"),
    ],
)
def test_what_is_no_token_of_ours_is_the_apps(site, server, target):
    page = get(server, target, headers=HTTPS)
    assert (page.status, page.header("Location")) == (302, "/login")
    assert site.requests()[0] == "session opened"


def test_other_methods_are_the_apps(site, server):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        reply = get(server, PREFIX + TOKEN, method=method, headers={**HTTPS, "Content-Length": "0"})
        assert ANSWER.encode() not in reply.body
    assert site.requests().count("session opened") == 4


def test_every_worker_answers_for_what_another_process_presents_and_stops_when_it_is_removed(site, server):
    for _ in range(20):  # each worker has looked once, and found nothing
        assert get(server, PREFIX + "later", headers=HTTPS).status == 302
    site.present("later", "later.thumbprint")
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda _: get(server, PREFIX + "later"), range(50)))
    assert {(reply.status, reply.body) for reply in replies} == {(200, b"later.thumbprint")}
    (site.folder / "acme/challenges" / PREFIX[1:] / "later").unlink()
    assert {get(server, PREFIX + "later", headers=HTTPS).status for _ in range(20)} == {302}


def test_the_servers_log_has_no_errors(server):
    log = server.log()
    for trace in ("Traceback", "[ERROR]", "ERROR in"):
        assert trace not in log


def serve_by_gunicorn(tmp_path, app, **config):
    site = Site(tmp_path, app, **config)
    site.present()
    return site, site.gunicorn("-w", "2")


@pytest.mark.parametrize(
    ("app", "target", "page"),
    [
        pytest.param("registered_first", "", (302, "https://example.com/"), id="registered before the walls were put up"),
        pytest.param("one_host", "", (200, None), id="host matching"),
        pytest.param("server_name", "", (404, None), id="subdomain matching and an application root"),
        pytest.param("mounted", "/site", (200, None), id="mounted below a prefix"),
        pytest.param("with_an_app_below_it", "", (200, None), id="other apps mounted inside, one where tokens are"),
        pytest.param("proxied_inside", "", (200, None), id="ProxyFix inside"),
        pytest.param("proxied_outside", "", (200, None), id="ProxyFix outside"),
        pytest.param("password_inside", "", (401, None), id="a password asked for by an inner wrapper"),
    ],
)
def test_however_the_app_is_put_together_a_token_is_answered(tmp_path, app, target, page):
    _, serving = serve_by_gunicorn(tmp_path, app)
    with serving as server:
        for host in ("example.com", "other.example", "[2001:db8::1]", None):
            for headers in ({}, {"X-Forwarded-Prefix": "/shop", "X-Forwarded-Host": "proxy.example"}):
                reply = get(server, target + PREFIX + TOKEN, host=host, headers=headers)
                assert (reply.status, reply.body, reply.header("Location")) == (200, ANSWER.encode(), None)
        own = get(server, target + "/")
        assert (own.status, own.header("Location")) == page
        assert "Traceback" not in server.log()


def test_a_token_is_not_looked_for_outside_of_the_apps_own_root(tmp_path):
    _, serving = serve_by_gunicorn(tmp_path, "mounted")
    with serving as server:
        assert get(server, PREFIX + TOKEN).status == 404
        assert get(server, "/site" + PREFIX + TOKEN + "/").body.startswith(b"caught GET /site|" + PREFIX.encode())


def test_a_wrapper_that_is_put_around_later_is_asked_first_as_the_documentation_says(tmp_path):
    _, serving = serve_by_gunicorn(tmp_path, "password_outside")
    with serving as server:
        assert get(server, PREFIX + TOKEN).status == 401


def test_routes_that_end_with_a_slash_do_not_redirect_a_token(tmp_path):
    site, serving = serve_by_gunicorn(tmp_path, "open_to_all")
    site.present("page", "page.thumbprint")
    with serving as server:
        assert get(server, "/page").header("Location") == "http://example.com/page/"
        assert get(server, PREFIX + "page").body == b"page.thumbprint"
        assert get(server, PREFIX + "page/").body.startswith(b"caught ")


def test_one_acme_serves_two_apps_each_from_its_own_store(tmp_path):
    site = Site(tmp_path, "several")
    site.present("one", "one.thumbprint")
    site.present("two", "two.thumbprint", folder="second")
    with site.gunicorn() as server:
        assert get(server, PREFIX + "one").body == b"one.thumbprint"
        assert get(server, "/two" + PREFIX + "two").body == b"two.thumbprint"
        for other in ("/two" + PREFIX + "one", PREFIX + "two"):
            assert get(server, other).body.startswith(b"caught ")


def test_unknown_tokens_are_404_by_option_and_nothing_else_is(tmp_path):
    site, serving = serve_by_gunicorn(tmp_path, "walled", ACME_ON_UNKNOWN="404")
    with serving as server:
        site.requests()
        reply = get(server, PREFIX + "unknown", host="other.example")
        assert (reply.status, reply.body) == (404, b"unknown token\n")
        assert site.requests() == []
        assert get(server, PREFIX + TOKEN).body == ANSWER.encode()
        assert get(server, "/", headers=HTTPS).header("Location") == "/login"


def test_a_webroot_that_another_client_writes_to_is_answered_from(tmp_path):
    folder = tmp_path / "webroot" / PREFIX[1:]
    folder.mkdir(parents=True)
    (folder / "of-certbot").write_text("of-certbot.thumbprint\n")
    site = Site(tmp_path, "walled", ACME_CHALLENGE_STORE=f"webroot:{tmp_path}/webroot")
    with site.gunicorn() as server:
        assert get(server, PREFIX + "of-certbot").body == b"of-certbot.thumbprint"


def test_while_the_store_is_down_a_token_is_503_and_the_app_goes_on_without_asking_it(tmp_path):
    site = Site(tmp_path, "store_down")
    with site.gunicorn("--threads", "8") as server:
        site.requests()
        start = time.monotonic()
        replies = [get(server, f"{PREFIX}token-{number}") for number in range(10)]
        assert time.monotonic() - start < 1
        assert {(reply.status, reply.header("Retry-After")) for reply in replies} == {(503, "1")}
        assert site.requests() == ["store asked for token-0"]
        for target in ("/", "/page/", PREFIX, PREFIX + "no.token", PREFIX + "a/b"):
            assert get(server, target).status == 200
        assert site.requests() == []
        assert server.log().count("the challenge store failed") == 1
        assert "Traceback" not in server.log()


def test_a_wrong_option_keeps_the_server_from_starting_and_the_log_says_what_is_valid(tmp_path):
    site = Site(tmp_path, ACME_ON_UNKNOWN="403")
    with pytest.raises(RuntimeError) as refused, gunicorn(site.app, env=site.env):
        pytest.fail("it started")
    assert "ACME_ON_UNKNOWN is 403 but takes one of pass, 404" in str(refused.value)
