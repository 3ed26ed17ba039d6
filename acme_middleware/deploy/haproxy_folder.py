"""A certificate directory of HAProxy's: a file of ours in it, and what else is there."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from acme_middleware import _files

__all__ = ["LOCK", "Kept", "draft_of", "rivals"]

LOCK = ".acme-middleware.lock"
"""HAProxy skips names with a dot in front, and takes any other for a certificate."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A file's bytes (None: it is not there), and whose it is."""

    data: bytes | None = field(repr=False)
    mode: int = 0o600
    uid: int = -1
    gid: int = -1

    @classmethod
    def of(cls, file: Path) -> Kept:
        try:
            found, data = os.lstat(file), _files.read(file)
        except FileNotFoundError:
            return cls(None)
        return cls(data, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)

    def is_in(self, other: Kept) -> bool:
        owned = self.uid in (-1, other.uid) and self.gid in (-1, other.gid)
        return self.data == other.data and self.mode == other.mode and owned

    def write(self, file: Path) -> None:
        draft = draft_of(file)
        try:
            _files.create(draft, self.data or b"", mode=self.mode, uid=self.uid, gid=self.gid)
            os.replace(draft, file)
        finally:
            draft.unlink(missing_ok=True)
        _files.sync_folder(file.parent)


def draft_of(file: Path) -> Path:
    """What a file is called until it is whole. It has a key in it: who holds the lock removes what a killed run has left."""
    return file.with_name(f".{file.name}.new")


def rivals(file: Path, bundle: bytes, names: Sequence[str]) -> list[Path]:
    """
    The files beside ``file``, by the same name with other endings, that have a certificate of the same kind for the same names.

    HAProxy loads all, in the order of the alphabet, and presents the first: the ``example.com.crt`` that somebody once made,
    not the ``example.com.pem`` that is renewed. (Nor could that one be renewed: 2.6 loads a file with this ending, and its
    Runtime API does not know it.) One of each kind of key is another matter: HAProxy presents what the client can take.
    """
    ours, found = _leaf(bundle), []
    for path in sorted(file.parent.glob(f"{glob.escape(file.stem)}.*")):
        try:
            other = _leaf(_files.read(path)) if path != file else None
        except OSError:
            continue  # a folder, say; HAProxy has its own words for what it cannot load
        if ours and other and set(names) & other[0] and ours[1] == other[1]:
            found.append(path)
    return found


def _leaf(pem: bytes) -> tuple[set[str], type] | None:
    """The names in the first certificate, and the kind of its key; None where there is none."""
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificates(pem)[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return None
    return {str(name.value) for name in names}, type(leaf.public_key())
