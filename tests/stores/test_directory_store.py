"""What is particular to the directory store: modes, killed writers, hostile keys, disks and rights that fail."""

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from acme_middleware import _files
from acme_middleware.errors import Conflict, StoreMisconfigured, StoreUnavailable
from acme_middleware.stores.base import Expect, Record, key
from acme_middleware.stores.directory import DirectoryStore

KEY = key("certificate", "example.com")
NOBODY = 65534


@pytest.fixture
def store(tmp_path):
    return DirectoryStore(tmp_path / "state")


@pytest.fixture
def umask(request):
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


@pytest.fixture
def public_tmp():
    """A folder that any user can enter; pytest's own is for one user only."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def program(text, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        **options,
    )


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=["umask 000", "umask 022", "umask 077"], indirect=True)
def test_records_are_private_and_the_directory_is_not(tmp_path, umask):
    store = DirectoryStore(tmp_path / "var" / "state")
    store.put(KEY, b"a key")
    store.put(key("account", "letsencrypt", "default"), b"another key")
    modes = {str(path.relative_to(tmp_path)): mode(path) for path in tmp_path.rglob("*")}
    assert modes == {
        "var": 0o755,
        "var/state": 0o755,
        "var/state/.lock": 0o600 & ~umask,
        "var/state/account": 0o700,
        "var/state/account/letsencrypt,": 0o700,
        "var/state/account/letsencrypt,/default": 0o600,
        "var/state/certificate": 0o700,
        "var/state/certificate/example.com": 0o600,
    }


def test_a_directory_that_an_administrator_made_keeps_its_mode(tmp_path):
    (tmp_path / "state").mkdir(mode=0o750)
    os.chmod(tmp_path / "state", 0o750)
    DirectoryStore(tmp_path / "state").put(KEY, b"a key")
    assert mode(tmp_path / "state") == 0o750


@pytest.mark.parametrize("umask", [0o000], ids=["umask 000"], indirect=True)
def test_nobody_else_could_read_a_record_at_any_moment(store, monkeypatch, umask):
    made = []
    real = os.open

    def watched(path, flags, *args, **kwargs):
        file = real(path, flags, *args, **kwargs)
        if flags & os.O_CREAT:
            made.append((Path(path).name, stat.S_IMODE(os.fstat(file).st_mode)))
        return file

    monkeypatch.setattr(os, "open", watched)
    store.put(KEY, b"a key")
    assert made == [(".lock", 0o600), (".new", 0o600)]


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param("certificate/../../secret", id="climbs"),
        pytest.param("../secret", id="climbs at once"),
        pytest.param("/etc/passwd", id="absolute"),
        pytest.param("certificate//etc", id="empty part"),
        pytest.param("certificate/", id="ends in a slash"),
        pytest.param("certificate", id="a kind only"),
        pytest.param("", id="nothing"),
        pytest.param("certificate/.", id="here"),
        pytest.param("certificate/.hidden", id="hidden"),
        pytest.param("certificate/a\0b", id="NUL"),
        pytest.param("certificate/a\n", id="newline at the end"),
        pytest.param("certificate/a,/b", id="the mark of a folder"),
        pytest.param("certificate/" + "a" * 300, id="longer than a file name"),
        pytest.param("certificate/\u00e9", id="not escaped"),
        pytest.param("challenges/token", id="a token of the challenge store"),
        pytest.param("live/example.com", id="a published file"),
        pytest.param(".lock/a", id="the lock"),
    ],
)
def test_what_is_no_key_never_becomes_a_path(store, tmp_path, hostile):
    (tmp_path / "secret").write_bytes(b"0" * 32 + b"\nsecret")
    store.put(KEY, b"a key")
    before = sorted(tmp_path.rglob("*"))
    for call in (store.get, lambda name: store.put(name, b"x"), store.delete):
        with pytest.raises(ValueError, match=r"make keys with acme_middleware\.stores\.base\.key"):
            call(hostile)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("prefix", ["../", "/", "..", "certificate/../", "challenges/", "live"])
def test_scan_never_leaves_the_records(store, tmp_path, prefix):
    (tmp_path / "secret").write_bytes(b"0" * 32 + b"\nsecret")
    store.put(KEY, b"a key")
    for folder in ("challenges", "live"):
        (store.path / folder).mkdir()
        (store.path / folder / "example.com").write_bytes(b"0" * 32 + b"\nno record")
    assert list(store.scan(prefix)) == []
    assert [name for name, _ in store.scan("")] == [KEY]


def test_a_link_in_the_place_of_a_record_is_not_followed(store, tmp_path):
    store.put(KEY, b"a key")
    (tmp_path / "secret").write_bytes(b"0" * 32 + b"\nsecret")
    place = store.path / "certificate" / "example.com"
    place.unlink()
    place.symlink_to(tmp_path / "secret")
    with pytest.raises(StoreMisconfigured, match=r"certificate/example\.com"):
        store.get(KEY)
    store.put(KEY, b"a new key")
    assert store.get(KEY).value == b"a new key"
    assert (tmp_path / "secret").read_bytes() == b"0" * 32 + b"\nsecret"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty, after a crash of a file system"),
        pytest.param(b"edited by hand", id="no first line"),
        pytest.param(b"short\nvalue", id="no version"),
    ],
)
def test_a_damaged_record_is_reported_by_its_path(store, content):
    store.put(KEY, b"a key")
    place = store.path / "certificate" / "example.com"
    place.write_bytes(content)
    with pytest.raises(StoreMisconfigured) as caught:
        store.get(KEY)
    assert caught.value.path == str(place)
    assert list(store.scan("certificate/")) == [(KEY, Record(b"", ""))]


@pytest.mark.parametrize(
    "put_there",
    [
        pytest.param(Path.touch, id="an empty file"),
        pytest.param(lambda place: place.write_bytes(b"PNG\r\n\x1a\n"), id="a file of something else"),
        pytest.param(lambda place: place.write_bytes(b'{"schema": 1}'), id="a record without its first line"),
        pytest.param(Path.mkdir, id="a folder"),
        pytest.param(lambda place: place.symlink_to("/etc/passwd"), id="a link"),
        pytest.param(os.mkfifo, id="a FIFO"),
    ],
)
def test_what_is_no_record_keeps_no_other_from_being_scanned(store, put_there):
    version = store.put(KEY, b"a key")
    put_there(store.path / "certificate" / "example.com.bak")
    (store.path / "certificate" / "example.com~").touch()  # which is no key
    assert list(store.scan("certificate/")) == [(KEY, Record(b"a key", version)), (f"{KEY}.bak", Record(b"", ""))]
    with pytest.raises(StoreMisconfigured, match=r"certificate/example\.com\.bak"):
        store.get(f"{KEY}.bak")
    for write in (store.delete, lambda name, expect: store.put(name, b"x", expect=expect)):
        with pytest.raises(Conflict):
            write(f"{KEY}.bak", expect="")


def test_the_directory_is_where_it_was_when_the_program_moves_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = DirectoryStore("state")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.put(KEY, b"a key")
    assert (tmp_path / "state" / "certificate" / "example.com").is_file()


def test_writers_killed_at_any_moment_leave_whole_records_and_nothing_else(store):
    kills = 200 if os.environ.get("SCALE") == "full" else 40
    values = [bytes([number]) * 20_000 for number in range(4)]
    store.put(KEY, values[0])
    writers = program(
        """
        import os, random, signal, sys, time
        from acme_middleware.stores.directory import DirectoryStore
        store = DirectoryStore(sys.argv[1])
        for _ in range(int(sys.argv[2])):
            child = os.fork()
            if child == 0:
                while True:
                    store.put("certificate/example.com", bytes([random.randrange(4)]) * 20_000)
            time.sleep(random.uniform(0.001, 0.02))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            print("killed", flush=True)
        """,
        store.path,
        kills,
    )
    try:
        reads = 0
        while writers.poll() is None:
            assert store.get(KEY).value in values
            reads += 1
        assert writers.stdout.read() == "killed\n" * kills
    finally:
        writers.kill()
        writers.communicate()
    assert reads > kills
    version = store.put(KEY, b"last")
    assert store.get(KEY).version == version
    assert sorted(str(path.relative_to(store.path)) for path in store.path.rglob("*")) == [
        ".lock",
        "certificate",
        "certificate/example.com",
    ]


def test_a_stopped_writer_is_reported_in_time_and_not_waited_for(store, monkeypatch):
    store.put(KEY, b"a key")
    holder = program(
        """
        import sys
        from pathlib import Path
        from acme_middleware import _files
        with _files.exclusive(Path(sys.argv[1])):
            print("locked", flush=True)
            sys.stdin.readline()
        """,
        store.path / ".lock",
    )
    try:
        assert holder.stdout.readline() == "locked\n"
        holder.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(_files.exclusive.__wrapped__, "__kwdefaults__", {"patience": 0.3})
        start = time.monotonic()
        with pytest.raises(StoreUnavailable, match="another process holds the lock"):
            store.put(KEY, b"a new key")
        assert 0.3 <= time.monotonic() - start < 5
        assert store.get(KEY).value == b"a key"
    finally:
        holder.kill()
        holder.communicate()
    store.put(KEY, b"a new key")


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        pytest.param(errno.ENOSPC, StoreUnavailable, id="the disk is full"),
        pytest.param(errno.EDQUOT, StoreUnavailable, id="the quota is used up"),
        pytest.param(errno.EIO, StoreUnavailable, id="the disk fails"),
        pytest.param(errno.EMFILE, StoreUnavailable, id="too many open files"),
        pytest.param(errno.EROFS, StoreMisconfigured, id="mounted read-only"),
        pytest.param(errno.EACCES, StoreMisconfigured, id="no rights"),
    ],
)
@pytest.mark.parametrize("step", ["open", "write", "fchmod", "fsync", "rename"])
def test_a_failing_disk_keeps_the_old_record_and_says_so(store, monkeypatch, step, failure, expected):
    old = store.put(KEY, b"old")
    real = getattr(os, step)

    def failing(first, *args, **kwargs):
        if step != "open" or str(first).endswith(".new"):
            raise OSError(failure, os.strerror(failure), *([str(first)] if step in ("open", "rename") else []))
        return real(first, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, step, failing)
        with pytest.raises(expected) as caught:
            store.put(KEY, b"new", expect=old)
    assert caught.value.hint
    assert str(store.path) in str(caught.value)
    assert caught.value.path.startswith(str(store.path))
    record = store.get(KEY)
    assert (record.value, record.version) == (b"old", old)
    store.put(KEY, b"new", expect=old)
    assert not (store.path / ".new").exists()


def test_a_record_is_on_the_disk_before_it_is_shown_and_the_folder_after(store, monkeypatch):
    store.put(KEY, b"old")
    done, opened = [], {}
    real_open, real_fsync, real_rename, real_unlink = os.open, os.fsync, os.rename, os.unlink

    def watched_open(path, *args, **kwargs):
        file = real_open(path, *args, **kwargs)
        opened[file] = Path(path).name
        return file

    monkeypatch.setattr(os, "open", watched_open)
    monkeypatch.setattr(os, "fsync", lambda file: (real_fsync(file), done.append(("fsync", opened[file]))))
    monkeypatch.setattr(os, "rename", lambda *paths: (real_rename(*paths), done.append(("rename", Path(paths[1]).name))))
    store.put(KEY, b"new")
    assert done == [("fsync", ".new"), ("rename", "example.com"), ("fsync", "certificate")]
    done.clear()
    monkeypatch.setattr(os, "unlink", lambda path: (real_unlink(path), done.append(("unlink", Path(path).name))))
    store.delete(KEY)
    assert done == [("unlink", "example.com"), ("fsync", "certificate")]


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_them_all(store, monkeypatch):
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: real(file, bytes(data[:7])))
        store.put(KEY, bytes(range(256)))
    assert store.get(KEY).value == bytes(range(256))


def test_check_for_writing_makes_the_directory(store):
    store.check(writable=True)
    assert mode(store.path) == 0o755
    assert list(store.scan("")) == []


def test_check_for_reading_names_a_directory_that_is_not_there(store):
    with pytest.raises(StoreMisconfigured, match="there is no directory") as caught:
        store.check(writable=False)
    assert "spelled" in caught.value.hint
    assert not store.path.exists()
    assert store.get(KEY) is None
    assert store.delete(KEY) is False
    assert not store.path.exists()


def test_a_file_in_the_place_of_the_directory_is_reported(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StoreMisconfigured, match="state"):
        DirectoryStore(tmp_path / "state").check(writable=True)


AS_NOBODY = """
import fcntl, os, pwd, sys  # all that is loaded later, while it can be read
from acme_middleware.errors import AcmeMiddlewareError
from acme_middleware.stores.directory import DirectoryStore
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
store = DirectoryStore(sys.argv[1])
try:
    getattr(store, sys.argv[2])(**eval(sys.argv[3]))
