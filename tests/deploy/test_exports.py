"""`files:`: which files there are, whose, and that they are whole, private, and of nobody else."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12
from deployments import deployment

from acme_middleware import _files
from acme_middleware.deploy.deployers import parse
from acme_middleware.errors import ConfigurationError, DeployFailed

NAME = "shop.example"
FILES = ["bundle.pem", "cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"]


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return tmp_path / "live"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "certs").mkdir()
    return tmp_path / "certs"


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.lstat().st_mode) for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_certificate_has_its_files_in_a_folder_of_its_own(live: Path, target: Path) -> None:
    files = parse(f"files:{target}")
    for name in (NAME, "other.example"):
        files.deploy(deployment(live, name))
        assert contents(target / name) == contents(live / name / "current")
    assert modes(target / NAME) == {name: 0o600 if name in ("privkey.pem", "bundle.pem") else 0o644 for name in FILES}


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=["umask 000", "umask 077"])
def test_modes_are_the_same_whatever_the_umask(live: Path, target: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        parse(f"files:{target}").deploy(deployment(live, NAME))
    finally:
        os.umask(before)
    assert stat.S_IMODE((target / NAME).stat().st_mode) == 0o755
    assert modes(target / NAME)["privkey.pem"] == 0o600
    assert modes(target / NAME)["cert.pem"] == 0o644


def test_names_are_written_as_asked_for_into_the_folder_itself(live: Path, target: Path) -> None:
    spec = f"files:{target}?names=fullchain:{{name}}.crt,privkey:{{name}}.key,bundle"
    parse(spec).deploy(deployment(live, NAME))
    current = live / NAME / "current"
    assert contents(target) == {
        f"{NAME}.crt": (current / "fullchain.pem").read_bytes(),
        f"{NAME}.key": (current / "privkey.pem").read_bytes(),
        "bundle.pem": (current / "bundle.pem").read_bytes(),
    }
    assert modes(target) == {f"{NAME}.crt": 0o644, f"{NAME}.key": 0o600, "bundle.pem": 0o600}


def test_owner_group_and_mode_are_as_asked_for(live: Path, target: Path) -> None:
    user = pwd.getpwnam("nobody")
    parse(f"files:{target}?owner=nobody&group={user.pw_gid}").deploy(deployment(live, NAME))
    found = (target / NAME / "privkey.pem").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (user.pw_uid, user.pw_gid, 0o640)
    parse(f"files:{target}?mode=0400").deploy(deployment(live, NAME))
    assert modes(target / NAME)["privkey.pem"] == 0o400


def test_a_renewal_replaces_all_and_again_changes_nothing(live: Path, target: Path) -> None:
    files = parse(f"files:{target}")
    files.deploy(deployment(live, NAME))
    renewed = deployment(live, NAME)
    files.deploy(renewed)
    files.deploy(renewed)
    assert contents(target / NAME) == contents(renewed.directory)


def test_a_link_in_the_place_of_a_file_is_replaced_and_what_it_leads_to_stays(live: Path, target: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (target / NAME).mkdir()
    (target / NAME / "privkey.pem").symlink_to(precious)
    (target / NAME / ".cert.pem.new").symlink_to(precious)
    parse(f"files:{target}").deploy(deployment(live, NAME))
    assert precious.read_text() == "mine"
    assert not (target / NAME / "privkey.pem").is_symlink()
    assert sorted(path.name for path in (target / NAME).iterdir()) == FILES


@pytest.mark.parametrize("legacy", ["no", "yes"])
def test_pkcs12_opens_with_the_password_of_the_file(live: Path, target: Path, tmp_path: Path, legacy: str) -> None:
    (tmp_path / "password").write_text("säcret word\nsecond line\n")
    made = deployment(live, NAME)
    spec = f"files:{target}?names=&p12={{name}}.p12&password_file={tmp_path / 'password'}&legacy={legacy}"
    parse(spec).deploy(made)
    assert modes(target) == {f"{NAME}.p12": 0o600}
    key, cert, chain = pkcs12.load_key_and_certificates((target / f"{NAME}.p12").read_bytes(), "säcret word".encode())
    assert key is not None
    assert cert is not None
    assert key.public_key() == load_pem_private_key((made.directory / "privkey.pem").read_bytes(), None).public_key()
    assert f"{cert.serial_number:x}" == made.serial
    assert len(chain) == 1
    shown = subprocess.run(
        [
            "openssl",
            "pkcs12",
            "-info",
            "-legacy",
            "-noout",
            "-in",
            target / f"{NAME}.p12",
            "-passin",
            f"file:{tmp_path / 'password'}",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ("pbeWithSHA1And3-KeyTripleDES-CBC" in shown.stderr) is (legacy == "yes")
    assert ("AES-256-CBC" in shown.stderr) is (legacy == "no")


def test_the_password_is_in_no_error(live: Path, target: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("\nhunter2")
    with pytest.raises(DeployFailed, match=r"the first line of .* is empty") as caught:
        parse(f"files:{target}?p12=a.p12&password_file={tmp_path / 'password'}").deploy(deployment(live, NAME))
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


class TestNothingIsLeftHalfWritten:
    def test_a_full_disk_leaves_the_files_of_before(self, live: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = parse(f"files:{target}")
        files.deploy(deployment(live, NAME))
        before = contents(target / NAME)
        renewed = deployment(live, NAME)
        real, written = os.write, []

        def full(file: int, data: bytes) -> int:
            written.append(file)
            if len(written) == 4:
                raise OSError(28, "No space left on device")
            return real(file, data)

        with monkeypatch.context() as patched:
            patched.setattr(_files.os, "write", full)
            with pytest.raises(DeployFailed, match="No space left") as caught:
                files.deploy(renewed)
        assert contents(target / NAME) == before
        assert caught.value.step == f"write into {target / NAME}"
        assert f"acme-middleware deploy {NAME}" in caught.value.hint
        files.deploy(renewed)
        assert contents(target / NAME) == contents(renewed.directory)

    def test_a_folder_in_the_place_of_a_file_changes_no_other(self, live: Path, target: Path) -> None:
        (target / NAME / "privkey.pem").mkdir(parents=True)
        with pytest.raises(DeployFailed, match=r"privkey\.pem: is a folder"):
            parse(f"files:{target}").deploy(deployment(live, NAME))
        assert [path.name for path in (target / NAME).iterdir()] == ["privkey.pem"]

    def test_a_folder_that_is_not_there_is_not_made(self, live: Path, tmp_path: Path) -> None:
        with pytest.raises(DeployFailed, match="there is no such folder"):
            parse(f"files:{tmp_path / 'unmounted'}").deploy(deployment(live, NAME))
        assert not (tmp_path / "unmounted").exists()

    def test_two_certificates_do_not_take_each_others_files(self, live: Path, target: Path) -> None:
        files = parse(f"files:{target}?names=fullchain:site.crt,privkey:site.key")
        files.deploy(deployment(live, NAME))
        before = contents(target)
        with pytest.raises(DeployFailed, match=rf"site\.crt has the certificate of {NAME}"):
            files.deploy(deployment(live, "other.example"))
        assert contents(target) == before
        files.deploy(deployment(live, "www.shop.example", NAME, name=NAME))  # the same one, with a name more

    def test_an_owner_that_is_none_is_told_before_anything_is_written(self, live: Path, target: Path) -> None:
        with pytest.raises(DeployFailed, match="there is no user 'nobody-there'"):
            parse(f"files:{target}?owner=nobody-there").deploy(deployment(live, NAME))
        assert list(target.iterdir()) == []


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param("files:relative/dir", "absolute path", id="relative folder"),
        pytest.param("files:/d?colour=red", "knows no 'colour=red'", id="word that is none"),
        pytest.param("files:/d?mode=0644", "has mode=0644", id="key that all may read"),
        pytest.param("files:/d?mode=rw", "has mode=rw", id="mode that is no number"),
        pytest.param("files:/d?mode=0600&mode=0640", "mode= twice", id="word that is there twice"),
        pytest.param("files:/d?names=privatekey", "names=", id="file that is none of ours"),
        pytest.param("files:/d?names=cert:a,chain:a", "file a twice", id="two files of one name"),
        pytest.param("files:/d?names=cert:../a", "'../a'", id="name that leaves the folder"),
        pytest.param("files:/d?names=", "names no file", id="no file at all"),
        pytest.param("files:/d?p12=a.p12", "password_file", id="PKCS#12 without a password"),
    ],
)
def test_what_cannot_be_followed_is_refused_when_it_is_read(spec: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match="DEPLOY") as caught:
        parse(spec)
    assert says in str(caught.value)
