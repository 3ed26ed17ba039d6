"""Publishing under kill -9 and with a disk that fails at each step: a reader sees one whole pair, the old or the new."""

import errno
import functools
import itertools
import json
import os
import shutil
import ssl
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from acme_middleware.deploy.publish import publish
from acme_middleware.deploy.snapshot import read
from acme_middleware.errors import PublishFailed
from acme_middleware.testing.certificates import self_made

NAME = "example.com"
FILES = ["bundle.pem", "cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"]
FULL = os.environ.get("SCALE") == "full"
KILLS = 500 if FULL else 100
RENEWALS = 1000


@pytest.fixture(scope="module")
def pairs():
    return [self_made(NAME) for _ in range(8)]


@pytest.fixture(scope="module")
def published(tmp_path_factory, pairs):
    """A root in which the sixth version is current, so that the seventh prunes one."""
    root = tmp_path_factory.mktemp("live")
    for number in range(6):
        publish(root, NAME, lambda number=number: pairs[number])
    return root


def contents(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def python(program, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        **options,
    )


class Disk:
    """Counts the system calls of the writer, and fails one of them."""

    CALLS = (
        "chmod",
        "fchmod",
        "fchown",
        "fsync",
        "listdir",
        "mkdir",
        "open",
        "readlink",
        "rename",
        "replace",
        "rmdir",
        "symlink",
        "unlink",
        "write",
    )

    def __init__(self, patch, failing=None, error=errno.EIO):
        self.made = []
        for name in self.CALLS:
            patch.setattr(os, name, functools.partial(self.call, name, getattr(os, name), failing, error))

    def call(self, name, real, failing, error, *args, **kwargs):
        self.made.append(name)
        if len(self.made) - 1 == failing:
            path = [os.fspath(args[0])] if isinstance(args[0], (str, os.PathLike)) else []
            raise OSError(error, os.strerror(error), *path)
        return real(*args, **kwargs)


def copied(published, tmp_path):
    return Path(shutil.copytree(published, tmp_path / "live", symlinks=True, dirs_exist_ok=False))


def steps(published, tmp_path, pairs):
    root = copied(published, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        publish(root, NAME, lambda: pairs[6])
    shutil.rmtree(root)
    return disk.made


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(errno.ENOSPC, id="the disk is full"),
        pytest.param(errno.EIO, id="the disk fails"),
        pytest.param(errno.EROFS, id="mounted read-only meanwhile"),
        pytest.param(errno.EACCES, id="rights taken away meanwhile"),
    ],
)
def test_a_fault_at_any_system_call_leaves_a_whole_pair_and_is_mended_by_the_next_run(published, tmp_path, pairs, error):
    made = steps(published, tmp_path, pairs)
    assert len(made) > 36
    swapped = made.index("replace")
    failed = 0
    for step, call in enumerate(made):
        root = copied(published, tmp_path)
        old = contents(root / NAME / "current")
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, failing=step, error=error)
            raised = None
            try:
                publish(root, NAME, lambda: pairs[6])
            except PublishFailed as caught:
                raised = caught
        if raised is None:
            # Only tidying up may fail without a word to the caller: the new pair is in place.
            assert step > swapped, (step, call)
            assert call != "fsync", (step, call)
        else:
            failed += 1
            assert raised.path.startswith(str(root)), (step, call)
            assert raised.hint, (step, call)
            assert os.strerror(error) in str(raised), (step, call)
        assert disk.made[step] == call
        now = contents(root / NAME / "current")
        if step <= swapped:
            assert now == old, (step, call)
        else:
            assert now["privkey.pem"] == pairs[6].key, (step, call)
        assert read(root / NAME / "current" / "fullchain.pem", root / NAME / "current" / "privkey.pem", patience=0)

        publish(root, NAME, lambda: pairs[7])
        assert contents(root / NAME / "current")["privkey.pem"] == pairs[7].key
        left = sorted(os.listdir(root / NAME))
        assert left[-1] == "current"
        assert all(entry.isdigit() for entry in left[:-1]), (step, call, left)
        assert len(left) - 1 <= 5, (step, call, left)
        shutil.rmtree(root)
    assert failed > 30


