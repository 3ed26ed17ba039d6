"""A certificate as one file: what is in it, who may read it, and what it never overwrites."""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12
from stored_certificates import at_a_terminal, command, store_certificate

from acme_middleware.deploy.single_file import save
from acme_middleware.errors import ConfigurationError, PublishFailed
from acme_middleware.issuance.records import certificate_key
from acme_middleware.stores.directory import DirectoryStore

NAME = "example.com"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_pem_is_one_file_that_a_server_loads(tmp_path: Path) -> None:
    made = store_certificate(tmp_path / "store", NAME)
    ended = command(tmp_path, "export", NAME, "--pem", "out.pem")
    assert ended.code == 0, ended.text
    out = tmp_path / "out.pem"
    assert out.read_text() == made.cert_pem + made.chain_pem + made.key_pem
    assert mode(out) == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(out)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_pkcs12_is_opened_by_openssl_with_the_password_of_the_file_and_by_no_other(tmp_path: Path) -> None:
    made = store_certificate(tmp_path / "store", NAME)
    (tmp_path / "password").write_text("correct horse\nsecond line\n")
    ended = command(tmp_path, "export", NAME, "--p12", "out.p12", "--password-file", "password")
    assert ended.code == 0, ended.text
    data = (tmp_path / "out.p12").read_bytes()
    assert mode(tmp_path / "out.p12") == 0o600
    key, leaf, chain = pkcs12.load_key_and_certificates(data, b"correct horse")
    assert key is not None
    assert leaf == x509.load_pem_x509_certificate(made.cert_pem.encode())
    assert key.public_key() == leaf.public_key()
    assert chain == x509.load_pem_x509_certificates(made.chain_pem.encode())
    openssl = ["openssl", "pkcs12", "-in", str(tmp_path / "out.p12"), "-noout", "-passin"]
    assert subprocess.run([*openssl, "pass:correct horse"], capture_output=True, check=False).returncode == 0
    assert subprocess.run([*openssl, "pass:wrong"], capture_output=True, check=False).returncode != 0


def test_password_is_asked_for_twice_at_a_terminal_and_not_shown(tmp_path: Path) -> None:
    store_certificate(tmp_path / "store", NAME)
    # The space comes when what is typed is no longer shown; what is typed before that is thrown away.
    answers = [("Password: ", "hunter2"), ("confirmation: ", "hunter2")]
    code, seen = at_a_terminal(tmp_path, "export", NAME, "--p12", "out.p12", answers=answers)
    assert code == 0, seen
    assert pkcs12.load_key_and_certificates((tmp_path / "out.p12").read_bytes(), b"hunter2")[0] is not None
    assert "hunter2" not in seen


def test_standard_output_gets_the_pem_and_nothing_else(tmp_path: Path) -> None:
    made = store_certificate(tmp_path / "store", NAME)
    ended = command(tmp_path, "export", NAME, "--pem", "-")
    assert (ended.code, ended.out) == (0, made.cert_pem + made.chain_pem + made.key_pem)


def test_json_says_what_was_written_without_the_key(tmp_path: Path) -> None:
    store_certificate(tmp_path / "store", NAME)
    ended = command(tmp_path, "export", NAME, "--pem", "out.pem", "--json")
    assert json.loads(ended.out) == {
        "action": "exported",
        "name": NAME,
        "names": [NAME],
        "form": "pem",
        "file": "out.pem",
    }


