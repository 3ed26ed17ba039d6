"""What `print-config haproxy` prints is accepted by Debian's HAProxy, and does what it says there."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from background import Background, listens
from click.testing import Result
from click_runner import runner
from deployments import deployment
from haproxy_lab import serial
from local_ports import reserve
from serving import get
from tls_lab import certificate, client_context, published
from tls_load import connect

from acme_middleware.cli import acme
from acme_middleware.deploy.deployers import parse

TOKEN = "/.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"


def printed(state: Path, *words: str) -> Result:
    argv = ["print-config", "haproxy", *words, "--store", f"file:{state}"]
    return runner().invoke(acme, argv, env={"ACME_CONFIG": ""})


def text_of(state: Path, *words: str) -> str:
    done = printed(state, *words)
    assert done.exit_code == 0, done.output
    return done.stdout


def said(folder: Path, text: str) -> str:
    """What HAProxy says when it is only asked to check it; empty if all is well."""
    (folder / "haproxy.cfg").write_text(text)
    done = subprocess.run(
        ["haproxy", "-c", "-f", folder / "haproxy.cfg"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@contextmanager
def an_app() -> Iterator[int]:
    """An app that answers with what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: it would be the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("way", ["the published files", "a folder"])
def test_the_ca_reaches_the_app_all_else_is_redirected_and_a_renewed_certificate_is_served(way: str, tmp_path: Path) -> None:
    live, certs = tmp_path / "state" / "live", tmp_path / "certs"
    for names in (("example.com", "www.example.com"), ("shop.example.org",)):
        deployment(live, *names)
    with an_app() as app, reserve(2) as (http, tls), tempfile.TemporaryDirectory(prefix="acme-haproxy-") as sockets:
        words = ["--app", f"127.0.0.1:{app}", "--socket", f"{sockets}/admin"]
        if way == "a folder":
            words += ["--folder", str(certs)]
            done = printed(tmp_path / "state", "example.com", "www.example.com", *words)
            for line in re.findall(r"^  (install .*)$", done.stderr, re.MULTILINE):
                subprocess.run(["sh", "-c", line], check=True)
            text = done.stdout
        else:
            text = text_of(tmp_path / "state", "example.com", "www.example.com", *words)
            text = text.replace(" alpn ", f" crt {live}/shop.example.org/current/bundle.pem alpn ")
        text = text.replace(":::80 v4v6", f"127.0.0.1:{http}").replace(":::443 v4v6", f"127.0.0.1:{tls}")
        spec = json.loads(re.search(r"DEPLOY = (\[.*\])", text)[1])[0]  # type: ignore[index]
        assert said(tmp_path, text) == ""
        with Background(["haproxy", "-W", "-f", tmp_path / "haproxy.cfg"], log=tmp_path / "log") as server:
            server.wait_until(lambda: listens(http) and listens(tls))

            answered = get(http, TOKEN, host="example.com")
            assert answered.status == 200
            heard = json.loads(answered.body)
            assert (heard["path"], heard["headers"]["host"]) == (TOKEN, "example.com")
            assert heard["headers"]["x-real-ip"] == heard["headers"]["x-forwarded-for"] == "127.0.0.1"
            assert heard["headers"]["x-forwarded-proto"] == "http"
            page = get(http, "/a%20page?q=a%2Fb", host="www.example.com")
            assert (page.status, page.header("Location")) == (301, "https://www.example.com/a%20page?q=a%2Fb")

            # The second name is new where HAProxy has a folder, and in its configuration where it has none.
            for name in ("example.com", "shop.example.org"):
                renewed = deployment(live, name)
                parse(spec).deploy(renewed)
                assert serial(tls, name) == renewed.serial

            with connect(tls, name="example.com", context=client_context(alpn=["h2", "http/1.1"])) as connection:
                assert connection.selected_alpn_protocol() == "h2"
                assert connection.version() == "TLSv1.3"
            old = client_context()
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            with connect(tls, name="example.com", context=old) as connection:
                assert "GCM" in connection.cipher()[0]  # type: ignore[index]
                connection.sendall(b"GET /page HTTP/1.0\r\nHost: example.com\r\nX-Forwarded-Proto: http\r\n\r\n")
                reply = b"".join(iter(lambda: connection.recv(65536), b""))
                assert json.loads(reply.partition(b"\r\n\r\n")[2])["headers"]["x-forwarded-proto"] == "https"


