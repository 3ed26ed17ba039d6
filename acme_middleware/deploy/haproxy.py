"""Deploy to HAProxy: the file first, so that it is there after a restart, then the running process, without one."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from acme_middleware import _files
from acme_middleware.deploy import snapshot, specs
from acme_middleware.deploy.deployer import Deployment, failed
from acme_middleware.deploy.haproxy_folder import LOCK, Kept, draft_of, rivals
from acme_middleware.deploy.haproxy_socket import RuntimeAPI, RuntimeAPIError, Shown
from acme_middleware.deploy.ownership import resolve_owner
from acme_middleware.deploy.publish import directory_name
from acme_middleware.deploy.running import run
from acme_middleware.deploy.systemd import UNIT
from acme_middleware.errors import AcmeMiddlewareError, ConfigurationError, DeployFailed

__all__ = ["HAProxy"]

log = logging.getLogger("acme_middleware.deploy")

TIME_LIMIT = 10.0
PAUSE = 0.05
TURNS = 6
"""Of others that deploy to the same HAProxy at the same time, each may take as long as an answer may."""


class HAProxy:
    """
    ``haproxy:/etc/haproxy/certs?socket=/run/haproxy/admin.sock`` writes ``/etc/haproxy/certs/<name>.pem``, certificate, chain
    and key, and gives it to the HAProxy that runs: connections that there are stay, and new ones get the new certificate. So do
    those for a name that HAProxy has not had before, where it was started with ``bind ... ssl crt /etc/haproxy/certs/``.

    - ``haproxy:?socket=...``, without a folder, writes nothing: HAProxy's configuration names the published file itself,
      ``bind ... ssl crt PUBLISH_DIR/<name>/current/bundle.pem``.
    - ``socket=``: a stats socket of ``level admin``, or the master's (``haproxy -W -S PATH``); also HOST:PORT.
    - ``reload=haproxy.service``, or the path of the master's socket: what to do where ``socket=`` fails, or is not said.
    - ``as=/usr/local/etc/haproxy/certs``: what HAProxy calls the folder, in its container.
    - ``owner=``, ``group=``: whose the file is, by name or number; the group may read it. Else it is 0600.
    - ``timeout=SECONDS``: how long HAProxy may take to answer; ten by default.

    Raises:
        ConfigurationError: it cannot be followed.
    """

    def __init__(self, spec: str) -> None:
        self.spec = spec
        place, words = specs.parts(spec, "socket", "reload", "as", "owner", "group", "timeout")
        self.folder = specs.absolute(spec, place, what="a folder of certificates") if place else None
        self.theirs = str(specs.absolute(spec, words["as"], what="the folder in HAProxy's eyes")) if words.get("as") else ""
        self.socket, self.reload = words.get("socket", ""), words.get("reload", "")
        self.owner, self.group = words.get("owner") or None, words.get("group") or None
        self.timeout = specs.seconds(spec, words, TIME_LIMIT)
        self._check()

    def deploy(self, deployment: Deployment) -> None:
        """Let HAProxy serve it. Raises DeployFailed where it does not; it serves what it served before then."""
        bundle, fingerprint = self._checked(deployment)
        folder = self.folder or deployment.current.parent.parent
        file = self.folder / f"{directory_name(deployment.name)}.pem" if self.folder else deployment.current / "bundle.pem"
        theirs = self.theirs or str(folder)
        with self._exclusive(folder, deployment):
            if self.folder:
                self._refuse_rivals(file, bundle, deployment)
            kept = self._write(file, bundle, deployment) if self.folder else None
            seen_as = f"{theirs}/{file.relative_to(folder)}"
            wanted = _Wanted(theirs, seen_as, bundle, fingerprint, takes_new=self.folder is not None)
            try:
                self._tell(wanted, deployment)
            except _NotTakenError as error:
                if kept is not None and error.judged:
                    self._put_back(file, kept, deployment, sure=error.refused)
                raise error.told from error

    def _check(self) -> None:
        spec = self.spec
        if not self.socket and not self.reload:
            hint = "say socket=/run/haproxy/admin.sock, reload=haproxy.service, or both"
            raise specs.refused(spec, "says neither how to reach HAProxy nor how to reload it", hint=hint)
        host, _, port = self.socket.rpartition(":")
        if self.socket and not self.socket.startswith("/") and not (host and port.isascii() and port.isdigit()):
            raise specs.refused(spec, f"has socket={self.socket}", hint="it takes an absolute path, or HOST:PORT")
        if self.reload and not self.reload.startswith("/") and not UNIT.fullmatch(self.reload):
            raise specs.refused(
                spec, f"has reload={self.reload}", hint="it takes a unit, haproxy.service, or the path of the master's socket"
            )
        if any(not character.isprintable() for character in f"{self.folder}{self.theirs}"):
            raise specs.refused(spec, "has a folder that HAProxy's commands cannot spell")

    def _checked(self, deployment: Deployment) -> tuple[bytes, str]:
        """The bundle, and its certificate's SHA-1, which is what HAProxy shows. A bad pair goes no further than here."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        step, path = "read the certificate", deployment.directory / "bundle.pem"
        try:
            data = snapshot.read(path, path, patience=0).certificate
        except ConfigurationError as error:
            raise failed(self, deployment, step, str(error)) from error
        if deployment.not_after.timestamp() <= time.time():
            raise failed(
                self, deployment, step, "it has expired", hint=f"`acme-middleware renew {deployment.name}` comes first"
            )
        # A blank line is where HAProxy stops reading.
        bundle = b"".join(line.rstrip() + b"\n" for line in data.splitlines() if line.strip())
        leaf = x509.load_pem_x509_certificates(bundle)[0]
        return bundle, leaf.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - to tell certificates apart

    def _refuse_rivals(self, file: Path, bundle: bytes, deployment: Deployment) -> None:
        """Of two files for one name HAProxy presents the first, and ours would be renewed in vain."""
        if found := rivals(file, bundle, deployment.names):
            raise failed(
                self,
                deployment,
                f"look into {file.parent}",
                f"{found[0].name} has a certificate for the same names, and HAProxy would go on to present that one",
                hint=f"remove it, or let it be {file.name} instead, and reload HAProxy once",
            )

    def _write(self, file: Path, bundle: bytes, deployment: Deployment) -> Kept:
        """Write the file, or find that it is there; returns what was there before."""
        with self._explained(f"write {file}", deployment):
            uid, gid = resolve_owner(self.owner, self.group)
            draft_of(file).unlink(missing_ok=True)
            kept = Kept.of(file)
            fresh = Kept(bundle, 0o600 if gid == -1 else 0o640, uid, gid)
            if not fresh.is_in(kept):
                fresh.write(file)
            return kept

    def _put_back(self, file: Path, kept: Kept, deployment: Deployment, *, sure: bool) -> None:
        """HAProxy does not take the new file: with it on the disk the next start would fail."""
        with self._explained(f"put back {file}", deployment):
            if kept.data is not None:
                kept.write(file)
            elif sure:  # else it may be that HAProxy has not been started yet, and waits for this very file
                file.unlink(missing_ok=True)
                _files.sync_folder(file.parent)

    def _tell(self, wanted: _Wanted, deployment: Deployment) -> None:
        refused = False
        if self.socket:
            try:
                wanted.hot_update(RuntimeAPI(self.socket, timeout=self.timeout))
                return
            except RuntimeAPIError as error:
                if not self.reload:
                    raise self._not_taken(error, deployment) from error
                log.warning("%s: %s: %s; it is reloaded instead", self.spec, error.step, error.why)
                refused = error.refused
        try:
            self._reload(wanted, deployment)
        except RuntimeAPIError as error:
            raise self._not_taken(error, deployment) from error
        except DeployFailed as error:
            raise _NotTakenError(error, judged=True, refused=refused) from error

    def _reload(self, wanted: _Wanted, deployment: Deployment) -> None:
        looks_at = self.socket
        if self.reload.startswith("/"):
            RuntimeAPI(self.reload, timeout=self.timeout).reload()
            looks_at = looks_at or self.reload
        else:
            argv = ["systemctl", "--no-ask-password", "reload", self.reload]
            run(self, deployment, argv, timeout=max(60.0, self.timeout), step=f"systemctl reload {self.reload}")
        if looks_at:
            wanted.wait_for(RuntimeAPI(looks_at, timeout=self.timeout))

    def _not_taken(self, error: RuntimeAPIError, deployment: Deployment) -> _NotTakenError:
        told = failed(self, deployment, error.step, error.why, hint=error.hint)
        return _NotTakenError(told, judged=error.refused, refused=error.refused)

    @contextmanager
    def _exclusive(self, folder: Path, deployment: Deployment) -> Iterator[None]:
        """One at a time: a HAProxy has one transaction."""
        with ExitStack() as stack:
            with self._explained(f"write into {folder}", deployment):
                stack.enter_context(_files.exclusive(folder / LOCK, patience=TURNS * self.timeout))
            yield

    @contextmanager
    def _explained(self, step: str, deployment: Deployment) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = f"{os.fsdecode(error.filename or self.folder or '')}: {error.strerror or error}"
            raise failed(self, deployment, step, why, hint=_files.who(error)) from error
        except DeployFailed:
            raise
        except AcmeMiddlewareError as error:
            raise failed(self, deployment, step, str(error), hint=error.hint) from error


