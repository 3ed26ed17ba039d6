"""
Challenge stores without a database: token files in a web root, and the stateless thumbprint.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from acme_middleware.challenge import PREFIX, is_token

if TYPE_CHECKING:
    from pathlib import Path

    from acme_middleware.errors import StoreMisconfigured, StoreUnavailable

__all__ = ["ThumbprintChallengeSource", "WebrootChallengeStore"]

# RFC 8555 section 8.1: token || "." || base64url(SHA-256 thumbprint): 128 + 1 + 43 at most. The rest is for white space.
FILE_CAP = 256
FOLDER_MODE, FILE_MODE = 0o755, 0o644
EXPIRY = ".expires-"
UNDER_WAY = ".acme-middleware-"
UNDER_WAY_LIMIT = 60.0

READ_KEPT = 256
"""Tokens whose answer a reader keeps beside the file's identity."""

# O_NOFOLLOW: a link would serve any file of the machine. O_NONBLOCK: opening a FIFO would wait for a writer, for ever.
# Windows has none of them, nor links and FIFOs that everybody can make.
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

# Nothing there, a link (ELOOP; EMLINK on BSD), a socket (ENXIO), a path through a file, a name too long for the file system.
_NO_TOKEN_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENAMETOOLONG}
_NEEDS_SOMEBODY = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}


