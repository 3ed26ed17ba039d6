"""Token files in a web root: foreign clients' files, hostile files, modes, expiry, and writers that are killed."""

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest

from acme_middleware import _files
from acme_middleware.errors import StoreMisconfigured, StoreUnavailable
from acme_middleware.stores import challenges
from acme_middleware.stores.challenges import WebrootChallengeStore

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ANSWER = TOKEN + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
NOBODY = 65534


@pytest.fixture
def store(tmp_path):
    return WebrootChallengeStore(tmp_path)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / ".well-known" / "acme-challenge"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def public():
    """A folder that other users can reach: those of tmp_path are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def make_stale(path, seconds=1):
    os.utime(path, (time.time() - seconds,) * 2)


class TestForeignFiles:
    """What certbot, lego, acme.sh or a person put there."""

    @pytest.mark.parametrize("end", ["", "\n", "\r\n", " \n\n\t"], ids=["nothing", "newline", "CRLF", "white space"])
    def test_a_file_is_answered_without_the_white_space_at_its_end(self, store, folder, end):
        (folder / TOKEN).write_bytes(ANSWER.encode() + end.encode())
        assert store.key_authorization(TOKEN) == ANSWER

    def test_white_space_elsewhere_is_left_alone(self, store, folder):
        (folder / TOKEN).write_bytes(b" a\nb")
        assert store.key_authorization(TOKEN) == " a\nb"

    def test_a_file_is_never_swept_however_old(self, store, folder):
        (folder / TOKEN).write_text(ANSWER)
        (folder / ".htaccess").write_text("Require all granted")
        (folder / ".expires-not.a.token").write_text("")
        for path in folder.iterdir():
            make_stale(path, 10**8)
        before = {path.name for path in folder.iterdir()}
        store.present("ours", "ours.thumbprint", ttl=60)
        store.remove("ours")
        assert {path.name for path in folder.iterdir()} == before
        assert store.key_authorization(TOKEN) == ANSWER

    def test_every_client_s_files_are_found_at_once(self, store, folder):
        assert store.key_authorization(TOKEN) is None
        (folder / TOKEN).write_text(ANSWER)
        assert store.key_authorization(TOKEN) == ANSWER
        (folder / TOKEN).unlink()
        assert store.key_authorization(TOKEN) is None


class TestHostileFiles:
    """Whoever may write there must not make the web server read, hang or fail."""

    def unknown(self, store):
        start = time.monotonic()
        assert store.key_authorization(TOKEN) is None
        assert time.monotonic() - start < 1

    def test_a_directory(self, store, folder):
        (folder / TOKEN).mkdir()
        self.unknown(store)

    def test_a_fifo(self, store, folder):
        os.mkfifo(folder / TOKEN)
        self.unknown(store)

    def test_a_fifo_that_somebody_writes_to(self, store, folder):
        os.mkfifo(folder / TOKEN)
        writer = os.open(folder / TOKEN, os.O_RDWR)
        os.write(writer, ANSWER.encode())
        self.unknown(store)
        os.close(writer)

    def test_a_unix_socket(self, store, folder):
        import socket

        with socket.socket(socket.AF_UNIX) as listener:
            # By a relative path: a socket's own is 107 characters at most.
            here = Path.cwd()
            os.chdir(folder)
            try:
                listener.bind(TOKEN)
            finally:
                os.chdir(here)
            self.unknown(store)

    @pytest.mark.parametrize("target", ["/etc/hostname", "other", "missing", TOKEN], ids=["outside", "inside", "none", "loop"])
    def test_a_link(self, store, folder, target):
        (folder / "other").write_text("other.thumbprint")
        (folder / TOKEN).symlink_to(target)
        self.unknown(store)

    @pytest.mark.parametrize("size", [257, 5_000_000])
    def test_a_big_file_is_not_read(self, store, folder, size, monkeypatch):
        (folder / TOKEN).write_bytes(b"x" * size)
        read = []
        monkeypatch.setattr(challenges.os, "read", lambda *args: read.append(args) or b"")
        self.unknown(store)
        assert read == []

    def test_the_biggest_file_that_is_read(self, store, folder):
        (folder / TOKEN).write_bytes(b"x" * 256)
        assert store.key_authorization(TOKEN) == "x" * 256

    @pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", "tök".encode()], ids=["empty", "blank", "bytes", "UTF-8"])
    def test_what_is_no_key_authorization(self, store, folder, content):
        (folder / TOKEN).write_bytes(content)
        self.unknown(store)

    def test_a_file_where_a_folder_should_be(self, store, tmp_path):
        (tmp_path / ".well-known").write_text("")
        self.unknown(store)
        with pytest.raises(StoreMisconfigured, match="cannot write to"):
            store.present(TOKEN, ANSWER, ttl=60)

    def test_a_directory_in_the_place_of_a_token_to_present(self, store, folder):
        (folder / TOKEN).mkdir()
        with pytest.raises(StoreMisconfigured, match="Is a directory"):
            store.present(TOKEN, ANSWER, ttl=60)
        assert [path.name for path in folder.iterdir() if path.name.startswith(".acme-middleware")] == []

    def test_a_link_in_the_place_of_a_token_is_replaced_not_followed(self, store, folder, tmp_path):
        (tmp_path / "precious").write_text("precious")
        (folder / TOKEN).symlink_to(tmp_path / "precious")
        (folder / f".expires-{TOKEN}").symlink_to(tmp_path / "precious")
        store.present(TOKEN, ANSWER, ttl=60)
        assert store.key_authorization(TOKEN) == ANSWER
        assert (tmp_path / "precious").read_text() == "precious"

    @pytest.mark.parametrize("token", ["", "../x", "a/b", ".expires-x", "x\n", "x" * 129])
    def test_the_store_itself_writes_and_removes_tokens_only(self, store, folder, token):
        with pytest.raises(ValueError, match="is no token"):
            store.present(token, ANSWER, ttl=60)
        with pytest.raises(ValueError, match="is no token"):
            store.remove(token)
        assert list(folder.iterdir()) == []


class TestExpiry:
    def test_a_token_s_twin_has_its_expiry_as_modification_time(self, store, folder):
        store.present(TOKEN, ANSWER, ttl=3600)
        assert (folder / f".expires-{TOKEN}").stat().st_mtime == pytest.approx(time.time() + 3600, abs=5)

    def test_an_expired_pair_is_absent_before_anybody_sweeps_it(self, store, folder):
        store.present(TOKEN, ANSWER, ttl=3600)
        make_stale(folder / f".expires-{TOKEN}")
        make_stale(folder / TOKEN)
        assert store.key_authorization(TOKEN) is None
        assert (folder / TOKEN).exists()

    def test_it_is_absent_the_moment_it_expires(self, store):
        store.present(TOKEN, ANSWER, ttl=0.3)
        until = time.time() + 0.3
        while store.key_authorization(TOKEN) == ANSWER:
            assert time.time() < until + 0.5
        assert time.time() >= until - 0.1

    @pytest.mark.parametrize("age", [-3600, 0, 3600 * 24 * 365])
    def test_a_foreign_file_is_answered_however_old_it_is(self, store, folder, age):
        (folder / TOKEN).write_text(ANSWER)
        make_stale(folder / TOKEN, age)
        assert store.key_authorization(TOKEN) == ANSWER

    def test_a_foreign_file_in_the_place_of_ours_expires_as_ours_would_have(self, store, folder):
        store.present(TOKEN, ANSWER, ttl=3600)
        (folder / TOKEN).write_text("foreign.thumbprint")
        assert store.key_authorization(TOKEN) == "foreign.thumbprint"
        make_stale(folder / f".expires-{TOKEN}")
        assert store.key_authorization(TOKEN) is None

    @pytest.mark.parametrize("command", ["present", "remove"])
    def test_the_next_command_sweeps_it(self, store, folder, command):
        store.present(TOKEN, ANSWER, ttl=3600)
        store.present("living", "living.thumbprint", ttl=3600)
        make_stale(folder / f".expires-{TOKEN}")
        if command == "present":
            store.present("other", "other.thumbprint", ttl=60)
        else:
            store.remove("other")
        left = {path.name for path in folder.iterdir()} - {"other", ".expires-other"}
        assert left == {"living", ".expires-living"}

    def test_the_expiry_is_there_before_the_token(self, store, folder, monkeypatch):
        written = []
        replace = os.replace

        def watched(source, target):
            written.append((Path(target).name, Path(source).stat().st_mtime > time.time() + 3000))
            replace(source, target)

        monkeypatch.setattr(challenges.os, "replace", watched)
        store.present(TOKEN, ANSWER, ttl=3600)
        assert written == [(f".expires-{TOKEN}", True), (TOKEN, True)]

    def test_a_foreign_token_that_we_present_gets_an_expiry(self, store, folder):
        (folder / TOKEN).write_text("an older answer")
        store.present(TOKEN, ANSWER, ttl=3600)
        make_stale(folder / f".expires-{TOKEN}")
        store.remove("another")
        assert list(folder.iterdir()) == []

    def test_an_expiry_without_a_token_goes_too(self, store, folder):
        (folder / ".expires-gone").touch()
        make_stale(folder / ".expires-gone")
        store.remove("another")
        assert list(folder.iterdir()) == []


class TestModes:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
    def test_web_workers_of_another_user_can_read_whatever_the_umask(self, tmp_path, umask):
        root = tmp_path / "a" / "challenges"
        before = os.umask(umask)
        try:
            WebrootChallengeStore(root, make_root=True).present(TOKEN, ANSWER, ttl=60)
        finally:
            os.umask(before)
        folder = root / ".well-known" / "acme-challenge"
        assert {mode(path) for path in (root.parent, root, folder.parent, folder)} == {0o755}
        assert {path.name: mode(path) for path in folder.iterdir()} == {TOKEN: 0o644, f".expires-{TOKEN}": 0o644}

    def test_folders_that_are_there_keep_their_modes(self, store, folder):
        folder.chmod(0o750)
        store.present(TOKEN, ANSWER, ttl=60)
        assert mode(folder) == 0o750

    def test_a_missing_root_is_not_made_unless_asked_for(self, tmp_path):
        with pytest.raises(StoreMisconfigured, match="there is no folder") as caught:
            WebrootChallengeStore(tmp_path / "typo").present(TOKEN, ANSWER, ttl=60)
        assert "correct the store's URL" in caught.value.hint
        assert not (tmp_path / "typo").exists()

    def test_removing_from_nowhere_is_no_error(self, tmp_path):
        WebrootChallengeStore(tmp_path / "nowhere").remove(TOKEN)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_a_user_without_rights_is_told_so(self, public):
        store = WebrootChallengeStore(public)
        store.present(TOKEN, ANSWER, ttl=60)
        outcome = as_nobody(
            f"""
            from acme_middleware.stores.challenges import WebrootChallengeStore
            from acme_middleware.errors import StoreMisconfigured
            store = WebrootChallengeStore({str(public)!r})
            print(store.key_authorization({TOKEN!r}))
            for write in (lambda: store.present("other", "other.x", ttl=60), lambda: store.remove({TOKEN!r})):
                try:
                    write()
                except StoreMisconfigured as error:
                    print(error, "|", error.hint)
            """
        )
        assert outcome[0] == ANSWER
        assert "cannot write to" in outcome[1]
        assert "cannot remove from" in outcome[2]
        assert all("Permission denied | the commands must be able to write there" in line for line in outcome[1:])

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_a_token_that_the_web_worker_may_not_read_is_a_failure_not_an_unknown_token(self, public):
        WebrootChallengeStore(public).present(TOKEN, ANSWER, ttl=60)
        (public / ".well-known" / "acme-challenge" / TOKEN).chmod(0o600)
        (line,) = as_nobody(
            f"""
            from acme_middleware.stores.challenges import WebrootChallengeStore
            from acme_middleware.errors import StoreMisconfigured
            try:
                WebrootChallengeStore({str(public)!r}).key_authorization({TOKEN!r})
            except StoreMisconfigured as error:
                print(error)
            """
        )
        assert "cannot read" in line
        assert "Permission denied" in line


def as_nobody(script):
    # The modules first: another user may have no right to read where they are.
    script = (
        "import fcntl, os, pathlib\nimport acme_middleware._files, acme_middleware.errors, acme_middleware.stores.challenges\n"
        f"os.setgid({NOBODY}); os.setuid({NOBODY})\n" + textwrap.dedent(script)
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=30, capture_output=True, text=True)
    return done.stdout.splitlines()


class TestWriters:
    def test_a_reader_never_sees_half_a_token(self, store):
        answers = [f"{TOKEN}.{letter * 43}" for letter in "ab"]
        store.present(TOKEN, answers[0], ttl=60)
        seen, stop = set(), threading.Event()

        def read():
            while not stop.is_set():
                seen.add(store.key_authorization(TOKEN))

        reader = threading.Thread(target=read)
        reader.start()
        for number in range(300):
            store.present(TOKEN, answers[number % 2], ttl=60)
        stop.set()
        reader.join()
        assert seen == set(answers)

    def test_what_killed_writers_leave_is_no_token_and_goes_with_the_next_command(self, store, folder):
        script = f"""
