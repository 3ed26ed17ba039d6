"""Files that are whole or not there, and private from their first byte. Every error names the path that it is about."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 10.0


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Name the path in an OSError of a call that was given a file descriptor, or a name relative to one."""
    try:
        yield
    except OSError as error:
        if error.filename is None or not os.path.isabs(os.fsdecode(error.filename)):
            error.filename = str(path)
        raise


@contextmanager
def exclusive(path: Path, *, patience: float = PATIENCE) -> Iterator[None]:
    """
    Hold the lock file ``path``, which is made when absent and never deleted.

    Each call has a descriptor of its own, so that threads exclude each other as processes do. The kernel lets go of the lock
    of a process that dies.

    Raises:
        TimeoutError: another process has held it for ``patience`` seconds: it hangs, or is stopped.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with about(path):
            lock_in_time(lock, patience)
        yield
    finally:
        os.close(lock)


def lock_in_time(descriptor: int, patience: float = PATIENCE) -> None:
    """
    Lock what is open as ``descriptor``, a file or a folder, until that is closed.

    Raises:
        TimeoutError: another process has held it for ``patience`` seconds: it hangs, or is stopped.
        OSError: the file system cannot lock it.
    """
    import fcntl  # not on Windows, where this module's importers must be importable

    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds the lock and does not move") from None
            # Polled, since a blocking flock has no time limit. At random, or one of two would always be late.
            time.sleep(random.uniform(0.0005, 0.005))  # noqa: S311


def read(path: str | Path) -> bytes:
    """Read a whole file; a link in its place is not followed, and a FIFO is not waited for."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    parts = []
    try:
        while part := os.read(file, 1 << 16):
            parts.append(part)
    except OSError as error:
        error.filename = str(path)  # not by about(): a scan calls this ten thousand times
        raise
    finally:
        os.close(file)
    return b"".join(parts)


def create(path: Path, data: bytes, *, mode: int = 0o600, uid: int = -1, gid: int = -1) -> None:
    """
    Make a file that was not there, and return when it is on the disk.

    Nobody but its owner can read it before it has the owner, group and mode asked for, which no umask changes.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with about(path):
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            os.fchown(file, uid, gid)
            os.fchmod(file, mode)
            os.fsync(file)
    finally:
        os.close(file)


def make_folder(path: Path, mode: int) -> None:
    """Make a folder of this mode, whatever the umask, and return when it is on the disk; leave one that is there."""
    try:
        os.mkdir(path, mode & 0o700)
    except FileExistsError:
        return
    os.chmod(path, mode)
    sync_folder(path.parent)


def make_parents(path: Path) -> None:
    """Make the folders above a folder, each 0755, as far as they are missing."""
    for parent in reversed(path.parents):
        if not parent.exists():
            make_folder(parent, 0o755)


def sync_folder(path: Path) -> None:
    """Return when what was made, renamed or deleted in a folder is on the disk."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with about(path):
            os.fsync(folder)
    finally:
        os.close(folder)


def who(error: OSError) -> str:
    """A hint for an error of rights: whose the path is, who runs, and what to do."""
    if error.errno not in (errno.EACCES, errno.EPERM) or not error.filename:
        return ""
    place = Path(os.fsdecode(error.filename))
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        owner = _user(os.lstat(place).st_uid)
    except OSError:
        return f"this process runs as {_user(os.geteuid())}"
    return f"{place} belongs to {owner}, and this process runs as {_user(os.geteuid())}"


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
