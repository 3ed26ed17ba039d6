"""Publishing: layout, modes, owners, what is refused, and when nothing is written."""

import grp
import os
import pwd
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest
from cryptography import x509

from acme_middleware import _files
from acme_middleware.deploy.ownership import resolve_owner
from acme_middleware.deploy.publish import KEPT, Pems, Published, check_publishable, directory_name, publish
from acme_middleware.errors import CertificateRejected, ConfigurationError, PublishFailed, StoreUnavailable
from acme_middleware.testing.certificates import self_made

NAME = "example.com"
MODES = {"bundle.pem": 0o600, "cert.pem": 0o644, "chain.pem": 0o644, "fullchain.pem": 0o644, "privkey.pem": 0o600}


@pytest.fixture(scope="module")
def pairs():
    return [self_made(NAME) for _ in range(4)]


@pytest.fixture
def umask(request):
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


def modes(directory):
    return {path.name: stat.S_IMODE(path.lstat().st_mode) for path in directory.iterdir()}


def listing(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_the_layout_is_a_directory_per_version_and_one_link(tmp_path, pairs):
    root, pems = tmp_path / "live", pairs[0]
    published = publish(root, NAME, lambda: pems)
    assert published == Published(root / NAME / "1", root / NAME / "current", changed=True)
    assert os.readlink(root / NAME / "current") == "1"
    assert {path.name: path.read_bytes() for path in published.current.iterdir()} == {
        "privkey.pem": pems.key,
        "cert.pem": pems.cert,
        "chain.pem": pems.chain,
        "fullchain.pem": pems.cert + pems.chain,
        "bundle.pem": pems.cert + pems.chain + pems.key,
    }
    assert listing(root) == sorted([".lock", NAME, f"{NAME}/1", f"{NAME}/current", *(f"{NAME}/1/{file}" for file in MODES)])


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=["umask 000", "umask 022", "umask 077"], indirect=True)
def test_modes_are_the_same_whatever_the_umask(tmp_path, pairs, umask):
    published = publish(tmp_path / "srv" / "live", NAME, lambda: pairs[0])
    assert modes(published.directory) == MODES
    for directory in (published.directory, tmp_path / "srv" / "live" / NAME, tmp_path / "srv" / "live", tmp_path / "srv"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o755


@pytest.mark.parametrize("umask", [0o000], ids=["umask 000"], indirect=True)
def test_nobody_else_could_read_a_key_at_any_moment(tmp_path, pairs, monkeypatch, umask):
    publish(tmp_path, NAME, lambda: pairs[0])
    made = []
    real = os.open

    def watched(path, flags, *args, **kwargs):
        file = real(path, flags, *args, **kwargs)
        if flags & os.O_CREAT and Path(path).suffix == ".pem":
            folder = stat.S_IMODE(os.stat(Path(path).parent).st_mode)
            made.append((Path(path).name, stat.S_IMODE(os.fstat(file).st_mode), folder, bool(flags & os.O_EXCL)))
        return file

    monkeypatch.setattr(os, "open", watched)
    publish(tmp_path, NAME, lambda: pairs[1])
    assert sorted(made) == [(name, 0o600, 0o700, True) for name in sorted(MODES)]


def test_what_is_current_already_is_not_written_again(tmp_path, pairs):
    publish(tmp_path, NAME, lambda: pairs[0])
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = publish(tmp_path, NAME, lambda: pairs[0])
    assert again == Published(tmp_path / NAME / "1", tmp_path / NAME / "current", changed=False)
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def spoil_mode(directory):
    os.chmod(directory / "privkey.pem", 0o644)


def spoil_bundle(directory):
    (directory / "bundle.pem").write_text("edited by hand")


def lose_chain(directory):
    (directory / "chain.pem").unlink()


def link_key(directory):
    (directory / "privkey.pem").rename(directory / "elsewhere")
    (directory / "privkey.pem").symlink_to("elsewhere")


@pytest.mark.parametrize("spoil", [spoil_mode, spoil_bundle, lose_chain, link_key], ids=lambda spoil: spoil.__name__)
def test_files_that_were_changed_behind_our_back_are_published_afresh(tmp_path, pairs, spoil):
    spoil(publish(tmp_path, NAME, lambda: pairs[0]).directory)
    published = publish(tmp_path, NAME, lambda: pairs[0])
    assert (published.changed, published.directory) == (True, tmp_path / NAME / "2")
    assert modes(published.current) == MODES


def test_five_versions_are_kept_and_numbers_only_grow(tmp_path, pairs):
    for number in range(1, 9):
        published = publish(tmp_path, NAME, lambda number=number: pairs[number % 2])
        assert published.directory == tmp_path / NAME / str(number)
    assert sorted(os.listdir(tmp_path / NAME)) == ["4", "5", "6", "7", "8", "current"]
    assert KEPT == 5


def test_going_back_by_hand_holds_until_the_next_publication(tmp_path, pairs):
    for pems in pairs[:3]:
        publish(tmp_path, NAME, lambda pems=pems: pems)
    link = tmp_path / NAME / "current"
    link.unlink()
    link.symlink_to("2")
    published = publish(tmp_path, NAME, lambda: pairs[3])
    assert published.directory == tmp_path / NAME / "4"
    assert (published.current / "privkey.pem").read_bytes() == pairs[3].key


def test_what_was_taken_back_is_shown_again_where_it_was(tmp_path, pairs):
    """A program that was told of its directory may have given it to its server, which would not start without it."""
    for pems in pairs[:4]:
        publish(tmp_path, NAME, lambda pems=pems: pems)
    link = tmp_path / NAME / "current"
    link.unlink()
    link.symlink_to("2")
    told = (tmp_path / NAME / "4").stat().st_ino
    published = publish(tmp_path, NAME, lambda: pairs[3])
    assert (published.changed, published.directory) == (True, tmp_path / NAME / "4")
    assert published.directory.stat().st_ino == told
    assert os.readlink(link) == "4"
    assert sorted(os.listdir(tmp_path / NAME)) == ["1", "2", "4", "current"], "3 is none to go back to"


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        pytest.param("example.com", "example.com", id="a name"),
        pytest.param("*.example.com", "_.example.com", id="a wildcard"),
        pytest.param("192.0.2.1", "192.0.2.1", id="IPv4"),
        pytest.param("2001:db8::1", "2001_db8__1", id="IPv6"),
        pytest.param("::1", "__1", id="IPv6 that begins with colons"),
        pytest.param("..", "%2E.", id="the directory above"),
        pytest.param("../x", "%2E.%2Fx", id="climbs"),
        pytest.param("/etc", "%2Fetc", id="absolute"),
        pytest.param("a b\n$(c)", "a%20b%0A%24%28c%29", id="a shell's delight"),
    ],
)
def test_every_name_has_a_safe_directory(tmp_path, pairs, name, directory):
    assert directory_name(name) == directory
    assert publish(tmp_path / "live", name, lambda: pairs[0]).directory == tmp_path / "live" / directory / "1"
    assert sorted(os.listdir(tmp_path)) == ["live"]