@pytest.mark.parametrize("there", ["file", "link to a file", "link to nowhere"])
def test_what_is_there_is_replaced_only_with_force_and_a_link_is_not_followed(tmp_path: Path, there: str) -> None:
    store_certificate(tmp_path / "store", NAME)
    out, other = tmp_path / "out.pem", tmp_path / "precious"
    if there != "link to nowhere":
        other.write_text("precious")
    if there == "file":
        other.rename(out)
    else:
        out.symlink_to(other)
    ended = command(tmp_path, "export", NAME, "--pem", "out.pem")
    assert ended.code == 2
    assert "is there already" in ended.err
    assert "--force" in ended.err
    assert out.is_symlink() or out.read_text() == "precious"
    ended = command(tmp_path, "export", NAME, "--pem", "out.pem", "--force")
    assert ended.code == 0, ended.text
    assert not out.is_symlink()
    assert mode(out) == 0o600
    assert not other.exists() or other.read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param((), "name one file", id="no file"),
        pytest.param(("--pem", "a", "--p12", "b"), "name one file", id="two files"),
        pytest.param(("--p12", "-"), "--p12 takes a file", id="PKCS#12 to standard output"),
        pytest.param(("--p12", "a"), "no terminal to ask at", id="a password with nobody to ask"),
        pytest.param(("--p12", "a", "--password-file", "none"), "cannot read none", id="password file that is not there"),
        pytest.param(("--p12", "a", "--password-file", "empty"), "first line of empty is empty", id="empty password"),
        pytest.param(("--pem", "a", "--password-file", "empty"), "only a PKCS#12", id="password for a PEM file"),
        pytest.param(("--pem", "-", "--json"), "both be printed", id="JSON and PEM on standard output"),
        pytest.param(("--pem", "no/such/folder/a"), "there is no folder", id="folder that is not there"),
        pytest.param(("--pem", "store"), "is a folder", id="a folder for the file"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_written(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    store_certificate(tmp_path / "store", NAME)
    (tmp_path / "empty").write_text("\n")
    ended = command(tmp_path, "export", NAME, *words)
    assert ended.code == 2
    assert says in ended.text
    assert "PRIVATE KEY" not in ended.out
    assert {path.name for path in tmp_path.iterdir()} == {"store", "empty"}


def test_unknown_name_is_answered_with_the_one_that_was_meant(tmp_path: Path) -> None:
    store_certificate(tmp_path / "store", NAME)
    ended = command(tmp_path, "export", "exmaple.com", "--pem", "a")
    assert ended.code == 2
    assert "did you mean example.com?" in ended.err


def test_name_is_found_however_it_is_spelled(tmp_path: Path) -> None:
    store_certificate(tmp_path / "store", "xn--bcher-kva.example")
    ended = command(tmp_path, "export", "Bücher.Example", "--pem", "a")
    assert ended.code == 0, ended.text


def test_damaged_certificate_is_not_exported_and_its_key_not_shown(tmp_path: Path) -> None:
    other = store_certificate(tmp_path / "store", "other.example")
    store_certificate(tmp_path / "store", NAME, key_pem=other.key_pem, published=False)
    ended = command(tmp_path, "export", NAME, "--pem", "a")
    assert ended.code == 2
    assert "is not the key of its certificate" in ended.err
    DirectoryStore(tmp_path / "store").put(certificate_key(NAME), b'{"schema": 1, "key_pem": "SECRET"}')
    ended = command(tmp_path, "export", NAME, "--pem", "a")
    assert ended.code == 2
    assert "SECRET" not in ended.text
    assert not (tmp_path / "a").exists()


def test_draft_is_private_before_it_holds_anything_whatever_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    write = os.write
    monkeypatch.setattr(
        os, "write", lambda file, data: written.append(stat.S_IMODE(os.fstat(file).st_mode)) or write(file, data)
    )
    before = os.umask(0)
    try:
        save(tmp_path / "a", b"x", force=False)
    finally:
        os.umask(before)
    assert written == [0o600]
    assert mode(tmp_path / "a") == 0o600


def test_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("before")

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(PublishFailed, match="No space left") as caught:
        save(tmp_path / "a", b"after", force=True)
    assert "make room" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"


def test_of_two_who_write_the_same_file_at_once_the_later_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = Path.hardlink_to

    def meanwhile(path: Path, target: Path) -> None:
        path.write_text("the other's")
        link(path, target)

    monkeypatch.setattr(Path, "hardlink_to", meanwhile)
    with pytest.raises(ConfigurationError, match="is there already"):
        save(tmp_path / "a", b"ours", force=False)
    assert (tmp_path / "a").read_text() == "the other's"