except AcmeMiddlewareError as error:
    print(type(error).__name__, error.exit_code, error, error.hint, sep="|")
"""


@pytest.mark.parametrize(
    ("made", "method", "arguments"),
    [
        pytest.param("parent", "check", {"writable": True}, id="it cannot be made"),
        pytest.param("state", "check", {"writable": True}, id="it cannot be written"),
        pytest.param("record", "put", {"key": KEY, "value": b"x"}, id="a record cannot be written"),
        pytest.param("record", "get", {"key": KEY}, id="a record cannot be read"),
        pytest.param("record", "check", {"writable": False}, id="records cannot be listed"),
    ],
)
def test_a_user_without_rights_is_told_whose_they_are(public_tmp, made, method, arguments):
    import pwd

    parent = public_tmp / "var"
    parent.mkdir(mode=0o755)
    store = DirectoryStore(parent / "state")
    if made == "record":
        store.put(KEY, b"a key")
        os.chmod(store.path / "certificate", 0o000 if os.geteuid() else 0o700)
        os.chmod(store.path, 0o555)
    elif made == "state":
        store.path.mkdir(mode=0o555)
    else:
        os.chmod(parent, 0o555)
    try:
        output, _ = program(AS_NOBODY, store.path, method, arguments).communicate(timeout=60)
    finally:
        for path in (parent, store.path, store.path / "certificate"):
            if path.exists():
                os.chmod(path, 0o700)
    kind, code, message, hint = output.strip().split("|")
    assert (kind, code) == ("StoreMisconfigured", "2")
    assert str(store.path) in message
    owner = pwd.getpwuid(os.geteuid()).pw_name
    runs_as = pwd.getpwuid(os.geteuid() or NOBODY).pw_name
    assert f"belongs to {owner}, and this process runs as {runs_as}" in hint


def test_an_absent_record_is_expected_absent_while_its_folder_is_missing_too(store):
    version = store.put(key("account", "le", "default"), b"first", expect=Expect.ABSENT)
    assert store.get(key("account", "le", "default")).version == version


def test_where_there_is_no_posix_all_can_be_imported():
    importing = program(
        """
        import importlib, sys
        for name in ("fcntl", "grp", "pwd"):
            sys.modules[name] = None
        for name in ("stores.directory", "stores.memory", "lease", "deploy.publish", "deploy.snapshot"):
            importlib.import_module("acme_middleware." + name)
        print("imported")
        """
    )
    assert importing.communicate(timeout=60)[0] == "imported\n"