class WebrootChallengeStore:
    """
    Token files in ``<root>/.well-known/acme-challenge/``, as certbot, lego and acme.sh write them in their webroot mode.

    Any of these clients may put its files there: they are answered, and never removed by us. Ours have a twin,
    ``.expires-<token>``, whose modification time is their expiry, as is their own; both go when that is over and the next token
    is presented or removed. Tokens are 0644 and folders 0755 whatever the umask, for web workers of another user.

    What is answered is a regular file of at most 256 bytes of ASCII. White space at its end is dropped: some clients write
    a newline, and some CAs compare the body as it is. A link, folder, FIFO, empty or bigger file is an unknown token.

    Args:
        root: The folder that the web server serves as ``/``. A relative one is resolved now.
        make_root: Make ``root`` too when a token is presented; without it a missing one is an error, most likely a typing
            mistake.
    """

    blocking = False

    def __init__(self, root: str | Path, *, make_root: bool = False) -> None:
        # Strings, not Paths: joining those would be most of the time that an answer takes, and of what importing this takes.
        self._root = os.path.abspath(root)
        self._make_root = make_root
        self._folder = os.path.join(self._root, *PREFIX.strip("/").split("/"))
        self._prefix = self._folder + os.sep
        self._expiry_prefix = self._prefix + EXPIRY
        self._read: dict[str, tuple[int, float, int, str]] = {}

    def __repr__(self) -> str:
        return f"WebrootChallengeStore({self._root!r})"

    @property
    def root(self) -> Path:
        """The folder that is served as ``/``, absolute."""
        from pathlib import Path

        return Path(self._root)

    def key_authorization(self, token: str) -> str | None:
        # A CA fetches a token many times, from several places. While it is the very file that was read, untouched since (a
        # change of content, mode or name changes ctime too) and unexpired, one system call is enough, in place of four.
        if (read := self._read.get(token)) is not None:
            try:
                seen = os.lstat(self._prefix + token)
            except OSError:
                self._read.pop(token, None)
            else:
                ino, mtime, ctime, answer = read
                if seen.st_ctime_ns == ctime and seen.st_ino == ino and seen.st_mtime == mtime > time.time():
                    return answer
        return self._look(token)

    def _look(self, token: str) -> str | None:
        try:
            descriptor = os.open(self._prefix + token, _READ)
        except OSError as error:
            if error.errno in _NO_TOKEN_FILE:
                return None
            raise self._failure("read", error) from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > FILE_CAP:
                return None
            # Our tokens have their expiry as modification time too: only past it, as in every foreign file, the twin is asked.
            ours = found.st_mtime > time.time()
            if not ours and self._expired(token):
                return None
            content = os.read(descriptor, FILE_CAP + 1)
        except OSError as error:
            raise self._failure("read", error) from error
        finally:
            os.close(descriptor)
        # Empty: a client that writes in place has just begun. Not ASCII: no key authorization.
        content = content.rstrip()
        if not content or len(content) > FILE_CAP or not content.isascii():
            return None
        answer = content.decode("ascii")
        if ours:
            if len(self._read) >= READ_KEPT:
                self._read.clear()
            self._read[token] = found.st_ino, found.st_mtime, found.st_ctime_ns, answer
        return answer

    def present(self, token: str, key_authorization: str, *, ttl: float) -> None:
        if not is_token(token):
            raise ValueError(f"{token!r} is no token")
        try:
            self._make_folders()
            with self._locked() as alone:
                self._sweep(alone)
                # The expiry first: killed in between, a token without one would look foreign, and stay for ever.
                expires = time.time() + ttl
                self._write(EXPIRY + token, b"", expires=expires)
                self._write(token, key_authorization.encode("ascii"), expires=expires)
        except OSError as error:
            raise self._failure("write to", error) from error

    def remove(self, token: str) -> None:
        if not is_token(token):
            raise ValueError(f"{token!r} is no token")
        try:
            with self._locked() as alone:
                self._remove_pair(token)
                self._sweep(alone)
        except FileNotFoundError:
            return  # no folder, no tokens
        except OSError as error:
            raise self._failure("remove from", error) from error

    def _expired(self, token: str) -> bool:
        try:
            return os.lstat(self._expiry_prefix + token).st_mtime <= time.time()
        except FileNotFoundError:
            return False

    def _make_folders(self) -> None:
        if self._make_root:
            for folder in [*reversed(self.root.parents), self.root]:
                _make_folder(str(folder))
        for path in (os.path.dirname(self._folder), self._folder):
            _make_folder(path)

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """
        Keep writers apart: one that sweeps must not remove what another has just presented anew.

        Yields whether it does.

        Raises:
            StoreUnavailable: another command has held the lock for too long: it hangs, or is stopped.
        """
        from acme_middleware import _files  # for a writer only, as the errors are
        from acme_middleware.errors import StoreUnavailable

        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # The folder itself: a lock file would be one more thing in a web root. NFS cannot lock one: then two commands
            # at once could lose a token that was presented again in the very moment of its expiry.
            alone = True
            try:
                _files.lock_in_time(descriptor)
            except TimeoutError as error:
                hint = "a command that writes there hangs, or was stopped (Ctrl-Z): let it go on, or end it"
                raise StoreUnavailable(f"cannot lock {self._folder}: {error.strerror}", hint=hint) from error
            except OSError:
                alone = False
            yield alone
        finally:
            os.close(descriptor)

    def _sweep(self, alone: bool) -> None:
        # Under the lock nobody else is writing: what is half written is a killed writer's.
        dead_before = time.time() - UNDER_WAY_LIMIT
        with os.scandir(self._folder) as entries:
            for entry in entries:
                token = entry.name.removeprefix(EXPIRY)
                if token != entry.name and is_token(token):
                    if self._expired(token):
                        self._remove_pair(token)
                elif entry.name.startswith(UNDER_WAY) and (alone or entry.stat(follow_symlinks=False).st_mtime < dead_before):
                    _unlink(entry.path)

    def _remove_pair(self, token: str) -> None:
        # The token first, for the same reason that it is written last.
        _unlink(self._prefix + token)
        _unlink(self._expiry_prefix + token)

    def _write(self, name: str, content: bytes, *, expires: float) -> None:
        """Write a file so that nobody sees half of it: under a name that is no token, then renamed."""
        temporary = f"{self._prefix}{UNDER_WAY}{secrets.token_hex(8)}"
        descriptor = os.open(temporary, _WRITE, FILE_MODE)
        try:
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, FILE_MODE)
                file.write(content)
            os.utime(temporary, (expires, expires))
            os.replace(temporary, self._prefix + name)
        except BaseException:
            _unlink(temporary)
            raise

    def _failure(self, verb: str, error: OSError) -> StoreMisconfigured | StoreUnavailable:
        from acme_middleware.errors import StoreMisconfigured, StoreUnavailable  # for an error only: web workers pass here

        message = f"cannot {verb} {self._folder}: {error.strerror}"
        if error.errno not in _NEEDS_SOMEBODY:
            return StoreUnavailable(message)
        if error.errno == errno.ENOENT and not os.path.exists(self._root):
            return StoreMisconfigured(f"there is no folder {self._root}", hint="make it, or correct the store's URL")
        return StoreMisconfigured(message, hint="the commands must be able to write there, and the web workers to read")


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _make_folder(folder: str) -> None:
    if os.path.isdir(folder):
        return
    with suppress(FileExistsError):  # another command made it just now
        os.mkdir(folder, FOLDER_MODE)
        os.chmod(folder, FOLDER_MODE)  # the umask may have taken the web workers' right to enter


class ThumbprintChallengeSource:
    """
    Answers every token for one account, and keeps nothing: no store is shared, no command has to reach the web workers.

    Not where several people's accounts validate the same names: whoever has the account key behind the thumbprint can get
    certificates for every name that points here.

    Args:
        thumbprint: The SHA-256 thumbprint of the account's key, as 43 characters of base64url (RFC 7638).

    Raises:
        StoreMisconfigured: It is no such thumbprint.
    """

    blocking = False

    def __init__(self, thumbprint: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{43}", thumbprint):
            from acme_middleware.errors import StoreMisconfigured

            raise StoreMisconfigured(
                f"{thumbprint!r} is no thumbprint of an account's key",
                hint="it is 43 letters, digits, - and _, with no = at the end: base64url(SHA-256(JWK)), RFC 7638",
            )
        self.thumbprint = thumbprint

    def key_authorization(self, token: str) -> str | None:
        return f"{token}.{self.thumbprint}"
