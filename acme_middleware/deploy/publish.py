"""
Write a certificate and its key as files that servers read.

The layout never shows a key beside another key's certificate, whenever it is read and wherever the writer is killed: each
version has a directory of its own, complete and on the disk before one rename of the link ``current`` shows it::

    ROOT/example.com/7/{privkey,cert,chain,fullchain,bundle}.pem
    ROOT/example.com/current -> 7
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from acme_middleware import _files
from acme_middleware.deploy.ownership import resolve_owner
from acme_middleware.errors import CertificateRejected, ConfigurationError, PublishFailed
from acme_middleware.stores.base import key as make_key

__all__ = ["Pems", "Published", "check_publishable", "directory_name", "publish"]

log = logging.getLogger("acme_middleware.deploy")

KEPT = 5
"""Versions that stay on the disk: a server that reads slowly, or a person who wants the last one back, finds them."""


@dataclass(frozen=True, slots=True)
class Pems:
    """
    A certificate in PEM.

    Attributes:
        key: The private key.
        cert: The certificate itself.
        chain: The intermediate certificates, in order; may be empty.
    """

    key: bytes = field(repr=False)
    cert: bytes
    chain: bytes

    def files(self) -> dict[str, bytes]:
        """The files to publish, by name; without blank lines, at which HAProxy's runtime API stops reading."""
        key, cert, chain = (
            b"".join(line.rstrip() + b"\n" for line in part.splitlines() if line.strip())
            for part in (self.key, self.cert, self.chain)
        )
        return {
            "privkey.pem": key,
            "cert.pem": cert,
            "chain.pem": chain,
            "fullchain.pem": cert + chain,
            "bundle.pem": cert + chain + key,
        }


PRIVATE = frozenset({"privkey.pem", "bundle.pem"})


@dataclass(frozen=True, slots=True)
class Published:
    """
    Where a certificate is.

    Attributes:
        directory: The absolute directory of this version, which never changes; gone after five more.
        current: The absolute path of the link that always leads to the newest: what a server's configuration names.
        changed: Whether anything was written.
    """

    directory: Path
    current: Path
    changed: bool


def directory_name(name: str) -> str:
    """The directory of a name: ``*.example.com`` is ``_.example.com``, ``2001:db8::1`` is ``2001_db8__1``."""
    if name.startswith("*."):
        name = "_" + name[1:]
    return make_key("live", name.replace(":", "_")).partition("/")[2]


def check_publishable(root: Path, *names: str, owner: str | None = None, group: str | None = None) -> None:
    """
    Try to write as :func:`publish` will, and leave nothing: to be called before a certificate is ordered.

    Args:
        root: PUBLISH_DIR; made when absent.
        names: What the certificates are known by; the directories that they have already are tried too.
        owner: As for :func:`publish`.
        group: As for :func:`publish`.

    Raises:
        ConfigurationError: an unknown owner or group, or a directory that cannot be written, or not for that owner.
    """
    uid, gid = resolve_owner(owner, group)
    root = Path(root).absolute()
    try:
        with _locked(root):
            for directory in (root, *(root / directory_name(name) for name in names)):
                probe = directory / ".try"
                if directory.exists():
                    probe.unlink(missing_ok=True)
                    try:
                        _files.create(probe, b"", uid=uid, gid=gid)
                    finally:
                        probe.unlink(missing_ok=True)
    except OSError as error:
        message, hint = _explain(root, error)
        raise ConfigurationError(message, hint=hint, option="publish_dir") from error


def publish(
    root: Path, name: str, newest: Callable[[], Pems], *, owner: str | None = None, group: str | None = None
) -> Published:
    """
    Publish the newest certificate of a name below ``root``, or find that it is published already.

    Keys are 0600, or 0640 with ``group``; the rest is 0644 and its directories are 0755, whatever the umask.

    Args:
        root: PUBLISH_DIR; made when absent.
        name: What the certificate is known by.
        newest: Reads the newest certificate. Called under the lock: of two publishers the later has read the later one.
        owner: The user that the files belong to, by name or number; by default who runs this.
        group: The group that the files belong to and that may read the keys.

    Raises:
        ConfigurationError: an unknown owner or group; nothing was written.
        CertificateRejected: the key is not the certificate's; nothing was written.
        PublishFailed: the files could not be written; what was published before still is.
    """
    uid, gid = resolve_owner(owner, group)
    root = Path(root).absolute()
    with ExitStack() as stack:
        with _explained(root):
            stack.enter_context(_locked(root))
        pems = newest()
        _require_pair(pems, name)
        key_mode = 0o600 if gid == -1 else 0o640
        files = [_File(file, data, key_mode if file in PRIVATE else 0o644, uid, gid) for file, data in pems.files().items()]
        with _explained(root):
            return _publish(root / directory_name(name), files)


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    data: bytes = field(repr=False)
    mode: int
    uid: int
    gid: int

    def create(self, directory: Path) -> None:
        _files.create(directory / self.name, self.data, mode=self.mode, uid=self.uid, gid=self.gid)

    def is_in(self, directory: Path) -> bool:
        """Whether the file is there as it would be written now."""
        path = directory / self.name
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise
        with open(file, "rb") as opened, _files.about(path):
            found = os.fstat(file)
            kept = (
                stat.S_IMODE(found.st_mode) == self.mode and self.uid in (-1, found.st_uid) and self.gid in (-1, found.st_gid)
            )
            return kept and opened.read(len(self.data) + 1) == self.data


