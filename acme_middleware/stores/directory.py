"""A store of state in a directory of one machine, or of several that mount one file system with working locks."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from acme_middleware import _files
from acme_middleware.errors import AcmeMiddlewareError, Conflict, StoreMisconfigured, StoreUnavailable
from acme_middleware.stores.base import Expect, Record, new_version, try_out

__all__ = ["DirectoryStore"]

PUBLIC = frozenset({"challenges", "live"})
"""Folders beside ours, that other parts keep here by default: tokens for web workers, published certificates."""

KIND = re.compile(r"[a-z][a-z0-9_-]*")
PART = re.compile(r"(?!\.)[A-Za-z0-9_.%-]{1,200}")
FOLDER_MARK = ","
"""
Ends the name of a folder inside a kind, and is in no key: ``account/le/default`` is the file ``account/le,/default``, so that
the record ``account/le`` has a place too.
"""
VERSION = re.compile(rb"[0-9a-f]{32}")

NEEDS_SOMEBODY = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EEXIST,
    errno.EXDEV,
    errno.ENOSYS,
    errno.ENOLCK,
}
"""What no waiting cures; any other errno (no space, a disk error, too many files) may be gone later."""

NO_FILE = {errno.EISDIR, errno.ELOOP}
"""What reading a folder ends with, and a link."""

DAMAGED = Record(b"", "")
"""What ``scan`` yields for what is no record: a value that nobody understands, and a version that no record has."""


class DirectoryStore:
    """
    A store of state in a directory: a file per record, readable by its owner only.

    The directory itself is 0755, since web workers of another user may read the tokens in its ``challenges`` folder.

    Args:
        path: The directory; made by the first write, or by ``check(writable=True)``.

    See :mod:`acme_middleware.stores.base` for what its methods do. For a file that is no record, empty or somebody else's,
    ``get`` raises StoreMisconfigured, and ``scan`` yields one with no value: who reads all says which one is damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()

    def __repr__(self) -> str:
        return f"DirectoryStore({str(self.path)!r})"

    def get(self, key: str) -> Record | None:
        with self._explained():
            return self._read(self._place(key))

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        place, version = self._place(key), new_version()
        with self._writing():
            self._meet(key, place, expect)
            for folder in reversed([parent for parent in place.parents if self.path in parent.parents]):
                _files.make_folder(folder, 0o700)
            # One name for every writer, who is alone under the lock: what a killed one left is swept here.
            fresh = self.path / ".new"
            fresh.unlink(missing_ok=True)
            _files.create(fresh, version.encode() + b"\n" + value)
            os.rename(fresh, place)
            _files.sync_folder(place.parent)
        return version

    def delete(self, key: str, *, expect: str | Expect = Expect.ANY) -> bool:
        place = self._place(key)
        with self._explained():
            if expect is Expect.ANY and not place.exists():
                return False
        with self._writing():
            self._meet(key, place, expect)
            try:
                os.unlink(place)
            except (FileNotFoundError, NotADirectoryError):
                return False
            _files.sync_folder(place.parent)
        return True

    def scan(self, prefix: str) -> Iterator[tuple[str, Record]]:
        with self._explained():
            found = sorted(found for found in self._find(prefix) if found[0].startswith(prefix))
        return self._read_all(found)

    def check(self, *, writable: bool) -> None:
        """
        Try the directory as it will be used.

        Raises:
            StoreMisconfigured: it cannot be read, or with ``writable`` made and written, by this user; or it is not there.
            StoreUnavailable: the disk is full, or fails.
        """
        if writable:
            try_out(self)
        with self._explained():
            if not self.path.is_dir():
                raise StoreMisconfigured(
                    f"there is no directory {self.path}",
                    hint="the first command that writes makes it; is the path spelled right?",
                    path=str(self.path),
                )
            for kind in self._kinds(""):
                os.listdir(self.path / kind)

    def _place(self, key: str) -> Path:
        kind, *parts = key.split("/")
        if not (KIND.fullmatch(kind) and kind not in PUBLIC and parts and all(map(PART.fullmatch, parts))):
            # A key from elsewhere, for example a URL: a path made of it could lead out of the directory.
            raise ValueError(f"{key!r} is no key; make keys with acme_middleware.stores.base.key()")
        return self.path.joinpath(kind, *(part + FOLDER_MARK for part in parts[:-1]), parts[-1])

    def _read(self, place: str | Path) -> Record | None:
        try:
            version, newline, value = _files.read(place).partition(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not (newline and VERSION.fullmatch(version)):
            raise StoreMisconfigured(
                f"{place} is no record: its first line is no version",
                hint="a record that was edited by hand, or a file of something else: restore it from a backup, or delete it",
                path=str(place),
            )
        return Record(value, version.decode())

    def _read_all(self, found: list[tuple[str, str]]) -> Iterator[tuple[str, Record]]:
        for key, place in found:
            try:
                record = self._read(place)
            except StoreMisconfigured:
                record = DAMAGED
            except OSError as error:
                if error.errno not in NO_FILE:
                    raise self._explain(error) from error
                record = DAMAGED
            if record is not None:  # deleted since the folder was listed
                yield key, record

    def _kinds(self, prefix: str) -> list[str]:
        kind, slash, _ = prefix.partition("/")
        if slash:
            return [kind] if KIND.fullmatch(kind) and kind not in PUBLIC else []
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        kinds = [name for name in names if name.startswith(kind) and KIND.fullmatch(name) and name not in PUBLIC]
        return [name for name in kinds if (self.path / name).is_dir()]

    def _find(self, prefix: str) -> Iterator[tuple[str, str]]:
        """The keys and paths of the records in every folder where keys with the prefix may be."""
        folders = [(kind + "/", str(self.path / kind)) for kind in self._kinds(prefix)]
        while folders:
            above, folder = folders.pop()
            if not (above.startswith(prefix) or prefix.startswith(above)):
                continue
            try:
                names = os.listdir(folder)
            except (FileNotFoundError, NotADirectoryError):
                continue
            for name in names:
                part = name.removesuffix(FOLDER_MARK)
                if not PART.fullmatch(part):
                    continue
                if part == name:
                    yield above + part, f"{folder}/{name}"
                else:
                    folders.append((f"{above}{part}/", f"{folder}/{name}"))

    def _meet(self, key: str, place: Path, expect: str | Expect) -> None:
        if expect is Expect.ANY:
            return
        record = None if expect == DAMAGED.version else self._read(place)
        if (record.version if record else Expect.ABSENT) != expect:
            raise Conflict(f"{key} was changed by another writer", hint="read it again", key=key)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._explained():
            if not self.path.is_dir():
                _files.make_parents(self.path)
                _files.make_folder(self.path, 0o755)
            with _files.exclusive(self.path / ".lock"):
                yield

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._explain(error) from error

    def _explain(self, error: OSError) -> AcmeMiddlewareError:
        path = os.fsdecode(error.filename or self.path)
        message = f"the store {self.path} failed at {path}: {error.strerror or error}"
        if error.errno not in NEEDS_SOMEBODY:
            hint = "make room on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "try again later"
            return StoreUnavailable(message, hint=hint, path=path)
        whose = _files.who(error)
        hint = (f"{whose}: " if whose else "") + "run as the user that owns it, or choose another place with --store"
        return StoreMisconfigured(message, hint=hint, path=path)
