"""
Take what is published to the servers of this host: after the first issue, after each renewal, and again what has failed.

A deployer is called where it has not yet deployed the newest certificate, as this host remembers it. One that fails stops no
other, and never the certificate: that is saved and published by then. Only where it puts the certificate before back, none is
done with this one: the next run publishes it again, and calls them all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from acme_middleware import clock, events
from acme_middleware.deploy import state
from acme_middleware.deploy.deployer import Deployment, failure
from acme_middleware.deploy.deployers import parse, parse_all
from acme_middleware.deploy.publish import directory_name
from acme_middleware.deploy.state import Delivery
from acme_middleware.errors import AcmeMiddlewareError, ConfigurationError, DeployFailed, NameRefused
from acme_middleware.issuance.names import identifier
from acme_middleware.issuance.published import has_files_of
from acme_middleware.issuance.records import RenewalRecord

if TYPE_CHECKING:
    from acme_middleware.options import Options

__all__ = ["check", "deliveries", "deploy", "is_deployed", "specs_of"]

logger = logging.getLogger(__name__)

PATIENCE = 300.0
"""Seconds to wait for another process that deploys the same: a restart and a few hooks take that long, together."""


PROOF = "verify:"


def specs_of(options: Options, name: str) -> tuple[str, ...]:
    """The deployers of a certificate: its own in CERTIFICATES, else DEPLOY. They are this host's; no record has any."""
    for declared in options.certificates:
        if declared.deploy is not None and name in (declared.name, _as_in_certificates(declared.name)):
            return declared.deploy
    return options.deploy


def check(options: Options, root: Path | None, name: str) -> None:
    """
    Refuse deployers that cannot be followed, before a certificate is ordered.

    Raises:
        ConfigurationError: DEPLOY has one that is none, or there is no PUBLISH_DIR.
    """
    specs = specs_of(options, name)
    parse_all(specs)
    if specs and root is None:
        raise ConfigurationError(
            "DEPLOY is set, and no PUBLISH_DIR to deploy from",
            hint="set ACME_PUBLISH_DIR, or pass --publish-dir",
            option="publish_dir",
        )


def is_deployed(specs: Sequence[str], root: Path, record: RenewalRecord) -> bool:
    """Whether these deployers are done with the certificate of a record, on this host."""
    if not specs:
        return True
    try:
        return not _pending(specs, state.read(root, record.name), record)
    except OSError:
        return False  # whoever deploys says what is wrong


def deliveries(options: Options, root: Path, name: str) -> list[Delivery]:
    """How far each deployer of a certificate has come on this host; nothing where the user may not know it."""
    specs = specs_of(options, name)
    if not specs:
        return []
    try:
        known = state.read(root, name)
    except OSError:
        return []
    return [known.get(spec, Delivery(spec)) for spec in specs]


def deploy(
    options: Options, root: Path | None, record: RenewalRecord, emit: events.Listener, *, force: bool = False
) -> tuple[DeployFailed, ...]:
    """
    Call each deployer that is not done with the certificate of a record. It must be published.

    Args:
        root: PUBLISH_DIR.
        emit: Is told of each that has deployed it, or has failed.
        force: Call those that are done as well.

    Returns:
        What has failed. Nothing has where another one was published meanwhile: then it is not deployed either.

    Raises:
        ConfigurationError: DEPLOY is set, and ``root`` is None.
    """
    specs = specs_of(options, record.name)
    if not specs:
        return ()
    if root is None:
        check(options, root, record.name)
        return ()
    root = Path(root).absolute()
    if not force and is_deployed(specs, root, record):
        return ()
    try:
        with state.locked(root, record.name, patience=PATIENCE):
            return _Deploying(root, record, specs, emit).run(force=force)
    except OSError as error:
        why = f"{os.fsdecode(error.filename or root)}: {error.strerror or error}"
        hint = "run as a user that may write there" if isinstance(error, PermissionError) else ""
        errors = [failure(spec, record.name, "note what is deployed", why, hint=hint) for spec in specs]
        for spec, one in zip(specs, errors, strict=True):
            emit(events.DeployFailed(name=record.name, spec=spec, error=one))
        return tuple(errors)