from acme_middleware.stores.challenges import WebrootChallengeStore
print("ready", flush=True)
while True:
    WebrootChallengeStore({str(folder.parent.parent)!r}).present({TOKEN!r}, {ANSWER!r}, ttl=60)
"""
        for number in range(20):
            writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(0.003 * number)
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
            assert store.key_authorization(TOKEN) in (ANSWER, None)
            assert not (folder / TOKEN).exists() or (folder / f".expires-{TOKEN}").exists()
        # A writer holds the lock while it writes: what is half written when another has the lock is a dead one's.
        (folder / ".acme-middleware-fedcba9876543210").write_text(ANSWER[:20])
        for path in folder.glob(".expires-*"):
            make_stale(path)
        store.remove("another")
        assert list(folder.iterdir()) == []

    def test_where_the_folder_cannot_be_locked_a_half_written_file_may_be_anothers(self, store, folder, monkeypatch):
        def cannot(descriptor, operation):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("fcntl.flock", cannot)
        store.present(TOKEN, ANSWER, ttl=60)
        stale, young = folder / ".acme-middleware-0123456789abcdef", folder / ".acme-middleware-fedcba9876543210"
        stale.write_text(ANSWER[:20])
        young.write_text(ANSWER[:20])
        make_stale(stale, 3600)
        store.remove(TOKEN)
        assert list(folder.iterdir()) == [young], "a writer that may be alive lost its file"

    def test_a_full_disk_is_worth_another_try_and_leaves_nothing_half_written(self, store, folder):
        import resource

        # A limit on file sizes fails a write as a full disk does, after the file was made.
        script = f"""