def test_everything_is_on_the_disk_before_the_link_turns(tmp_path, pairs, monkeypatch):
    publish(tmp_path, NAME, lambda: pairs[0])
    done, opened = [], {}

    def watch(name):
        real = getattr(os, name)

        def call(first, *args, **kwargs):
            result = real(first, *args, **kwargs)
            if name == "open":
                opened[result] = Path(first).name
            elif isinstance(first, int):
                done.append((name, opened[first]))
            else:
                done.append((name, *(Path(path).name for path in (first, *args) if not isinstance(path, int))))
            return result

        monkeypatch.setattr(os, name, call)

    for name in ("open", "mkdir", "write", "fchown", "fchmod", "fsync", "chmod", "rename", "symlink", "replace"):
        watch(name)
    publish(tmp_path, NAME, lambda: pairs[1])
    files = ["privkey.pem", "cert.pem", "chain.pem", "fullchain.pem", "bundle.pem"]
    assert [call for call in done if call[0] != "chmod" and call != ("mkdir", NAME)] == [
        ("mkdir", ".new-2"),
        ("fsync", NAME),
        *((step, file) for file in files for step in ("write", "fchown", "fchmod", "fsync")),
        ("fsync", ".new-2"),
        ("rename", ".new-2", "2"),
        ("fsync", NAME),
        ("symlink", "2", ".current"),
        ("replace", ".current", "current"),
        ("fsync", NAME),
    ]


def test_a_fault_during_the_very_first_publication_leaves_no_current(tmp_path, pairs):
    with pytest.MonkeyPatch.context() as patch:
        made = Disk(patch)
        publish(tmp_path / "whole", NAME, lambda: pairs[0])
    for step in range(made.made.index("replace") + 1):
        root = tmp_path / f"live-{step}"
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, failing=step)
            with pytest.raises(PublishFailed):
                publish(root, NAME, lambda: pairs[0])
        assert not os.path.lexists(root / NAME / "current")
        assert publish(root, NAME, lambda: pairs[0]).changed
        assert sorted(contents(root / NAME / "current")) == FILES


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_them_all(tmp_path, pairs, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, bytes(data[:100])))
    assert contents(publish(tmp_path, NAME, lambda: pairs[0]).current)["bundle.pem"] == (
        pairs[0].cert + pairs[0].chain + pairs[0].key
    )


def test_a_limit_of_the_kernel_on_file_sizes_is_a_failed_publication(tmp_path, pairs):
    publish(tmp_path, NAME, lambda: pairs[0])
    old = contents(tmp_path / NAME / "current")
    limited = python(
        """
        import json, resource, sys
        from pathlib import Path
        from acme_middleware.deploy.publish import Pems, publish
        from acme_middleware.errors import PublishFailed
        pems = Pems(*(part.encode() for part in json.load(sys.stdin)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
        try:
            publish(Path(sys.argv[1]), "example.com", lambda: pems)
        except PublishFailed as error:
            print(error.path)
        """,
        tmp_path,
    )
    output, _ = limited.communicate(as_json(pairs[1]), timeout=60)
    assert output == f"{tmp_path / NAME / '.new-2' / 'fullchain.pem'}\n"
    assert contents(tmp_path / NAME / "current") == old
    publish(tmp_path, NAME, lambda: pairs[1])
    assert sorted(os.listdir(tmp_path / NAME)) == ["1", "2", "current"]


def as_json(pems):
    return json.dumps([pems.key.decode(), pems.cert.decode(), pems.chain.decode()])


def load(certificate, key):
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)


class Reader:
    """
    Loads the published pair as servers do, each time it is told to; ``known`` has the key of each chain, where that is known.

    Attributes:
        loads: Of a version that was resolved once.
        pruned: Such versions that were gone before they were loaded: five newer ones had come.
        snapshots: Pairs read through the link, never in vain.
        versions: Those that were seen, in order.
    """

    def __init__(self, current, known=None):
        self.current, self.known = current, known
        self.loads = self.pruned = self.snapshots = 0
        self.versions = []

    def look(self):
        # A server that resolves the link once, as ours do.
        version = Path(os.path.realpath(self.current))
        try:
            load(version / "fullchain.pem", version / "privkey.pem")
            load(version / "bundle.pem", None)
            self.loads += 1
        except FileNotFoundError:
            # Pruned while it was read: never the current one, and five newer ones are there.
            assert not version.exists()
            assert int(os.readlink(self.current)) >= int(version.name) + 5
            self.pruned += 1
        # And one that is given the two paths through the link.
        snapshot = read(self.current / "fullchain.pem", self.current / "privkey.pem")
        snapshot.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        if self.known is not None:
            assert self.known[snapshot.certificate] == snapshot.key
        self.snapshots += 1
        if not self.versions or snapshot.version != self.versions[-1]:
            self.versions.append(snapshot.version)

    def __str__(self):
        return (
            f"{self.loads} loads of a resolved version ({self.pruned} pruned meanwhile), {self.snapshots} through the link, "
            f"{len(self.versions)} versions seen"
        )