@pytest.mark.parametrize("words", [[], ["--folder", "certs"], ["--app", "unix:/run/app.sock"]], ids=str)
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("example.com",), id="one name"),
        pytest.param(("2001:db8::1", "192.0.2.1"), id="addresses"),
        pytest.param(("bücher.example", "xn--fiqs8s.example"), id="names beyond ASCII"),
    ],
)
def test_it_is_accepted_for_a_certificate_that_is_still_to_come_once_its_placeholder_is_there(
    names: tuple[str, ...], words: list[str], tmp_path: Path
) -> None:
    words = [str(tmp_path / word) if word == "certs" else word for word in words]
    done = printed(tmp_path / "state", *names, *words)
    assert done.exit_code == 0, done.output
    assert "placeholder" in done.stderr
    placed = runner().invoke(acme, ["placeholder", *names, "--store", f"file:{tmp_path / 'state'}"])
    assert placed.exit_code == 0, placed.output
    for line in re.findall(r"^  (install .*)$", done.stderr, re.MULTILINE):
        subprocess.run(["sh", "-c", line], check=True)
    assert said(tmp_path, done.stdout) == ""


def test_more_certificates_than_fit_into_a_line_go_into_a_folder(tmp_path: Path) -> None:
    state, pems = tmp_path / "state", certificate("example.com")
    names = [f"name-{number}.example" for number in range(40)]
    published(state / "live", pems, names[0])
    for name in names[1:]:
        shutil.copytree(state / "live" / names[0], state / "live" / name, symlinks=True)
    declared = json.dumps({name: {} for name in names})
    done = runner().invoke(
        acme,
        ["print-config", "haproxy", "--store", f"file:{state}"],
        env={"ACME_CONFIG": "", "ACME_CERTIFICATES": declared},
    )
    assert done.exit_code == 0, done.output
    assert "ssl crt /etc/haproxy/certs/ alpn" in done.stdout
    assert "haproxy:/etc/haproxy/certs?socket=" in done.stdout
    assert len(re.findall(r"^  install ", done.stderr, re.MULTILINE)) == 4


@pytest.mark.parametrize("way", ["the published files", "a folder"])
def test_folders_with_odd_names_are_named_so_that_haproxy_finds_them(way: str, tmp_path: Path) -> None:
    folder = tmp_path / "a b%c'd\"e\\f;g{h}#i${HOME}"
    published(folder / "live", certificate("example.com"), "example.com")
    words = ["--folder", str(folder / "certs")] if way == "a folder" else []
    done = printed(folder, "example.com", "--socket", str(folder / "admin"), *words)
    for line in re.findall(r"^  (install .*)$", done.stderr, re.MULTILINE):
        subprocess.run(["sh", "-c", line], check=True)
    assert said(tmp_path, done.stdout) == ""
    parse(json.loads(re.search(r"DEPLOY = (\[.*\])", done.stdout)[1])[0])  # type: ignore[index]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param([], "no certificate is known here yet", id="nothing is known"),
        pytest.param(["example.com", "--app", "localhost"], "is no HOST:PORT", id="an app without a port"),
        pytest.param(["example.com", "--app", "a:1 check"], "is no HOST:PORT", id="an app with a word of its own"),
        pytest.param(["example.com", "--publish-dir", "/srv/a\nb"], "cannot be told of", id="a path with a line break"),
        pytest.param(["example.com", "--folder", "/srv/a\nb"], "cannot be told of", id="a folder with a line break"),
        pytest.param(["example.com", "--socket", "/srv/a\nb"], "cannot be told of", id="a socket with a line break"),
    ],
)
def test_what_cannot_be_printed_is_refused(words: list[str], says: str, tmp_path: Path) -> None:
    done = printed(tmp_path / "state", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


def test_nothing_of_2015_is_in_it(tmp_path: Path) -> None:
    text = text_of(tmp_path, "example.com").lower()
    for line in ("cert.pem", "ocsp", "stapling", "npn", "no-sslv3", "nbproc", "reqadd"):
        assert line not in text
