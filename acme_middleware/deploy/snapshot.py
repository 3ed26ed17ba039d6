"""
Read a certificate and its key as one pair, whoever writes them and however.

The two paths may be ours, certbot's four links, a Kubernetes secret, or files that somebody overwrites in place: what is read
is tried as a pair, and read again while it is none. OpenSSL is then given that very pair, from memory: it opens its files
twice, and between the two they may have changed.
"""

from __future__ import annotations

import os
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from acme_middleware.errors import ConfigurationError

__all__ = ["Snapshot", "Version", "read", "version"]

PATIENCE = 2.0
PAUSE = 0.01
MOST_BYTES = 1_000_000

File = tuple[str, int, int]
Version = tuple[File, File]
"""Of the certificate and the key: real path, time of change in nanoseconds, inode. Another version: read again."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    A certificate and the key that belongs to it.

    Attributes:
        certificate: The certificate and its chain in PEM.
        key: The private key in PEM.
        version: What the files were when they were read, to compare with :func:`version` later.
    """

    certificate: bytes = field(repr=False)  # may be a bundle, with the key
    key: bytes = field(repr=False)
    version: Version

    def load_into(self, context: ssl.SSLContext) -> None:
        """
        Give the pair to a new context.

        Not to one that serves already: OpenSSL then fails handshakes under way, or crashes. Make a new context instead.

        Raises:
            ssl.SSLError: OpenSSL refuses it; a pair from :func:`read` it has accepted before.
        """
        with _as_file(self.certificate) as certificate, _as_file(self.key) as key:
            context.load_cert_chain(certificate, key, password=_no_password)


def version(certificate: str | os.PathLike[str], key: str | os.PathLike[str]) -> Version:
    """
    What the two files are now; costs two stat calls, so that it can be asked every second.

    Raises:
        OSError: one of them is not there, or cannot be read.
    """
    return _file(certificate), _file(key)


def read(certificate: str | os.PathLike[str], key: str | os.PathLike[str], *, patience: float = PATIENCE) -> Snapshot:
    """
    Read a pair.

    Args:
        certificate: The file with the certificate and its chain (``fullchain.pem``).
        key: The file with the private key, not encrypted; both may be one file.
        patience: Seconds to go on while the two do not match, or one is missing: somebody may be writing them.

    Raises:
        ConfigurationError: the files are missing, cannot be read, or are no pair; ``path`` is the one to look at.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            # Before the files are read: if they change meanwhile, the next comparison finds it out.
            found = version(certificate, key)
            # From the real paths: the link that both go through may turn between the first and the second.
            snapshot = Snapshot(_read(found[0][0]), _read(found[1][0]), found)
            snapshot.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            return snapshot
        except (OSError, ValueError) as error:  # SSLError is an OSError
            cause = error
        if time.monotonic() >= deadline:
            raise ConfigurationError(
                _problem(certificate, key, cause),
                hint="name a certificate file (with its chain) and the file of its key",
                path=str(certificate),
            ) from cause
        time.sleep(PAUSE)


def _problem(certificate: str | os.PathLike[str], key: str | os.PathLike[str], error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            return f"{os.fspath(key)} is not the key of {os.fspath(certificate)}"
        return f"{os.fspath(certificate)} and {os.fspath(key)} are no certificate and key in PEM"
    if isinstance(error, OSError):
        return f"cannot read {error.filename or os.fspath(certificate)}: {error.strerror}"
    return str(error)


def _file(path: str | os.PathLike[str]) -> File:
    real = os.path.realpath(path, strict=True)
    found = os.stat(real)
    return real, found.st_mtime_ns, found.st_ino


def _read(path: str) -> bytes:
    # By an opener: Python closes what that has opened, also where it is no file but a folder.
    with open(path, "rb", opener=_without_waiting) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path} is far too long for a certificate or a key")
    return data


def _without_waiting(path: str, flags: int) -> int:
    # A FIFO in the place of a file must not hang a server.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _no_password() -> str:
    # Without this OpenSSL asks on the terminal, and a server hangs.
    raise ValueError("the key is encrypted; a server that starts by itself needs it without a password")


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path at which nothing but ``data`` is found, however often it is opened."""
    with ExitStack() as stack:
        if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
            memory = os.memfd_create("certificate", os.MFD_CLOEXEC)
            stack.callback(os.close, memory)
            path = f"/proc/self/fd/{memory}"
        else:
            # 0600 from its first byte, and gone with its directory.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="acme-middleware-"))
            memory, path = tempfile.mkstemp(dir=folder)
            stack.callback(os.close, memory)
        view = memoryview(data)
        while view:
            view = view[os.write(memory, view) :]
        yield path