import resource, signal
from acme_middleware.stores.challenges import WebrootChallengeStore
from acme_middleware.errors import StoreUnavailable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, {resource.getrlimit(resource.RLIMIT_FSIZE)[1]}))
try:
    WebrootChallengeStore({str(folder.parent.parent)!r}).present({TOKEN!r}, {ANSWER!r}, ttl=60)
except StoreUnavailable as error:
    print(error)
"""
        done = subprocess.run([sys.executable, "-c", script], check=True, timeout=30, capture_output=True, text=True)
        assert "cannot write to" in done.stdout
        assert {path.name for path in folder.iterdir()} <= {f".expires-{TOKEN}"}

    def test_a_writer_waits_for_another_that_sweeps(self, store, folder):
        import fcntl

        presented = threading.Event()
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)

        def present():
            store.present(TOKEN, ANSWER, ttl=60)
            presented.set()

        writer = threading.Thread(target=present)
        writer.start()
        assert not presented.wait(0.3)
        assert store.key_authorization(TOKEN) is None, "a reader must not wait"
        os.close(descriptor)
        assert presented.wait(5)
        writer.join()

    @pytest.mark.parametrize("command", ["present", "remove"])
    def test_a_stopped_writer_is_reported_in_time_and_not_waited_for(self, store, folder, monkeypatch, command):
        script = f"""