def test_a_relative_root_is_made_absolute(tmp_path, pairs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert publish(Path("live"), NAME, lambda: pairs[0]).directory == tmp_path / "live" / NAME / "1"


def test_no_file_has_a_blank_line_and_each_ends_in_one_newline(tmp_path, pairs):
    pems = pairs[0]
    loose = Pems(pems.key.rstrip(), b"\n\n" + pems.cert.replace(b"\n", b"\r\n"), pems.chain + b"\n\n" + pems.chain + b"\n")
    published = publish(tmp_path, NAME, lambda: loose)
    bundle = (published.current / "bundle.pem").read_bytes()
    assert bundle == pems.cert + pems.chain * 2 + pems.key
    assert len(x509.load_pem_x509_certificates((published.current / "fullchain.pem").read_bytes())) == 3


def test_a_certificate_without_chain_is_published_with_an_empty_one(tmp_path, pairs):
    published = publish(tmp_path, NAME, lambda: Pems(pairs[0].key, pairs[0].cert, b""))
    assert (published.current / "chain.pem").read_bytes() == b""
    assert (published.current / "fullchain.pem").read_bytes() == pairs[0].cert


@pytest.mark.parametrize(
    "spoiled",
    [
        pytest.param(lambda one, other: Pems(other.key, one.cert, one.chain), id="another certificate's key"),
        pytest.param(lambda one, other: Pems(b"", one.cert, one.chain), id="no key"),
        pytest.param(lambda one, other: Pems(one.key[:-40], one.cert, one.chain), id="half a key"),
        pytest.param(lambda one, other: Pems(one.key, b"", one.chain), id="no certificate"),
        pytest.param(lambda one, other: Pems(one.key, one.cert[:200], one.chain), id="half a certificate"),
        pytest.param(lambda one, other: Pems(one.key, one.cert + one.chain, b""), id="the chain in the certificate"),
        pytest.param(lambda one, other: Pems(one.key, one.cert, b"no PEM"), id="a chain that is none"),
        pytest.param(lambda one, other: Pems(one.cert, one.key, one.chain), id="key and certificate exchanged"),
    ],
)
def test_what_is_no_pair_is_refused_and_nothing_is_written(tmp_path, pairs, spoiled):
    publish(tmp_path, NAME, lambda: pairs[0])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(CertificateRejected) as caught:
        publish(tmp_path, NAME, lambda: spoiled(pairs[1], pairs[2]))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert b"PRIVATE" not in repr((caught.value, caught.value.facts)).encode()


def test_the_key_is_in_no_repr(pairs):
    assert pairs[0].key.splitlines()[1].decode() not in repr(pairs[0])


@pytest.mark.parametrize("error", [StoreUnavailable("down"), FileNotFoundError("a record")], ids=["the store", "a file"])
def test_an_error_of_the_reader_is_its_own_and_frees_the_lock(tmp_path, pairs, error):
    def broken():
        raise error

    with pytest.raises(type(error)) as caught:
        publish(tmp_path, NAME, broken)
    assert caught.value is error
    assert publish(tmp_path, NAME, lambda: pairs[0]).changed


def test_of_two_publishers_the_later_one_reads_the_later_record(tmp_path, pairs):
    record = [pairs[0]]
    reading, renewed = threading.Event(), threading.Event()

    def slow():
        seen = record[0]
        reading.set()
        assert renewed.wait(timeout=30)
        return seen

    first = threading.Thread(target=publish, args=(tmp_path, NAME, slow))
    first.start()
    assert reading.wait(timeout=30)
    record[0] = pairs[1]
    second = threading.Thread(target=publish, args=(tmp_path, NAME, lambda: record[0]))
    second.start()
    renewed.set()
    first.join(timeout=30)
    second.join(timeout=30)
    assert (tmp_path / NAME / "current" / "privkey.pem").read_bytes() == pairs[1].key
    assert os.readlink(tmp_path / NAME / "current") == "2"


def test_a_group_may_read_the_keys(tmp_path, pairs):
    publish(tmp_path, NAME, lambda: pairs[0])
    group = grp.getgrgid(os.getegid()).gr_name
    published = publish(tmp_path, NAME, lambda: pairs[0], group=group)
    assert published.changed
    assert modes(published.current) == {**MODES, "privkey.pem": 0o640, "bundle.pem": 0o640}
    assert not publish(tmp_path, NAME, lambda: pairs[0], group=str(os.getegid())).changed


@pytest.fixture
def given(monkeypatch):
    """What files were given to, as the kernel saw it; as root for real, else by what was asked for."""
    asked = []
    real = os.fchown

    def fchown(file, uid, gid):
        asked.append((uid, gid))
        real(file, *((uid, gid) if os.geteuid() == 0 else (-1, -1)))

    monkeypatch.setattr(os, "fchown", fchown)
    return asked


def test_files_belong_to_the_owner_and_group_asked_for(tmp_path, pairs, given):
    owner, group = pwd.getpwall()[1], grp.getgrall()[1]
    published = publish(tmp_path, NAME, lambda: pairs[0], owner=owner.pw_name, group=group.gr_name)
    assert given == [(owner.pw_uid, group.gr_gid)] * 5
    expected = {(owner.pw_uid, group.gr_gid)} if os.geteuid() == 0 else {(os.geteuid(), os.getegid())}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in published.directory.iterdir()} == expected
    assert stat.S_IMODE(published.directory.stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("who", "option"),
    [({"owner": "no-such-user"}, "owner"), ({"group": "no-such-group"}, "group"), ({"owner": "-1"}, "owner")],
    ids=["no such user", "no such group", "no number"],
)
@pytest.mark.parametrize(
    "call", [lambda root, **who: publish(root, NAME, list, **who), check_publishable], ids=["publish", "check"]
)
def test_an_unknown_owner_is_refused_before_anything_is_written(tmp_path, who, option, call):
    with pytest.raises(ConfigurationError, match="on this machine") as caught:
        call(tmp_path / "live", **who)
    assert caught.value.option == option
    assert listing(tmp_path) == []