def _publish(lineage: Path, files: list[_File]) -> Published:
    current = lineage / "current"
    shown = lineage / os.readlink(current) if current.is_symlink() else None
    if shown is not None and all(file.is_in(shown) for file in files):
        return Published(shown, current, changed=False)

    _files.make_folder(lineage, 0o755)
    number = max(_versions(lineage), default=0)
    directory = lineage / str(number)
    # One that was taken back keeps its directory: a program that was told of it may have given it to its server.
    again = all(file.is_in(directory) for file in files)
    _sweep(lineage, shown, directory if again else None)
    if not again:
        number += 1
        fresh, directory = lineage / f".new-{number}", lineage / str(number)
        _files.make_folder(fresh, 0o700)
        for file in files:
            file.create(fresh)
        os.chmod(fresh, 0o755)  # noqa: S103 - the certificate is public, and each key has a mode of its own
        _files.sync_folder(fresh)
        os.rename(fresh, directory)
    _files.sync_folder(lineage)
    link = lineage / ".current"
    with _files.about(link):
        os.symlink(directory.name, link)
    os.replace(link, current)
    _files.sync_folder(lineage)
    _prune(lineage)
    return Published(directory, current, changed=True)


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message, hint = _explain(root, error)
        raise PublishFailed(message, hint=hint, path=os.fsdecode(error.filename or root)) from error


def _explain(root: Path, error: OSError) -> tuple[str, str]:
    message = f"cannot publish below {root}: {os.fsdecode(error.filename or root)}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return message, "make room on the disk, then run the command again"
    if error.errno == errno.EPERM:
        return message, "only root may give files to other users and groups: run as root, or leave --owner and --group out"
    whose = _files.who(error)
    return message, (f"{whose}: " if whose else "") + (
        "run as a user that may write there, or choose another directory with --publish-dir; then run the command again"
    )


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    _files.make_parents(root)
    _files.make_folder(root, 0o755)
    # In the root: a systemd PathChanged= on a lineage's directory would take the closing of its lock for a new certificate.
    with _files.exclusive(root / ".lock"):
        yield


def _require_pair(pems: Pems, name: str) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        certificates = x509.load_pem_x509_certificates(pems.cert)
        matches = len(certificates) == 1 and (
            certificates[0].public_key() == load_pem_private_key(pems.key, password=None).public_key()
        )
        if pems.chain.strip():
            x509.load_pem_x509_certificates(pems.chain)
    except (ValueError, TypeError) as error:
        # Not the library's words, which may quote its input.
        raise CertificateRejected(f"the key, certificate or chain of {name} is no PEM that can be read", name=name) from error
    if not matches:
        raise CertificateRejected(
            f"the key of {name} is not the key of its certificate",
            hint="nothing was published; issue it again with --force",
            name=name,
        )


def _versions(lineage: Path) -> list[int]:
    return sorted(int(entry) for entry in os.listdir(lineage) if entry.isascii() and entry.isdigit())


def _sweep(lineage: Path, shown: Path | None, kept: Path | None) -> None:
    """Remove what a killed or failed publisher left, half a version or a link, and versions that are not shown, but one."""
    # Without a link nothing tells which versions were shown: then they all stay.
    last = int(shown.name) if shown and shown.name.isdigit() else None
    not_shown = {str(number) for number in _versions(lineage) if last is not None and number > last}
    for entry in os.listdir(lineage):
        if entry == ".current" or entry.startswith(".new-") or (entry in not_shown and lineage / entry != kept):
            _remove(lineage / entry)


def _prune(lineage: Path) -> None:
    for number in _versions(lineage)[:-KEPT]:
        try:
            _remove(lineage / str(number))
        except OSError as error:
            # The new certificate is in place; the next publication tries again.
            log.warning("cannot remove the old version %s: %s", lineage / str(number), error.strerror)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        with _files.about(path):
            shutil.rmtree(path)
    else:
        path.unlink()  # a link that somebody planted goes, and what it leads to stays
