"""Deploy to files with fixed paths, for a server that follows no links, wants one file for all, or reads PKCS#12."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from acme_middleware import _files
from acme_middleware.deploy import specs
from acme_middleware.deploy.deployer import Deployment, failed
from acme_middleware.deploy.ownership import resolve_owner
from acme_middleware.deploy.publish import PRIVATE, directory_name
from acme_middleware.errors import AcmeMiddlewareError

__all__ = ["Files"]

KINDS = ("privkey", "cert", "chain", "fullchain", "bundle")
NAME = "{name}"
EXAMPLE = "for example names=fullchain:{name}.crt,privkey:{name}.key"


class Files:
    """
    ``files:/dir`` writes ``/dir/<name>/{privkey,cert,chain,fullchain,bundle}.pem``.

    Each file is whole whenever it is read, and private from its first byte where there is a key in it. Between the renaming of
    two of them a reader may find the one of the old and the other of the new version: who cannot take that takes one file, the
    bundle.

    - ``names=fullchain:{name}.crt,privkey:{name}.key`` writes these files alone, into ``/dir`` itself.
    - ``owner=``, ``group=``: whose they are, by name or number; the group may read the keys.
    - ``mode=0640``: of the files with a key; by default 0600, with a group 0640.
    - ``p12=FILE`` and ``password_file=/path``: a PKCS#12 file besides, or with ``names=`` empty alone; ``legacy=yes`` in the
      form that old programs read.

    Raises:
        ConfigurationError: it cannot be followed.
    """

    def __init__(self, spec: str) -> None:
        self.spec = spec
        place, words = specs.parts(spec, "owner", "group", "mode", "names", "p12", "password_file", "legacy")
        self.folder = specs.absolute(spec, place, what="a folder")
        self.owner, self.group = words.get("owner") or None, words.get("group") or None
        self.mode = self._mode(words.get("mode", ""))
        self.names = self._names(words["names"]) if "names" in words else {}
        # What has names of its own stands in the folder itself.
        self.below = "" if "names" in words else NAME
        if not self.below and not self.names and not words.get("p12"):
            raise specs.refused(spec, "names no file", hint=EXAMPLE)
        self.p12 = self._file_name(words["p12"]) if words.get("p12") else ""
        self.legacy = words.get("legacy", "no") in ("yes", "1", "true", "on")
        self.password_file: Path | None = None
        if self.p12:
            if not words.get("password_file"):
                raise specs.refused(
                    spec,
                    "has p12= and no password_file=",
                    hint="name a file whose first line is the password of the PKCS#12 file",
                )
            self.password_file = specs.absolute(spec, words["password_file"], what="the file of the password")

    def deploy(self, deployment: Deployment) -> None:
        """Write the files. Raises DeployFailed where that cannot be; the files of before are there then."""
        step = "look up owner and group"
        folder = self.folder / self._of(self.below, deployment)
        drafts: list[_Draft] = []
        try:
            uid, gid = resolve_owner(self.owner, self.group)
            key_mode = self.mode or (0o600 if gid == -1 else 0o640)
            step = "read the certificate"
            drafts = [
                _Draft(folder / name, data, key_mode if private else 0o644, uid, gid)
                for name, data, private in self._contents(deployment)
            ]
            step = f"write into {folder}"
            if not self.folder.is_dir():
                raise NotADirectoryError(None, "there is no such folder", str(self.folder))
            _files.make_folder(folder, 0o755)
            for draft in drafts:
                _refuse_to_take(draft.path, deployment)
            try:
                for draft in drafts:
                    draft.write()
                for draft in drafts:
                    draft.show()
            finally:
                for draft in drafts:
                    draft.remove()
            _files.sync_folder(folder)
        except OSError as error:
            why = f"{os.fsdecode(error.filename or folder)}: {error.strerror or error}"
            raise failed(self, deployment, step, why, hint=_files.who(error)) from error
        except _TakenError as error:
            raise failed(
                self, deployment, step, str(error), hint=f"let each have files of its own, {EXAMPLE}; or remove that file"
            ) from None
        except AcmeMiddlewareError as error:
            raise failed(self, deployment, step, str(error), hint=error.hint) from error

    def _contents(self, deployment: Deployment) -> Iterator[tuple[str, bytes, bool]]:
        """The files: name, bytes, and whether there is a key in it."""
        names = self.names or ({f"{kind}.pem": f"{kind}.pem" for kind in KINDS} if self.below else {})
        for target, source in names.items():
            yield self._of(target, deployment), _files.read(deployment.directory / source), source in PRIVATE
        if self.password_file is not None:
            from acme_middleware.deploy.pkcs12 import to_pkcs12

            data = to_pkcs12(deployment.name, deployment.directory, self.password_file, legacy=self.legacy)
            yield self._of(self.p12, deployment), data, True

    def _of(self, text: str, deployment: Deployment) -> str:
        return text.replace(NAME, directory_name(deployment.name))

    def _mode(self, text: str) -> int:
        if not text:
            return 0
        try:
            mode = int(text, 8)
        except ValueError:
            mode = -1
        if not 0o400 <= mode <= 0o770 or mode & 0o007:
            raise specs.refused(
                self.spec,
                f"has mode={text}",
                hint="a file with a key takes 0400 to 0770: who else shall read it must be in group=",
            )
        return mode

    def _names(self, text: str) -> dict[str, str]:
        names: dict[str, str] = {}
        for entry in filter(None, text.split(",")):
            kind, colon, name = entry.partition(":")
            kind = kind.removesuffix(".pem")
            target = self._file_name(name if colon else f"{kind}.pem")
            if kind not in KINDS or target in names:
                why = f"has {entry!r} in names=" if kind not in KINDS else f"has the file {target} twice"
                raise specs.refused(self.spec, why, hint=f"a file is one of {', '.join(KINDS)}, {EXAMPLE}")
            names[target] = f"{kind}.pem"
        return names

    def _file_name(self, name: str) -> str:
        if not name or "/" in name or "\0" in name or name.startswith("."):
            raise specs.refused(self.spec, f"has {name!r} where the name of a file should be", hint=EXAMPLE)
        return name


@dataclass(frozen=True, slots=True)
class _Draft:
    path: Path
    data: bytes = field(repr=False)
    mode: int
    uid: int
    gid: int

    @property
    def draft(self) -> Path:
        # With a dot: servers that read a whole folder leave it out.
        return self.path.with_name(f".{self.path.name}.new")

    def write(self) -> None:
        if self.path.is_dir():
            raise IsADirectoryError(None, "is a folder", str(self.path))
        self.draft.unlink(missing_ok=True)  # of one who was killed
        _files.create(self.draft, self.data, mode=self.mode, uid=self.uid, gid=self.gid)

    def show(self) -> None:
        os.replace(self.draft, self.path)

    def remove(self) -> None:
        self.draft.unlink(missing_ok=True)


class _TakenError(Exception):
    """A file has the certificate of somebody else."""


def _refuse_to_take(path: Path, deployment: Deployment) -> None:
    """Two certificates that DEPLOY sends to the same path would replace each other for ever, unseen."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(_files.read(path))[0]
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return  # none there, or nothing that can be told
    there = {str(name.value) for name in names}
    if there and not there & set(deployment.names):
        raise _TakenError(f"{path} has the certificate of {', '.join(sorted(there))}")