def test_a_reader_that_loads_in_a_loop_during_a_thousand_renewals_never_fails(tmp_path, pairs):
    publish(tmp_path, NAME, lambda: pairs[0])
    renewals = python(
        """
        import sys
        from pathlib import Path
        from acme_middleware.deploy.publish import publish
        from acme_middleware.testing.certificates import self_made
        for _ in range(int(sys.argv[2])):
            pems = self_made("example.com")
            publish(Path(sys.argv[1]), "example.com", lambda: pems)
        print("renewed")
        """,
        tmp_path,
        RENEWALS,
    )
    reader = Reader(tmp_path / NAME / "current")
    try:
        while renewals.poll() is None:
            reader.look()
        assert renewals.stdout.read() == "renewed\n"
    finally:
        renewals.kill()
        renewals.communicate()
    reader.look()
    print(f"{RENEWALS} renewals: {reader}")
    assert os.readlink(tmp_path / NAME / "current") == str(RENEWALS + 1)
    assert min(reader.loads, reader.snapshots, len(reader.versions)) > RENEWALS / 10
    # It never went back to one that it had seen before.
    assert len(set(reader.versions)) == len(reader.versions)


def test_a_publisher_killed_again_and_again_never_shows_a_mismatched_pair(tmp_path, pairs):
    publish(tmp_path, NAME, lambda: pairs[0])
    publishers = python(
        """
        import json, os, random, signal, sys, time
        from pathlib import Path
        from acme_middleware.deploy.publish import Pems, publish
        pairs = [Pems(*(part.encode() for part in json.loads(line))) for line in sys.stdin.readlines()]
        publish(Path(sys.argv[1]), "example.com", lambda: pairs[1])     # all is imported before the first fork
        current = Path(sys.argv[1], "example.com", "current")
        for _ in range(int(sys.argv[2])):
            before = os.readlink(current)
            child = os.fork()
            if child == 0:
                while True:
                    for pems in pairs:
                        publish(Path(sys.argv[1]), "example.com", lambda: pems)
            while os.readlink(current) == before:
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            print("killed", flush=True)
        """,
        tmp_path,
        KILLS,
    )
    current = tmp_path / NAME / "current"
    reader = Reader(current, {pems.cert + pems.chain: pems.key for pems in pairs})
    try:
        publishers.stdin.write("".join(as_json(pems) + "\n" for pems in pairs))
        publishers.stdin.close()
        while publishers.poll() is None:
            reader.look()
        assert publishers.stdout.read() == "killed\n" * KILLS
    finally:
        publishers.kill()
        publishers.wait()
        publishers.stdout.close()
    reader.look()
    print(f"{KILLS} kills: {reader}")
    assert min(reader.loads, reader.snapshots) > KILLS
    assert len(set(reader.versions)) > 5
    assert int(os.readlink(current)) > KILLS

    publish(tmp_path, NAME, lambda: self_made(NAME))
    entries = sorted(os.listdir(tmp_path / NAME))
    assert entries[-1] == "current"
    assert all(entry.isdigit() for entry in entries[:-1])
    assert len(entries) <= 6


def test_many_publishers_at_once_leave_whole_versions(tmp_path, pairs):
    publishers = [
        python(
            """
            import json, sys
            from pathlib import Path
            from acme_middleware.deploy.publish import Pems, publish
            pems = Pems(*(part.encode() for part in json.load(sys.stdin)))
            for _ in range(10):
                publish(Path(sys.argv[1]), "example.com", lambda: pems)
            """,
            tmp_path,
        )
        for _ in range(4)
    ]
    for publisher, pems in zip(publishers, pairs, strict=False):
        publisher.stdin.write(as_json(pems))
        publisher.stdin.close()
    deadline = time.monotonic() + 120
    for publisher in publishers:
        assert publisher.wait(timeout=max(0.1, deadline - time.monotonic())) == 0
        publisher.stdout.close()
    whole = [list(pems.files().items()) for pems in pairs]
    for directory in [path for path in (tmp_path / NAME).iterdir() if path.name != "current"]:
        assert sorted(contents(directory).items()) in [sorted(files) for files in whole]


def test_publishing_takes_milliseconds(tmp_path, pairs):
    took = []
    for pems in itertools.islice(itertools.cycle(pairs), 20):
        start = time.perf_counter()
        assert publish(tmp_path, NAME, lambda pems=pems: pems).changed
        took.append(time.perf_counter() - start)
    # Generous: a disk that truly waits for its platters takes some ten milliseconds for each of nine fsyncs.
    assert min(took) < 0.5
