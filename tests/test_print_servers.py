"""What `print-config nginx` and `print-config apache` print is accepted by those servers, and does what it says there."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from background import Background, listens
from click.testing import Result
from click_runner import runner
from local_ports import reserve
from serving import get
from tls_lab import certificate, client_context, published
from tls_load import connect

from acme_middleware.cli import acme
from acme_middleware.deploy.deployers import parse
from acme_middleware.issuance.records import RenewalRecord, renewal_key
from acme_middleware.stores.directory import DirectoryStore

TOKEN = "/.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
MODULES = Path("/usr/lib/apache2/modules")
BY_ROOT = os.geteuid() == 0

KINDS = [
    pytest.param(("nginx",), id="nginx"),
    pytest.param(("nginx", "--map"), id="nginx by a map"),
    pytest.param(("apache",), id="Apache"),
]


def printed(state: Path, *words: str) -> Result:
    return runner().invoke(acme, ["print-config", *words, "--store", f"file:{state}"], env={"ACME_CONFIG": ""})


def text_of(state: Path, *words: str) -> str:
    done = printed(state, *words)
    assert done.exit_code == 0, done.output
    return done.stdout


def record(state: Path, *names: str) -> None:
    """What the store knows of a certificate that was issued."""
    now = datetime.now(UTC)
    RenewalRecord(
        name=names[0],
        names=names,
        ca="test",
        trusted=True,
        profile="",
        not_before=now,
        not_after=now + timedelta(days=90),
        serial="1",
        fingerprint="00",
        issued_at=now,
        renew_after=now,
    ).write(DirectoryStore(state), renewal_key(names[0]))


def command(folder: Path, text: str, http: int, tls: int) -> list[str]:
    """A whole configuration around what was printed, with ports of one's own; the server's command line for it."""
    for old, new in {
        r"listen (\[::\]:)?(80|443)": lambda m: f"listen {'[::1]' if m[1] else '127.0.0.1'}:{http if m[2] == '80' else tls}",
        r"\*:(80|443)>": lambda m: f"*:{http if m[1] == '80' else tls}>",
    }.items():
        text = re.sub(old, new, text)
    (folder / "sites.conf").write_text(text)
    conf = folder / "server.conf"
    if "<VirtualHost" in text:
        loaded = ["mpm_event", "authz_core", *re.search(r"Modules: (.*)\.\n", text)[1].split()]
        lines = [
            f'ServerRoot "{folder}"',
            "ServerName localhost",
            *(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in loaded),
            f'PidFile "{folder}/pid"',
            'ErrorLog "/dev/stderr"',
            f"Listen 127.0.0.1:{http}",
            f"Listen 127.0.0.1:{tls}",
            *(["User nobody", "Group nogroup"] if BY_ROOT else []),
            f'Include "{folder}/sites.conf"',
        ]
        conf.write_text("\n".join(lines) + "\n")
        return ["apache2", "-f", str(conf)]
    temporary = " ".join(f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    # By a map it is the workers that read the keys, so in this folder they must be its owner.
    user = "user root;" if BY_ROOT else ""
    conf.write_text(f"{user} daemon off; pid pid; events {{}} http {{ access_log off; {temporary} include sites.conf; }}\n")
    return ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(conf)]


def accepts(folder: Path, text: str) -> str:
    """What the server says about it when it is only asked to check it; empty if all is well."""
    with reserve(2) as (http, tls):
        done = subprocess.run(
            [*command(folder, text, http, tls), "-t"], capture_output=True, text=True, timeout=60, check=False
        )
    said = [line for line in done.stderr.splitlines() if not line.endswith(("syntax is ok", "is successful", "Syntax OK"))]
    assert (done.returncode == 0) == (not said), done.stderr
    return "\n".join(said)


@contextmanager
def an_app() -> Iterator[int]:
    """An app that answers with what it was asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: it would be the tests' output."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("kind", KINDS)
