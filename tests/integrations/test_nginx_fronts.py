"""The example's two configurations in front of a Tornado site: what reaches it, what nginx answers, what neither gives out."""

import os
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import local_ports
import pytest
from background import Background, listens
from serving import PROJECT, get, raw_request
from tornado_talk import talk, tornado

from acme_middleware.stores import open_challenges

PREFIX = "/.well-known/acme-challenge/"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ANSWER = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI".encode()
CONFIGURATIONS = ["proxied.conf", "webroot-first.conf"]
ORDINARY_USER = 65534
"""The id of ``nobody``, on every Linux and in most BSDs."""


class Front:
    """nginx with one of the configurations. ``get`` asks it over IPv4."""

    def __init__(self, port, log, state, site, process):
        self.port, self.address, self._log, self.state, self.site, self.process = port, "127.0.0.1", log, state, site, process
        self.tokens = state / "challenges" / ".well-known" / "acme-challenge"

    def get(self, target, **options):
        return get(self.port, target, **options)

    def log(self):
        return self._log.read_text()


@contextmanager
def front(configuration, *, challenges=None):
    """The configuration in a folder that everybody may enter, in front of the tests' site; nginx is never root's."""
    with ExitStack() as things:
        folder = Path(things.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        state, conf = folder / "state", folder / "conf"
        for made in (conf, conf / "run", conf / "tls", folder / "public"):
            made.mkdir()
        (folder / "public" / "from-another-client").write_text("from-another-client.thumbprint")
        open_challenges(f"file://{state}").present(TOKEN, ANSWER.decode(), ttl=3600)
        env = {"CHALLENGES": challenges or f"file://{state}", "FOLDER": str(folder / "public"), "CALLS": str(folder / "calls")}
        site = things.enter_context(tornado("one", env=env))
        (port,) = things.enter_context(local_ports.reserve())
        text = (PROJECT / "example_projects" / "nginx" / configuration).read_text()
        for old, new in {
            "127.0.0.1:8000": f"127.0.0.1:{site.port}",
            "listen 127.0.0.1:8080 default_server;": " ".join(
                f"listen {address}:{port} default_server;" for address in ("127.0.0.1", "[::1]")
            ),
            "../tornado_app/state/challenges": str(state / "challenges"),
        }.items():
            assert (old in text) or "challenges" in old
            text = text.replace(old, new)
        (conf / configuration).write_text(text)
        command = ["nginx", "-p", conf, "-e", "stderr", "-c", configuration]
        if os.geteuid() == 0:
            os.chown(conf / "run", ORDINARY_USER, -1)
            command = ["setpriv", f"--reuid={ORDINARY_USER}", "--clear-groups", *command]
        log = folder / "nginx.log"
        nginx = things.enter_context(Background(command, log=log))
        nginx.wait_until(lambda: listens(port))
        yield Front(port, log, state, site, nginx)


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def nginx(request):
    with front(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def webroot():
    with front("webroot-first.conf") as running:
        yield running


def test_it_runs_as_an_ordinary_user(nginx):
    running = [
        Path("/proc", entry, "status").read_text()
        for entry in os.listdir("/proc")
        if _group(entry) == nginx.process.process.pid
    ]
    servers = [status for status in running if status.startswith("Name:\tnginx")]
    assert len(servers) >= 2  # the master and a worker
    assert not [status for status in servers if "\nUid:\t0\t" in status]
    assert "emerg" not in nginx.log()


def _group(entry):
    try:
        return os.getpgid(int(entry))
    except (ValueError, ProcessLookupError):
        return None


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("example.com", id="a name of the site"),
        pytest.param("other.example", id="another name"),
        pytest.param("192.0.2.1", id="an IPv4 address"),
        pytest.param("[2001:db8::1]:80", id="an IPv6 address with a port"),
        pytest.param("", id="an empty Host"),
        pytest.param(None, id="HTTP/1.0 without Host"),
    ],
)
def test_any_host_may_ask_for_a_token_and_is_redirected_with_all_else(nginx, host):
    reply = nginx.get(PREFIX + TOKEN, host=host)
    if host == "":  # nginx itself: an empty name is none (RFC 9112 section 3.2)
        assert reply.status in (200, 400)
    else:
        assert (reply.status, reply.body) == (200, ANSWER)
        page = nginx.get("/page?a=b", host=host)
        name = {None: "example.com", "[2001:db8::1]:80": "[2001:db8::1]"}.get(host, host)
        assert (page.status, page.header("Location")) == (301, f"https://{name}:8443/page?a=b")


def test_the_answer_is_exact_over_ipv6_too(nginx):
    with socket.create_connection(("::1", nginx.port), timeout=10) as connection:
        connection.sendall(f"GET {PREFIX}{TOKEN} HTTP/1.0\r\n\r\n".encode())
        reply = b"".join(iter(lambda: connection.recv(65536), b""))
    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert reply.endswith(b"\r\n\r\n" + ANSWER)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no headers"),
        pytest.param({"Range": "bytes=0-9"}, id="a range"),
        pytest.param({"If-Modified-Since": "Thu, 01 Jan 2037 00:00:00 GMT"}, id="a date"),
        # Not "*": nginx answers a file with 304 to that, whatever it is told; no CA sends it.
        pytest.param({"If-None-Match": '"x"'}, id="an etag"),
        pytest.param({"Accept-Encoding": "gzip, br"}, id="compression"),
        pytest.param({"X-Forwarded-Proto": "https", "X-Real-IP": "192.0.2.7"}, id="a client that claims to be a proxy"),
    ],
)
def test_headers_do_not_change_the_answer(nginx, headers):
    reply = nginx.get(PREFIX + TOKEN, headers=headers)
    assert (reply.status, reply.body) == (200, ANSWER)
    assert reply.header("Content-Length") == str(len(ANSWER))
    assert reply.header("Content-Type") == "application/octet-stream"
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert reply.header("Cache-Control") == "no-store"
    assert (reply.header("Content-Encoding"), reply.header("ETag")) == (None, None)