import os, signal
from acme_middleware.stores.challenges import WebrootChallengeStore
store = WebrootChallengeStore({str(folder.parent.parent)!r})
with store._locked():
    print("locked", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""
        use = {"present": lambda: store.present(TOKEN, ANSWER, ttl=60), "remove": lambda: store.remove(TOKEN)}[command]
        monkeypatch.setattr(_files.lock_in_time, "__defaults__", (0.3,))
        holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        try:
            assert holder.stdout.readline() == b"locked\n"
            start = time.monotonic()
            with pytest.raises(StoreUnavailable, match="another process holds the lock") as caught:
                use()
            assert 0.3 <= time.monotonic() - start < 5
            assert str(folder) in str(caught.value)
            assert "let it go on, or end it" in caught.value.hint
        finally:
            holder.kill()
            holder.communicate()
        use()

    def test_a_relative_root_outlives_a_change_of_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        store = WebrootChallengeStore("site", make_root=True)
        store.present(TOKEN, ANSWER, ttl=60)
        monkeypatch.chdir("/")
        assert store.key_authorization(TOKEN) == ANSWER


class TestReadBefore:
    """A reader remembers what a file said, for as long as it is that very file."""

    @pytest.fixture
    def path(self, store, folder):
        WebrootChallengeStore(store.root).present(TOKEN, ANSWER, ttl=60)
        assert [store.key_authorization(TOKEN) for _ in range(3)] == [ANSWER] * 3
        return folder / TOKEN

    @pytest.mark.parametrize(
        ("change", "then"),
        [
            pytest.param(Path.unlink, None, id="removed"),
            pytest.param(lambda path: path.rename(path.with_name("other")), None, id="renamed"),
            pytest.param(lambda path: path.parent.rename(path.parent.with_name("old")), None, id="its folder moved away"),
            pytest.param(make_stale, ANSWER, id="touched, its twin says that it is good"),
            pytest.param(lambda path: (make_stale(path), make_stale(path.with_name(".expires-" + TOKEN))), None, id="expired"),
            pytest.param(lambda path: path.write_text("b" * len(ANSWER)), "b" * len(ANSWER), id="written over, as long"),
            pytest.param(lambda path: path.write_bytes(b""), None, id="emptied"),
            pytest.param(lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), None, id="a link in its place"),
            pytest.param(lambda path: (path.unlink(), path.mkdir()), None, id="a folder in its place"),
        ],
    )
    def test_a_file_that_changed_is_read_again(self, store, path, change, then):
        change(path)
        assert store.key_authorization(TOKEN) == then

    def test_another_file_in_its_place_is_read(self, store, path):
        other = path.with_name("fresh")
        other.write_text("other.answer")
        other.replace(path)
        assert store.key_authorization(TOKEN) == "other.answer"

    def test_what_is_remembered_is_bounded(self, store):
        writer = WebrootChallengeStore(store.root)
        for number in range(challenges.READ_KEPT + 5):
            writer.present(f"token-{number}", f"token-{number}.thumbprint", ttl=60)
            assert store.key_authorization(f"token-{number}") == f"token-{number}.thumbprint"
        assert len(store._read) <= challenges.READ_KEPT