def test_the_ca_reaches_the_app_all_else_is_redirected_and_each_name_has_its_certificate(kind, tmp_path):
    state = tmp_path / "state"
    wanted = {}
    for names in (("example.com", "www.example.com"), ("shop.example.org",), ("*.example.net",), ("192.0.2.7",)):
        record(state, *names)
        wanted[names[0]] = published(state / "live", certificate(*names), names[0])
    with an_app() as app, reserve(2) as (http, tls):
        text = text_of(state, *kind, "--app", f"127.0.0.1:{app}")
        # What many have in their servers, so that no .git or .env gets out.
        text = text.replace("    location / {", "    location ~ /\\. { return 403; }\n\n    location / {")
        argv = command(tmp_path, text, http, tls)
        foreground = ["-DFOREGROUND"] if argv[0] == "apache2" else []
        with Background([*argv, *foreground], log=tmp_path / "log") as server:
            server.wait_until(lambda: listens(http) and listens(tls))

            for host in ("example.com", "www.example.com", "shop.example.org"):
                answered = get(http, TOKEN, host=host)
                assert answered.status == 200
                heard = json.loads(answered.body)
                assert (heard["path"], heard["headers"]["host"]) == (TOKEN, host)
                assert heard["headers"]["x-real-ip"] == "127.0.0.1"
                page = get(http, "/a%20page?q=a%2Fb", host=host)
                assert (page.status, page.header("Location")) == (301, f"https://{host}/a%20page?q=a%2Fb")

            for asked, name in {
                "example.com": "example.com",
                "www.example.com": "example.com",
                "WWW.Example.com": "example.com",
                "shop.example.org": "shop.example.org",
                "any.example.net": "*.example.net",
                None: "192.0.2.7",
            }.items():
                with connect(tls, name=asked, context=client_context()) as connection:
                    assert connection.getpeercert(binary_form=True) == wanted[name], asked
                    assert connection.version() == "TLSv1.3"
                    connection.sendall(f"GET /page HTTP/1.0\r\nHost: {asked or '192.0.2.7'}\r\n\r\n".encode())
                    reply = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))
                    heard = json.loads(reply.partition(b"\r\n\r\n")[2])
                    assert heard["path"] == "/page"
                    assert heard["headers"]["x-forwarded-proto"] == "https"

            old = client_context()
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            with connect(tls, context=old) as connection:
                assert "GCM" in connection.cipher()[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("example.com",), id="one name"),
        pytest.param(tuple(f"{'long-' * 11}{i}.{'label' * 9}.example.com" for i in range(40)), id="forty long names"),
        pytest.param(("2001:db8::1", "192.0.2.1"), id="addresses"),
        pytest.param(("bücher.example", "xn--fiqs8s.example"), id="names beyond ASCII"),
    ],
)
def test_it_is_accepted_for_a_certificate_that_is_still_to_come_once_its_placeholder_is_there(kind, names, tmp_path):
    state = tmp_path / "state"
    done = printed(state, *kind, *names)
    assert done.exit_code == 0, done.output
    assert "placeholder" in done.stderr
    found = re.search(r"live/([^/ $]+)/current", text_of(state, kind[0], *names))
    published(state / "live", certificate("example.com"), names[0].encode("idna").decode() if ":" not in names[0] else names[0])
    assert (state / "live" / found[1] / "current").exists()
    assert accepts(tmp_path, done.stdout) == ""
    assert "placeholder" not in printed(state, *kind, *names).stderr