def test_a_head_has_no_body(nginx):
    reply = nginx.get(PREFIX + TOKEN, method="HEAD")
    assert (reply.status, reply.body, reply.header("Content-Length")) == (200, b"", str(len(ANSWER)))


def test_what_the_store_does_not_have_is_the_apps(nginx):
    reply = nginx.get(PREFIX + "from-another-client")
    assert (reply.status, reply.body) == (200, b"from-another-client.thumbprint")
    assert nginx.get(PREFIX + "unknown").status == 404


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(PREFIX + ".expires-" + TOKEN, id="the store's own file"),
        pytest.param(PREFIX + "%2Eexpires-" + TOKEN, id="the store's own file, encoded"),
        pytest.param(PREFIX + "./.expires-" + TOKEN, id="the store's own file, by a dot"),
        pytest.param(PREFIX, id="the folder"),
        pytest.param(PREFIX[:-1], id="the folder without its slash"),
        pytest.param(PREFIX + TOKEN + "/", id="a slash behind the token"),
        pytest.param(PREFIX + TOKEN + "%0A", id="a line end"),
        pytest.param(PREFIX + TOKEN + "%00", id="a NUL"),
        pytest.param(PREFIX + "../../../store", id="traversal"),
        pytest.param(PREFIX + "..%2f..%2f..%2f..%2fpublic/from-another-client", id="traversal, encoded"),
        pytest.param(PREFIX + "a" * 200, id="200 letters"),
        pytest.param(PREFIX + "a" * 20_000, id="20 kB"),
        pytest.param(PREFIX + "%FF%FE", id="no UTF-8"),
    ],
)
def test_what_is_no_token_gives_nothing_out(nginx, target):
    reply = nginx.get(target)
    assert reply.status in (301, 400, 403, 404, 414)
    assert ANSWER not in reply.body


@pytest.mark.parametrize("kind", ["folder", "FIFO", "link", "link to a folder"])
def test_what_is_no_file_is_not_read(webroot, kind):
    hostile = webroot.tokens / f"hostile-{kind.replace(' ', '-')}"
    {
        "folder": hostile.mkdir,
        "FIFO": lambda: os.mkfifo(hostile),
        "link": lambda: hostile.symlink_to("/etc/hostname"),
        "link to a folder": lambda: hostile.symlink_to("/etc"),
    }[kind]()
    assert webroot.get(PREFIX + hostile.name, limit=3).status == 404
    if kind in ("folder", "link to a folder"):
        assert webroot.get(PREFIX + hostile.name + "/hostname").status == 404


def test_another_clients_file_in_the_folder_is_answered_by_nginx_itself(webroot):
    (webroot.tokens / "by-certbot").write_text("by-certbot.thumbprint")
    assert webroot.get(PREFIX + "by-certbot").body == b"by-certbot.thumbprint"
    assert "by-certbot" not in webroot.site.log()


def test_a_token_that_was_removed_is_gone_at_once(nginx):
    store = open_challenges(f"file://{nginx.state}")
    store.present("soon-gone", "soon-gone.thumbprint", ttl=60)
    assert nginx.get(PREFIX + "soon-gone").body == b"soon-gone.thumbprint"
    store.remove("soon-gone")
    assert nginx.get(PREFIX + "soon-gone").status == 404


def test_one_connection_mixes_tokens_and_pages(nginx):
    with talk(nginx) as connection:
        for _ in range(20):
            assert connection.ask("GET", PREFIX + TOKEN).body == ANSWER
            assert connection.ask("GET", "/page").status == 301
            assert connection.ask("GET", PREFIX + TOKEN, body=b"a GET with a body").body == ANSWER
            assert connection.ask("HEAD", PREFIX + TOKEN).status == 200


def test_a_burst_is_answered(nginx):
    with ThreadPoolExecutor(64) as pool:
        replies = set(pool.map(lambda _: nginx.get(PREFIX + TOKEN).body, range(256)))
    assert replies == {ANSWER}


def test_an_absolute_target_is_a_token_too(nginx):
    request = f"GET http://example.com{PREFIX}{TOKEN} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
    assert raw_request(nginx.port, request.encode()).body == ANSWER


def test_the_app_knows_the_client_by_nginxs_word():
    with front("proxied.conf") as running:
        assert running.get(PREFIX + TOKEN, headers={"X-Real-IP": "192.0.2.7", "User-Agent": "a CA"}).body == ANSWER
        assert f"answered challenge {TOKEN} for 127.0.0.1 ('a CA')" in running.site.log()


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_store_that_is_down_is_503_and_pages_go_on(configuration):
    with front(configuration, challenges="counted") as running:
        reply = running.get(PREFIX + "down")
        assert (reply.status, reply.header("Retry-After")) == (503, "1")
        assert running.get("/page").status == 301