def test_owners_are_looked_up_by_name_and_number():
    root = pwd.getpwuid(0).pw_name
    assert resolve_owner(None, None) == (-1, -1)
    assert resolve_owner(root, grp.getgrgid(0).gr_name) == (0, 0)
    assert resolve_owner("4711", "4712") == (4711, 4712)


def test_checking_leaves_nothing_and_makes_the_root(tmp_path, pairs):
    check_publishable(tmp_path / "live", NAME)
    assert listing(tmp_path) == ["live", "live/.lock"]
    publish(tmp_path / "live", NAME, lambda: pairs[0])
    before = listing(tmp_path)
    check_publishable(tmp_path / "live", NAME)
    assert listing(tmp_path) == before


def as_nobody(*arguments):
    """Run in a process without rights, when the tests themselves run as root."""
    program = """
        import fcntl, grp, os, pwd, sys
        from pathlib import Path
        from acme_middleware.deploy.publish import check_publishable, publish
        from acme_middleware.errors import AcmeMiddlewareError
        from acme_middleware.testing.certificates import self_made
        pems = self_made("example.com")
        if os.geteuid() == 0:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
        root = Path(sys.argv[2])
        who = dict(word.split("=") for word in sys.argv[3:])
        try:
            if sys.argv[1] == "publish":
                publish(root, "example.com", lambda: pems, **who)
            else:
                check_publishable(root, "example.com", **who)
        except AcmeMiddlewareError as error:
            print(type(error).__name__, error.exit_code, error, error.hint, sep="|")
        """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.fixture
