"""The verb ``simp_le`` against Pebble: the post's two commands word for word, simp_le's files, flags and exit codes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import both_cas
import pytest
from both_cas import PebbleCA
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, load_pem_private_key
from josepy.jwk import JWKRSA
from pebble_lab import COMMAND, LIMIT, environment, fresh, names_of
from seed_post import SEED

from acme_middleware.cli import main
from acme_middleware.testing.certificates import self_made

ALL = ("account_key.json", "account_reg.json", "key.pem", "key.der", "cert.pem", "cert.der")
ALL += ("chain.pem", "fullchain.pem", "full.pem")
PRIVATE = {"account_key.json", "key.pem", "key.der", "full.pem"}
DAY = 24 * 3600
Run = Callable[..., int]


@pytest.fixture(scope="module")
def ca() -> Iterator[PebbleCA]:
    with both_cas.pebble(alternates=2) as ca:
        yield ca


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """A line per request would bury what a failing test prints."""


@contextmanager
def static_server(root: Path, port: int) -> Iterator[None]:
    """A server of files that knows nothing of us; below a folder of a host's name where there is one."""

    class ByHost(_Quiet):
        def translate_path(self, path: str) -> str:
            own = root / self.headers.get("Host", "").partition(":")[0]
            self.directory = str(own if own.is_dir() else root)
            return super().translate_path(path)

    with ThreadingHTTPServer(("127.0.0.1", port), partial(ByHost, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def given(ca: PebbleCA) -> dict[str, str]:
    """What the environment has to say where the CA is not the one of everybody."""
    return {
        "ACME_CA": ca.directory_url,
        "ACME_CA_BUNDLE": str(ca.ca_bundle),
        "ACME_SELF_CHECK_VIA": f"127.0.0.1:{ca.http_port}",
        "ACME_PROFILE": "default",
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def web(ca: PebbleCA, tmp_path: Path) -> Iterator[Path]:
    """A folder that is served to the CA."""
    root = tmp_path / "web"
    root.mkdir()
    with static_server(root, ca.http_port):
        yield root


@pytest.fixture
def run(ca: PebbleCA, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the verb in the current folder; returns its exit code."""
    for name in [name for name in os.environ if name.startswith("ACME_")]:
        monkeypatch.delenv(name)
    # Keys of RSA cost a second each; the post's commands have them.
    for name, value in {**given(ca), "ACME_KEY_TYPE": "ec256"}.items():
        monkeypatch.setenv(name, value)
    return lambda *words: main(["simp_le", *map(str, words)])


def files(*names: str) -> list[str]:
    return [word for name in names for word in ("-f", name)]


THREE = files("key.pem", "cert.pem", "fullchain.pem")


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The files for people, byte by byte, and when they were written."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


def leaf(folder: Path, name: str = "fullchain.pem") -> x509.Certificate:
    return x509.load_pem_x509_certificates((folder / name).read_bytes())[0]


@contextmanager
def made(path: Path) -> Iterator[Path]:
    """A folder, with those above it that are missing; what was not there before goes again."""
    with ExitStack() as stack:
        for missing in [place for place in reversed([path, *path.parents]) if not place.exists()]:
            missing.mkdir()
            stack.callback(shutil.rmtree, missing, ignore_errors=True)
        yield path


@pytest.mark.parametrize("which", SEED)
def test_the_posts_command_word_for_word_makes_files_that_nginx_and_haproxy_load(
    ca: PebbleCA, tmp_path: Path, which: str
) -> None:
    line, served = SEED[which]
    if not os.access("/var", os.W_OK) and not os.access(served, os.W_OK):  # an ordinary user: the same below another root
        line, served = line.replace(":/var/", f":{tmp_path}/var/"), f"{tmp_path}{served}"
    folder = tmp_path / "here"
    folder.mkdir()
    with made(Path(served)) as root, static_server(root, ca.http_port):
        ended = subprocess.run(
            [*COMMAND, *shlex.split(line)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            cwd=folder,
            env=environment(given(ca)),
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert not list((root / ".well-known/acme-challenge").iterdir())
    assert sorted(path.name for path in folder.iterdir()) == [".acme-middleware", "cert.pem", "fullchain.pem", "key.pem"]
    assert names_of(leaf(folder)) == {"example.com"}
    key = load_pem_private_key((folder / "key.pem").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 4096
    (folder / "root.pem").write_text(ca.roots()[0])
    verify = ["openssl", "verify", "-CAfile", "root.pem", "-untrusted", "fullchain.pem", "cert.pem"]
    assert subprocess.run(verify, cwd=folder, capture_output=True, text=True, check=True).stdout == "cert.pem: OK\n"
    nginx_loads(folder, "fullchain.pem")
    nginx_loads(folder, "cert.pem")  # as the post has it, with the chain elsewhere
    for number, parts in enumerate([("fullchain.pem", "key.pem"), ("cert.pem", "fullchain.pem", "key.pem")]):
        bundle = "".join((folder / part).read_text() for part in parts)
        haproxy_loads(tmp_path / f"haproxy-{number}", bundle)


def nginx_loads(folder: Path, certificate: str) -> None:
    server = (
        f"server {{ listen 127.0.0.1:8443 ssl; ssl_certificate {folder}/{certificate}; ssl_certificate_key {folder}/key.pem; }}"
    )
    (folder / "nginx.conf").write_text(f"pid {folder}/nginx.pid; events {{}} http {{ access_log off; {server} }}")
    command = ["nginx", "-t", "-p", str(folder), "-e", "stderr", "-c", "nginx.conf"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert ended.returncode == 0, ended.stderr


def haproxy_loads(folder: Path, bundle: str) -> None:
    (folder / "certificates").mkdir(parents=True)
    (folder / "certificates/example.com.crt").write_text(bundle)
    (folder / "haproxy.cfg").write_text(
        "defaults\n mode http\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n"
        f"frontend tls\n bind 127.0.0.1:8443 ssl crt {folder}/certificates\n http-request return status 200\n"
    )
    command = ["haproxy", "-c", "-f", str(folder / "haproxy.cfg")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture
def umask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


@pytest.mark.usefixtures("umask")
def test_every_file_holds_what_its_name_says_and_keys_are_private(run: Run, folder: Path, web: Path) -> None:
    name = fresh()
    words = ["-d", f"{name}:{web}", "--account_key_size", 2048, "--email", "ops@example.com", *files(*ALL)]
    assert run(*words) == 0
    assert {path.name for path in folder.iterdir() if path.is_file()} == set(ALL)
    modes = {file: stat.S_IMODE((folder / file).stat().st_mode) for file in ALL}
    assert modes == {file: 0o600 if file in PRIVATE else 0o644 for file in ALL}

    def text(file: str) -> str:
        return (folder / file).read_text()

    assert text("fullchain.pem") == text("cert.pem") + text("chain.pem")
    assert text("full.pem") == text("key.pem") + text("fullchain.pem")
    assert (folder / "cert.der").read_bytes() == leaf(folder, "cert.pem").public_bytes(Encoding.DER)
    key = load_pem_private_key(text("key.pem").encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == leaf(folder).public_key()
    der = load_der_private_key((folder / "key.der").read_bytes(), None)
    assert isinstance(der, ec.EllipticCurvePrivateKey)
    assert der.private_numbers() == key.private_numbers()
    account = JWKRSA.json_loads(text("account_key.json"))
    assert account.key.key_size == 2048
    registration = json.loads(text("account_reg.json"))
    assert registration["uri"].startswith("https://")
    assert registration["body"]["contact"] == ["mailto:ops@example.com"]
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "full.pem")


def test_what_it_logs_when_asked_to_has_no_key_in_it(ca: PebbleCA, folder: Path, web: Path) -> None:
    words = ["-v", "--account_key_size", "2048", "-d", f"{fresh()}:{web}", *files("account_key.json", "key.pem", "full.pem")]
    shown, _ = started(ca, folder, *words).communicate(timeout=LIMIT)
    assert "DEBUG" in shown
    key = (folder / "key.pem").read_text().splitlines()[1]
    account = json.loads((folder / "account_key.json").read_text())
    assert not [secret for secret in (key, account["d"], account["p"], "PRIVATE KEY") if secret in shown]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_user_without_rights_is_told_so_before_anything_is_asked(ca: PebbleCA) -> None:
    watch = ca.watch()
    with tempfile.TemporaryDirectory() as path:  # pytest's own folders are for one user only
        os.chmod(path, 0o755)
        # Only then: the user may not enter the folders of this Python.
        program = (
            "import os, sys; from acme_middleware.cli import main, simp_le; from acme_middleware.issuance import simp_le;"
            "from acme_middleware.stores import directory; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
            "sys.exit(main(sys.argv[1:]))"
        )
        words = ["simp_le", "-d", f"{fresh()}:{path}", *THREE]
        ended = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=path,
            env=environment(given(ca)),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert ended.returncode == 2, ended.stderr
        assert "belongs to root, and this process runs as nobody" in ended.stderr
        assert os.listdir(path) == []
    assert watch.requests() == []


def test_what_was_written_is_what_import_takes_over(run: Run, folder: Path, web: Path, tmp_path: Path) -> None:
    name = fresh()
    words = ["-d", f"{name}:{web}", "--account_key_size", 2048]
    assert run(*words, *files("account_key.json", "account_reg.json", "key.pem", "fullchain.pem")) == 0
    assert main(["import", "simp_le", str(folder), "--store", f"file:{tmp_path}/store"]) == 0
    from acme_middleware.issuance.records import CertificateRecord, certificate_key
    from acme_middleware.stores.directory import DirectoryStore

    taken = CertificateRecord.read(DirectoryStore(tmp_path / "store"), certificate_key(name))
    assert taken is not None
    assert taken.cert_pem + taken.chain_pem == (folder / "fullchain.pem").read_text()
    assert taken.account_url == json.loads((folder / "account_reg.json").read_text())["uri"]


def test_no_renewal_is_needed_exits_1_asks_nobody_and_touches_nothing(
    ca: PebbleCA, run: Run, folder: Path, web: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-d", f"{fresh()}:{web}", *THREE]
    assert run(*words) == 0
    before, watch = contents(folder), ca.watch()
    assert run(*words) == 1
    assert contents(folder) == before
    assert watch.requests() == []
    capsys.readouterr()
    assert run(*words, "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"action": "not due", "files": []}


def test_less_than_valid_min_is_renewed_with_a_new_key_or_the_old_one(run: Run, folder: Path, web: Path) -> None:
    words = ["-d", f"{fresh()}:{web}", *THREE]
    assert run(*words) == 0
    first, key = leaf(folder), (folder / "key.pem").read_bytes()
    assert run(*words, "--valid_min", 89 * DAY) == 1
    assert run(*words, "--valid_min", 91 * DAY, "--reuse_key") == 0
    second = leaf(folder)
    assert second.serial_number != first.serial_number
    assert (folder / "key.pem").read_bytes() == key
    assert run(*words, "--valid_min", 91 * DAY) == 0
    assert leaf(folder).serial_number != second.serial_number
    assert (folder / "key.pem").read_bytes() != key
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "fullchain.pem", folder / "key.pem")


def test_other_names_are_a_renewal_by_the_same_account(ca: PebbleCA, run: Run, folder: Path, web: Path) -> None:
    one, other = fresh(), fresh()
    kept = files("account_key.json", "key.pem", "full.pem")
    assert run("-d", one, "--default_root", web, "--account_key_size", 2048, *kept) == 0
    before, watch = contents(folder), ca.watch()
    assert run("-d", one, "-d", other, "--default_root", web, *kept) == 0
    assert names_of(leaf(folder, "full.pem")) == {one, other}
    assert run("-d", other, "--default_root", web, *kept) == 0
    assert names_of(leaf(folder, "full.pem")) == {other}
    assert watch.accounts() == 0
    assert contents(folder)["account_key.json"] == before["account_key.json"]


def test_each_name_is_proved_in_the_folder_that_it_is_served_from(run: Run, folder: Path, web: Path) -> None:
    names = [fresh(), fresh()]
    for name in names:
        (web / name).mkdir()
    assert run(*(word for name in names for word in ("-d", f"{name}:{web / name}")), *THREE) == 0
    assert names_of(leaf(folder)) == set(names)


def test_a_folder_of_simp_les_own_goes_on_with_its_account_and_its_certificate(
    ca: PebbleCA, run: Run, folder: Path, web: Path
) -> None:
    words = ["-d", f"{fresh()}:{web}", *files("account_key.json", "key.pem", "cert.pem", "chain.pem")]
    assert run(*words, "--account_key_size", 2048) == 0
    # What simp_le knew: these files, and it wrote no newline at their ends.
    shutil.rmtree(folder / ".acme-middleware")
    for path in folder.glob("*.pem"):
        path.write_bytes(path.read_bytes().strip())
    before, watch = contents(folder), ca.watch()
    assert run(*words) == 1
    assert contents(folder) == before
    assert watch.requests() == []
    assert run(*words, "--valid_min", 91 * DAY) == 0
    assert watch.accounts() == 0
    assert contents(folder)["account_key.json"] == before["account_key.json"]
    assert contents(folder)["cert.pem"] != before["cert.pem"]


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(["full.pem"], id="a file that is asked for since"),
        pytest.param(["key.pem", "fullchain.pem", "full.pem"], id="all files"),
    ],
)
def test_a_missing_file_is_written_without_an_order(ca: PebbleCA, run: Run, folder: Path, web: Path, lost: list[str]) -> None:
    words = ["-d", f"{fresh()}:{web}", *files("key.pem", "fullchain.pem", "full.pem")]
    assert run(*words) == 0
    before, watch = contents(folder), ca.watch()
    for name in lost:
        (folder / name).unlink()
    assert run(*words) == 0
    assert watch.orders() == []
    assert {name: data for name, (data, _) in contents(folder).items()} == {name: data for name, (data, _) in before.items()}
    assert run(*words) == 1


def test_files_of_which_a_killed_run_had_replaced_some_are_mended_without_an_order(
    ca: PebbleCA, run: Run, folder: Path, web: Path
) -> None:
    words = ["-d", f"{fresh()}:{web}", *THREE]
    assert run(*words) == 0
    old = contents(folder)
    assert run(*words, "--valid_min", 91 * DAY) == 0
    new, watch = contents(folder), ca.watch()
    (folder / "cert.pem").write_bytes(old["cert.pem"][0])
    (folder / "fullchain.pem").write_bytes(old["fullchain.pem"][0])
    (folder / ".cert.pem.new").write_bytes(b"half")
    assert run(*words) == 0
    assert watch.orders() == []
    assert {name: data for name, (data, _) in contents(folder).items()} == {name: data for name, (data, _) in new.items()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_a_file_keeps_its_owner_and_mode_but_for_a_key_that_all_could_read(run: Run, folder: Path, web: Path) -> None:
    words = ["-d", f"{fresh()}:{web}", *files("key.pem", "fullchain.pem", "full.pem")]
    assert run(*words) == 0
    for name, mode in {"key.pem": 0o640, "full.pem": 0o644, "fullchain.pem": 0o604}.items():
        os.chown(folder / name, 0, 65534)
        os.chmod(folder / name, mode)
    assert run(*words, "--valid_min", 91 * DAY) == 0
    found = {name: (folder / name).stat() for name in ("key.pem", "full.pem", "fullchain.pem")}
    assert {name: (seen.st_gid, stat.S_IMODE(seen.st_mode)) for name, seen in found.items()} == {
        "key.pem": (65534, 0o640),
        "full.pem": (65534, 0o640),
        "fullchain.pem": (65534, 0o604),
    }


def test_an_alternate_chain_is_chosen_by_its_number(
    ca: PebbleCA, run: Run, folder: Path, web: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tops = []
    for words in (["--use_alt_chain", 1], ["--use_alt_chain", 2], ["--use_alt_chain", 9], []):
        assert run("-d", f"{fresh()}:{web}", *files("key.pem", "fullchain.pem"), *words) == 0
        tops.append(x509.load_pem_x509_certificates((folder / "fullchain.pem").read_bytes())[-1].issuer)
    roots = [x509.load_pem_x509_certificate(pem.encode()).subject for pem in ca.roots()]
    assert tops[2] == tops[3] == roots[0]  # 9 is more than it offers: the default one
    assert set(tops) == set(roots)
    assert "its default chain is used" in capsys.readouterr().out


@pytest.mark.parametrize("signs", ["its key", "the account"])
def test_revoking_leaves_the_files_and_makes_the_next_run_a_renewal(
    ca: PebbleCA, run: Run, folder: Path, web: Path, signs: str
) -> None:
    words = ["-d", f"{fresh()}:{web}", *files("account_key.json", "key.pem", "fullchain.pem")]
    assert run(*words, "--account_key_size", 2048) == 0
    before, revoked = contents(folder), leaf(folder)
    by = files("key.pem", "fullchain.pem") if signs == "its key" else files("account_key.json", "fullchain.pem")
    assert run("--revoke", *by) == 0
    assert ca.revoked_for(revoked) == 0
    assert contents(folder) == before
    assert run(*words) == 0
    assert leaf(folder).serial_number != revoked.serial_number
    assert run(*words) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(THREE, "no name was given", id="no name"),
        pytest.param(["-d", "a.example", *THREE], "which folder is a.example served from", id="no folder"),
        pytest.param(["-d", "a.example:.", "-d", "b.example", *THREE], "which folder is b.example", id="one without a folder"),
        pytest.param(["-d", "a.example:."], "hold the key and the certificate and the chain", id="no files"),
        pytest.param(["-d", "a.example:.", *files("key.pem", "cert.pem")], "no file is to hold the chain", id="no chain"),
        pytest.param(["-d", "a.example:.", *files("fullchain.pem")], "no file is to hold the key", id="no key"),
        pytest.param(["-d", "*.example:.", *THREE], "is a wildcard", id="wildcard"),
        pytest.param(["-d", "a.example:missing", *THREE], "there is no folder", id="folder that is not there"),
        pytest.param(["-d", "a.example:.", "-f", "other.pem"], "'other.pem' is not one of", id="file of no kind"),
        pytest.param(["-d", "a.example:.", *THREE, "--cert_key_size", "1024"], "is not one of", id="key that is too short"),
        pytest.param(["-d", "a.example:.", *THREE, "--server", "nowhere"], "there is no CA called", id="CA of no kind"),
        pytest.param(["-d", "a.example:.", *THREE, "--bar"], "No such option", id="flag of no kind"),
        pytest.param(["--revoke", *THREE], "no certificate to revoke", id="nothing to revoke"),
    ],
)
def test_wrong_words_exit_2_and_ask_nobody(
    ca: PebbleCA, run: Run, folder: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = ca.watch()
    assert run(*words) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not contents(folder)
    assert watch.orders() == []


def spoil(folder: Path, name: str) -> None:
    """Put another certificate's part in the place of a file."""
    pems = self_made("other.example")
    (folder / name).write_bytes({"key.pem": pems.key, "cert.pem": pems.cert, "account_key.json": b"{"}[name])


@pytest.mark.parametrize(
    ("spoiled", "says"),
    [
        pytest.param("key.pem", "its key is not the key of its certificate", id="another key"),
        pytest.param("cert.pem", "cert.pem and fullchain.pem have different certificates", id="another certificate"),
        pytest.param("account_key.json", "account_key.json is no JSON", id="account key cut off"),
    ],
)
def test_files_that_contradict_each_other_are_left_alone(
    ca: PebbleCA, run: Run, folder: Path, spoiled: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pems = self_made("a.example")
    (folder / "key.pem").write_bytes(pems.key)
    (folder / "cert.pem").write_bytes(pems.cert)
    (folder / "fullchain.pem").write_bytes(pems.cert + pems.chain)
    spoil(folder, spoiled)
    before, watch = contents(folder), ca.watch()
    assert run("-d", "a.example:.", *THREE, *files("account_key.json")) == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert "PRIVATE" not in shown
    assert contents(folder) == before
    assert watch.requests() == []


@pytest.mark.parametrize("there", ["a folder", "a link"])
def test_what_could_not_be_written_is_refused_before_anything_is_ordered(
    ca: PebbleCA, run: Run, folder: Path, web: Path, there: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if there == "a folder":
        (folder / "cert.pem").mkdir()
    else:
        (folder / "cert.pem").symlink_to(folder / "elsewhere.pem")
    watch = ca.watch()
    assert run("-d", f"{fresh()}:{web}", *THREE) == 2
    assert "cert.pem" in capsys.readouterr().err
    assert watch.requests() == []
    assert not contents(folder)


def test_a_failed_validation_exits_2_leaves_the_old_files_and_the_next_run_goes_on(
    ca: PebbleCA, run: Run, folder: Path, web: Path
) -> None:
    name, third, wrong = fresh(), fresh(), folder / "wrong"
    wrong.mkdir()
    assert run("-d", f"{name}:{web}", *THREE) == 0
    before, watch = contents(folder), ca.watch()
    assert run("-d", f"{third}:{wrong}", *THREE) == 2
    assert contents(folder) == before
    assert not list((wrong / ".well-known/acme-challenge").iterdir())
    assert run("-d", f"{third}:{web}", *THREE) == 0
    assert names_of(leaf(folder)) == {third}
    assert len(watch.orders()) == 1


class Hanging:
    """A site that does not answer, and says when it was asked."""

    def __init__(self) -> None:
        self.asked, self.over = threading.Event(), threading.Event()

    @contextmanager
    def serving(self, port: int) -> Iterator[None]:
        hanging = self

        class Handler(_Quiet):
            def do_GET(self) -> None:
                hanging.asked.set()
                hanging.over.wait(LIMIT)

        with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            try:
                yield
            finally:
                self.over.set()
                server.shutdown()
                thread.join()


def started(ca: PebbleCA, folder: Path, *words: str) -> subprocess.Popen[str]:
    """The verb in a process of its own."""
    env = environment({**given(ca), "ACME_KEY_TYPE": "ec256"})
    return subprocess.Popen(
        [*COMMAND, "simp_le", *words], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_run_that_is_killed_leaves_its_order_to_the_next(ca: PebbleCA, run: Run, folder: Path, tmp_path: Path) -> None:
    root, name, watch = tmp_path / "web", fresh(), ca.watch()
    root.mkdir()
    words = ["-d", f"{name}:{root}", *THREE]
    hanging = Hanging()
    with hanging.serving(ca.http_port):
        killed = started(ca, folder, *words)
        try:
            assert hanging.asked.wait(LIMIT)
        finally:
            killed.kill()
            killed.communicate()
    assert len(watch.orders()) == 1
    with static_server(root, ca.http_port):
        assert run(*words) == 0
    assert len(watch.orders()) == 1
    assert names_of(leaf(folder)) == {name}
    assert not list((root / ".well-known/acme-challenge").iterdir())


def test_several_at_once_share_an_order_and_leave_one_certificate(ca: PebbleCA, folder: Path, web: Path) -> None:
    name, watch = fresh(), ca.watch()
    runs = [started(ca, folder, "-d", f"{name}:{web}", *files("key.pem", "cert.pem", "full.pem")) for _ in range(4)]
    ended = [(process.communicate(timeout=LIMIT)[0], process.returncode) for process in runs]
    # The last one may find all done.
    assert {code for _, code in ended} <= {0, 1}, ended
    assert len(watch.orders()) == 1
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "full.pem")
    assert leaf(folder, "full.pem") == leaf(folder, "cert.pem")
    assert (folder / "full.pem").read_text().startswith((folder / "key.pem").read_text())
    assert sorted(contents(folder)) == ["cert.pem", "full.pem", "key.pem"]


def test_a_ca_that_does_not_answer_exits_2_where_other_verbs_say_75(
    run: Run, folder: Path, web: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        server = f"https://127.0.0.1:{nobody.getsockname()[1]}/directory"
        assert run("-d", f"{fresh()}:{web}", *THREE, "--server", server, "--json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["type"], error["exit_code"]) == ("CAUnreachable", 2)
    assert not contents(folder)


def test_a_server_of_the_first_days_is_asked_where_it_moved_to(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nothing is asked: the folder of the name is not there.
    server = "https://acme-v01.api.letsencrypt.org/directory"
    assert run("-d", "a.example:missing", *THREE, "--server", server, "--user_agent", "x", "--tos_sha256", "6373") == 2
    shown = capsys.readouterr()
    assert "acme-v01.api.letsencrypt.org is switched off: letsencrypt is asked instead" in " ".join(shown.out.split())
    assert "there is no folder" in shown.err