class _Deploying:
    """One certificate, under the lock of its state."""

    def __init__(self, root: Path, record: RenewalRecord, specs: Sequence[str], emit: events.Listener) -> None:
        self.root, self.record, self.specs, self.emit = root, record, specs, emit
        self.known = state.read(root, record.name)

    def run(self, *, force: bool) -> tuple[DeployFailed, ...]:
        current = self.root / directory_name(self.record.name) / "current"
        directory = Path(os.path.realpath(current))
        if not has_files_of(directory, self.record):
            return self._not_shown(directory, self.specs if force else _pending(self.specs, self.known, self.record))
        errors, last = [], ""
        for spec in self.specs if force else _pending(self.specs, self.known, self.record):
            before = self.known.get(spec, Delivery(spec))
            try:
                self._require_shown(spec, last, directory, current)
                last = spec
                self._check(spec, directory)
                self._call(spec, before, directory, current)
                self._require_shown(spec, last, directory, current)
            except DeployFailed as error:
                errors.append(self._fail(before, error))
            else:
                self._note(Delivery(spec, self.record.serial, deployed_at=_now()))
                self.emit(events.Deployed(name=self.record.name, spec=spec, serial=self.record.serial))
        # Where one has put the certificate before back, what others were told to load by then is gone at their next start.
        done = [one for one in map(self.known.get, self.specs) if one and one.is_done(self.record.serial)]
        for before in done if errors else ():
            try:
                self._require_shown(before.spec, last, directory, current)
            except DeployFailed as error:
                errors.append(self._fail(before, error))
        return tuple(errors)

    def _not_shown(self, shown: Path, specs: Sequence[str]) -> tuple[DeployFailed, ...]:
        """
        What has failed where this certificate was taken back. It is not noted: whoever took it back has noted why.

        Where somebody has published a later one, nothing has failed here: who did it says what became of that.
        """
        versions = [number for number in _versions(shown.parent) if has_files_of(shown.with_name(str(number)), self.record)]
        if not shown.name.isdecimal() or max(versions, default=0) < int(shown.name):
            return ()
        why = "the certificate before has been put back"
        errors = [failure(spec, self.record.name, "look at what is published", why) for spec in specs]
        for error in errors:
            self.emit(events.DeployFailed(name=self.record.name, spec=error.spec, error=error))
        return tuple(errors)

    def _require_shown(self, spec: str, last: str, directory: Path, current: Path) -> None:
        """A server that reads ``current`` would be told to load another certificate, and count as done with this one."""
        shown = Path(os.path.realpath(current))
        if shown == directory:
            return
        back = shown.name.isdecimal() and directory.name.isdecimal() and int(shown.name) < int(directory.name)
        why = f"{last or 'somebody'} has put the certificate before back" if back else "another one was published meanwhile"
        raise failure(spec, self.record.name, "look at what is published", why)

    def _check(self, spec: str, directory: Path) -> None:
        """Refuse what no server should be told to load: Apache ends at a pair that is none, whatever its own test says."""
        from acme_middleware.deploy import snapshot  # brings ssl, and most runs deploy nothing

        try:
            snapshot.read(directory / "fullchain.pem", directory / "privkey.pem", patience=0)
        except ConfigurationError as error:
            raise failure(spec, self.record.name, "read the pair", str(error), hint="`renew` publishes it again") from error
        if self.record.not_after <= clock.now():
            why = f"the certificate has expired, {self.record.not_after:%Y-%m-%d %H:%M} UTC"
            raise failure(spec, self.record.name, "look at the dates", why, hint="`renew` gets a new one")

    def _call(self, spec: str, before: Delivery, directory: Path, current: Path) -> None:
        deployment = Deployment(
            name=self.record.name,
            names=self.record.names,
            directory=directory,
            current=current,
            previous=_previous(directory),
            serial=self.record.serial,
            not_after=self.record.not_after,
            previous_serial=before.serial if before.serial != self.record.serial else "",
        )
        try:
            parse(spec).deploy(deployment)
        except DeployFailed:
            raise
        except AcmeMiddlewareError as error:
            raise failure(spec, self.record.name, "read DEPLOY", str(error), hint=error.hint) from error
        except Exception as error:
            # A bug of a deployer must not keep the others from being called.
            logger.exception("%s: %s failed", self.record.name, spec)
            raise failure(spec, self.record.name, "deploy", f"unexpected {type(error).__name__}: {error}") from error

    def _fail(self, before: Delivery, error: DeployFailed) -> DeployFailed:
        again = before.failures if before.failed_serial == self.record.serial else 0
        self._note(replace(before, error=str(error), failed_serial=self.record.serial, failed_at=_now(), failures=again + 1))
        self.emit(events.DeployFailed(name=self.record.name, spec=before.spec, error=error))
        return error

    def _note(self, delivery: Delivery) -> None:
        self.known[delivery.spec] = delivery
        state.write(self.root, self.record.name, state.kept(self.known, self.specs, self.record.serial))


def _pending(specs: Sequence[str], known: dict[str, Delivery], record: RenewalRecord) -> list[str]:
    """
    The deployers to call, in their order.

    Where the proof has failed that the certificate is served, those before it are called again, though they have ended well:
    one of them did not do what it says.
    """
    there = [known.get(spec, Delivery(spec)) for spec in specs]
    disproved = [
        place
        for place, delivery in enumerate(there)
        if delivery.spec.startswith(PROOF) and delivery.error and delivery.failed_serial == record.serial
    ]
    again = max(disproved, default=0)
    return [one.spec for place, one in enumerate(there) if place < again or not one.is_done(record.serial)]


def _previous(directory: Path) -> Path | None:
    """The version before this one, while it is there."""
    if not directory.name.isdecimal():
        return None
    older = [number for number in _versions(directory.parent) if number < int(directory.name)]
    return directory.with_name(str(max(older))) if older else None


def _versions(lineage: Path) -> list[int]:
    with suppress(OSError):
        return [int(entry) for entry in os.listdir(lineage) if entry.isascii() and entry.isdecimal()]
    return []


def _as_in_certificates(name: str) -> str:
    try:
        return identifier(name).value
    except NameRefused:  # a --name that is no host name
        return name


def _now() -> str:
    return clock.now().isoformat(timespec="seconds").replace("+00:00", "Z")