def public_tmp():
    """A folder that any user can enter; pytest's own is for one user only."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.parametrize("closed", ["parent", "root", "lineage"])
@pytest.mark.parametrize(("call", "kind"), [("publish", "PublishFailed|1"), ("check", "ConfigurationError|2")])
def test_a_directory_that_cannot_be_written_is_named_with_its_owner(public_tmp, pairs, closed, call, kind):
    root = public_tmp / "live"
    if closed == "root":
        root.mkdir()
    elif closed == "lineage":
        publish(root, NAME, lambda: pairs[0])
        os.chmod(root / ".lock", 0o666)
    directory = {"parent": public_tmp, "root": root, "lineage": root / NAME}[closed]
    if closed == "lineage":
        os.chmod(root, 0o777)
    os.chmod(directory, 0o555)
    before = listing(public_tmp)
    try:
        output = as_nobody(call, root)
    finally:
        os.chmod(directory, 0o755)
    assert output.startswith(kind + "|")
    assert str(directory) in output
    assert f"belongs to {pwd.getpwuid(os.geteuid()).pw_name}" in output
    assert "--publish-dir" in output
    assert listing(public_tmp) == before


@pytest.mark.parametrize(("call", "kind"), [("publish", "PublishFailed|1"), ("check", "ConfigurationError|2")])
def test_a_user_cannot_give_files_away_and_is_told_so(public_tmp, call, kind):
    root = public_tmp / "live"
    root.mkdir()
    os.chmod(root, 0o777)
    output = as_nobody(call, root, "owner=0")
    assert output.startswith(kind + "|")
    assert "only root may give files" in output
    assert [path for path in root.rglob("*.pem") if path.parent.name == "current"] == []
    assert not (root / NAME / "current").exists()


def test_a_link_planted_where_a_new_version_goes_is_not_followed(tmp_path, pairs):
    publish(tmp_path, NAME, lambda: pairs[0])
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("precious")
    (tmp_path / NAME / ".new-2").symlink_to(tmp_path / "victim")
    (tmp_path / NAME / ".current").symlink_to(tmp_path / "victim")
    assert publish(tmp_path, NAME, lambda: pairs[1]).directory == tmp_path / NAME / "2"
    assert (tmp_path / NAME / "current" / "privkey.pem").read_bytes() == pairs[1].key
    assert sorted(os.listdir(tmp_path / NAME)) == ["1", "2", "current"]
    assert listing(tmp_path / "victim") == ["file"]


def test_a_publisher_that_hangs_is_reported_in_time(tmp_path, pairs, monkeypatch):
    publish(tmp_path, NAME, lambda: pairs[0])
    monkeypatch.setattr(_files.exclusive.__wrapped__, "__kwdefaults__", {"patience": 0.3})
    with _files.exclusive(tmp_path / ".lock"), pytest.raises(PublishFailed, match="another process holds the lock"):
        publish(tmp_path, NAME, lambda: pairs[1])
    assert publish(tmp_path, NAME, lambda: pairs[1]).changed


def test_versions_stay_when_the_link_is_gone_and_the_next_one_is_shown(tmp_path, pairs):
    for pems in pairs[:3]:
        publish(tmp_path, NAME, lambda pems=pems: pems)
    (tmp_path / NAME / "current").unlink()
    published = publish(tmp_path, NAME, lambda: pairs[3])
    assert published.directory.name == "4"
    assert sorted(path.name for path in (tmp_path / NAME).iterdir()) == ["1", "2", "3", "4", "current"]