@pytest.mark.parametrize("kind", KINDS)
def test_hundreds_of_certificates_are_accepted(kind, tmp_path):
    state = tmp_path / "state"
    pems = certificate("example.com")
    published(state / "live", pems, "name-0.example")
    for number in range(120):
        record(state, f"name-{number}.example", f"www.name-{number}.example", f"shop.name-{number}.example")
        if number:  # the same certificate in the folder of each: making 120 takes longer than reading them
            shutil.copytree(state / "live/name-0.example", state / f"live/name-{number}.example", symlinks=True)
    done = printed(state, *kind)
    assert accepts(tmp_path, done.stdout) == ""
    assert ("see --map" in done.stderr) == (kind == ("nginx",))


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_with_an_odd_name_is_named_so_that_the_server_finds_it(kind, tmp_path):
    folder = tmp_path / "a b%c'd\"e\\f;g{h}#i"
    published(folder / "live", certificate("example.com"), "example.com")
    assert accepts(tmp_path, text_of(folder, *kind, "example.com")) == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param([], "no certificate is known here yet", id="nothing is known"),
        pytest.param(["example.com", "--app", "localhost"], "is no HOST:PORT", id="an app without a port"),
        pytest.param(["example.com", "--app", "a:1; return 200"], "is no HOST:PORT", id="an app with a line of its own"),
        pytest.param(["example.com; return 200"], "is no host name", id="a name with a line of its own"),
        pytest.param(["example.com", "--publish-dir", "/srv/${HOME}/live"], "cannot be told of", id="a path with a variable"),
    ],
)
def test_what_cannot_be_printed_is_refused(kind, words, says, tmp_path):
    done = printed(tmp_path / "state", *kind, *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_record_cannot_bring_in_a_line_of_its_own(tmp_path):
    record(tmp_path, "example.com")
    record(tmp_path, "bad.example", "x; } http { #")
    done = printed(tmp_path, "nginx")
    assert "bad.example is left out" in done.stderr
    assert "server_name example.com;" in done.stdout
    assert "bad" not in done.stdout


def test_nothing_of_2015_is_in_it(tmp_path):
    for kind in (("nginx",), ("nginx", "--map"), ("apache",)):
        text = text_of(tmp_path, *kind, "example.com").lower()
        for line in ("ssl on;", "stapling", "spdy", "trusted_certificate", "$ssl_server_name/"):
            assert line not in text


def test_json_has_the_text_as_a_file(tmp_path):
    text = text_of(tmp_path, "nginx", "example.com")
    assert json.loads(text_of(tmp_path, "nginx", "example.com", "--json")) == {"files": {"acme-middleware.conf": text}}


def test_the_names_given_choose_among_what_is_known(tmp_path):
    record(tmp_path, "example.com", "www.example.com")
    record(tmp_path, "example.org")
    text = text_of(tmp_path, "nginx", "example.com")
    assert "server_name example.com www.example.com;" in text
    assert "example.org" not in text


def test_ciphers_are_those_that_openssl_knows():
    from acme_middleware.cli.print_nginx import CIPHERS

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(CIPHERS)
    assert set(CIPHERS.split(":")) <= {cipher["name"] for cipher in context.get_ciphers()}


HAPROXY = [
    pytest.param(("haproxy",), ["first", "next"], id="HAProxy"),
    pytest.param(("haproxy", "--folder", "certs"), ["first", "next", "next"], id="HAProxy with a folder"),
]


@pytest.mark.parametrize(
    ("kind", "steps"), [*(pytest.param(*one.values, ["first", "next"], id=one.id) for one in KINDS), *HAPROXY]
)
def test_what_to_do_stands_in_the_order_in_which_it_is_done(kind, steps, tmp_path):
    told = printed(tmp_path / "state", *kind, "example.com").stderr
    assert re.findall(r"^(\w+): ", told, re.MULTILINE) == steps
    in_order = ["placeholder", *(["  install -d"] if "--folder" in kind else []), "save it as", "reload"]
    assert sorted(in_order, key=told.index) == in_order


@pytest.mark.parametrize("kind", ["nginx", "apache", "haproxy"])
def test_each_names_its_deployer_in_the_same_form(kind, tmp_path):
    done = printed(tmp_path / "state", kind, "example.com")
    [spec] = json.loads(re.search(r"^#   DEPLOY = (.*)$", done.stdout, re.MULTILINE)[1])
    parse(spec)
    assert "set DEPLOY as its first lines say" in " ".join(done.stderr.split())


def test_by_a_map_no_deployer_is_needed(tmp_path):
    done = printed(tmp_path / "state", "nginx", "--map", "example.com")
    assert "DEPLOY" not in done.stdout + done.stderr