class _NotTakenError(Exception):
    """HAProxy has not taken it: what to tell, whether a HAProxy has looked at the file, and whether it surely was the file."""

    def __init__(self, told: DeployFailed, *, judged: bool, refused: bool) -> None:
        super().__init__(str(told))
        self.told, self.judged, self.refused = told, judged, refused


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What HAProxy shall have: the folder and the file, as it calls them, what is in it; whether it loads all of the folder."""

    folder: str
    file: str
    bundle: bytes = field(repr=False)
    fingerprint: str
    takes_new: bool

    @property
    def good(self) -> Shown:
        return Shown(True, self.fingerprint)

    def hot_update(self, api: RuntimeAPI) -> None:
        """Give it to the process that runs, unless that has it already. Raises RuntimeAPIError."""
        self._wait_for_others(api)
        shown = api.shown(self.file)
        if shown == self.good:
            return
        if shown is not None and shown.used:
            api.replace(self.file, self.bundle, self.fingerprint)
        elif not self.takes_new:
            hint = f"add `crt {self.file}` to the `bind` line, and reload it"
            raise RuntimeAPIError("look at what HAProxy has", f"its configuration does not name {self.file}", hint=hint)
        else:
            api.add(self.folder, self.file, self.bundle, self.fingerprint)
        if api.shown(self.file) != self.good:
            raise RuntimeAPIError("look at what HAProxy has", f"{self.file} is not what it was given", refused=True)

    def wait_for(self, api: RuntimeAPI) -> None:
        """Wait until a HAProxy that is reloaded has it. Raises RuntimeAPIError."""
        deadline = time.monotonic() + api.timeout
        while True:
            try:
                api.transactions()
                if api.shown(self.file) == self.good:
                    return
                cause = RuntimeAPIError(
                    "look at what HAProxy has",
                    f"{self.file} is not what it has loaded",
                    hint=f"is {self.folder}/ in its configuration? Its log says why a reload failed",
                    refused=True,
                )
            except RuntimeAPIError as error:  # its sockets are gone for a moment
                cause = error
            if time.monotonic() > deadline:
                raise cause
            time.sleep(PAUSE)

    def _wait_for_others(self, api: RuntimeAPI) -> None:
        """Of a transaction in our folder the lock says that whoever began it is dead; another's may end in a moment."""
        deadline = time.monotonic() + api.timeout
        while begun := api.transactions():
            if begun[0].startswith(f"{self.folder}/"):
                api.abort(begun[0])
            elif time.monotonic() > deadline:
                raise RuntimeAPIError(
                    "wait for another's transaction",
                    f"somebody is changing {begun[0]} by the same HAProxy, and does not end it",
                    hint=f"if nobody is: echo 'abort ssl cert {begun[0]}' | socat stdio {api.address}",
                )
            time.sleep(PAUSE)
