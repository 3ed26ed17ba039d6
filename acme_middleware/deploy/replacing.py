"""Files of fixed names in one folder, replaced together: each is whole whenever it is read, and keeps its owner and mode."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from acme_middleware import _files
from acme_middleware.errors import ConfigurationError, PublishFailed

__all__ = ["Content", "replace_files", "try_replacing"]


class Content(NamedTuple):
    """A file's name and what is to be in it; ``private``: there is a key in it."""

    name: str
    data: bytes
    private: bool

    def __repr__(self) -> str:
        return f"Content({self.name!r}, {len(self.data)} bytes)"


def try_replacing(folder: Path, files: Sequence[Content], *, lock: Path) -> None:
    """
    Try that the files can be replaced, without replacing any.

    Args:
        lock: As for :func:`replace_files`.

    Raises:
        ConfigurationError: this user cannot, or something that is no file is in the place of one.
    """
    try:
        with _files.exclusive(lock):
            for file in files:
                draft = _write(folder, file._replace(data=b""))
                draft.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {_about(folder, error)}", hint=_files.who(error) or "the files are written to the current folder"
        ) from error


def replace_files(folder: Path, newest: Callable[[], Sequence[Content]], *, lock: Path) -> tuple[str, ...]:
    """
    Replace files, or make them: 0600 those with a key, 0644 the others. One that is there keeps its owner, group and mode, but
    for the right of everybody to read a key.

    Args:
        newest: Called under the lock, so that of two who write at once the later one writes the later files.
        lock: A file that all who write here lock; made when absent, never deleted.

    Returns:
        The names of those that were replaced.

    Raises:
        PublishFailed: one could not be written: all are as they were; or could not be renamed, which only a failing disk does
            after all have been written.
    """
    drafts: list[tuple[Path, Path]] = []
    try:
        with _files.exclusive(lock):
            files = newest()
            try:
                for file in files:
                    drafts.append((_write(folder, file), folder / file.name))
                # All of them are on the disk: between the first and the last lie microseconds.
                for draft, path in drafts:
                    os.replace(draft, path)
            finally:
                for draft, _ in drafts:
                    draft.unlink(missing_ok=True)
            _files.sync_folder(folder)
    except OSError as error:
        raise PublishFailed(
            f"cannot write {_about(folder, error)}", hint=_files.who(error) or "run the command again", path=str(folder)
        ) from error
    return tuple(file.name for file in files)


def _write(folder: Path, file: Content) -> Path:
    """Write a file beside the one that it is to replace; with a dot, since servers that read a whole folder leave it out."""
    path, draft = folder / file.name, folder / f".{file.name}.new"
    mode, uid, gid = 0o600 if file.private else 0o644, -1, -1
    try:
        there = path.lstat()
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISREG(there.st_mode):
            raise FileExistsError(None, "it is there, and no file", str(path))
        mode = stat.S_IMODE(there.st_mode) & 0o777
        mode = (mode & 0o770) | 0o400 if file.private else mode
        uid, gid = there.st_uid, there.st_gid
    draft.unlink(missing_ok=True)  # of one who was killed
    try:
        _files.create(draft, file.data, mode=mode, uid=uid, gid=gid)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft


def _about(folder: Path, error: OSError) -> str:
    return f"{os.fsdecode(error.filename or folder)}: {error.strerror or error}"
