"""A file that a person asked for, with a key in it: whole or not there, private from its first byte, overwriting nothing."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from acme_middleware import _files
from acme_middleware.errors import ConfigurationError, PublishFailed

__all__ = ["save"]


def save(path: Path, data: bytes, *, force: bool) -> None:
    """
    Write a file that is whole or not there, and private from its first byte.

    Args:
        force: Replace what is there; a link itself, not what it leads to.

    Raises:
        ConfigurationError: something is there and ``force`` is not given, or ``path`` is a folder, or in none.
        PublishFailed: it cannot be written.
    """
    path = Path(os.path.abspath(path))
    draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
    if path.is_dir() or not path.parent.is_dir():
        what = f"{path} is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise ConfigurationError(what, hint="name a file, in a folder that is there", path=str(path))
    try:
        try:
            _files.create(draft, data)
            if force:
                draft.rename(path)
            else:
                _link(draft, path, data)
        finally:
            draft.unlink(missing_ok=True)
        _files.sync_folder(path.parent)
    except FileExistsError as error:
        raise ConfigurationError(
            f"{path} is there already", hint="name another file, or replace it with --force", path=str(path)
        ) from error
    except OSError as error:
        raise PublishFailed(f"cannot write {path}: {error.strerror}", hint=_remedy(error), path=str(path)) from error


def _link(draft: Path, path: Path, data: bytes) -> None:
    """Let the draft appear as ``path``; unlike a rename it fails where something is there by now."""
    try:
        path.hardlink_to(draft)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        _files.create(path, data)  # on a stick whose file system has no links


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room on the disk, then run the command again"
    return "\n".join(filter(None, [_files.who(error), "name a file that this user may write; nothing was left there"]))
