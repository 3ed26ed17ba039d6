"""What was deployed on this host: beside the published files, since every host has servers of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from acme_middleware import _files
from acme_middleware.deploy.publish import directory_name

__all__ = ["Delivery", "forget", "locked", "read", "write"]

FOLDER = ".deployed"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    How far one deployer has come with one certificate.

    Attributes:
        spec: What DEPLOY has for it.
        serial: Of the certificate that it deployed last; "" while there is none.
        deployed_at: When, in ISO 8601.
        error: Why it has failed since; "" where it has not.
        failed_serial: Of the certificate that it failed with.
        failed_at: When, in ISO 8601.
        failures: How often it has failed in a row.
    """

    spec: str
    serial: str = ""
    deployed_at: str = ""
    error: str = ""
    failed_serial: str = ""
    failed_at: str = ""
    failures: int = 0

    def is_done(self, serial: str) -> bool:
        """Whether this certificate is deployed."""
        return self.serial == serial and not self.error


def read(root: Path, name: str) -> dict[str, Delivery]:
    """
    What is known of the deployments of a certificate, by deployer. What is damaged counts as nothing: it is deployed again.

    Args:
        root: PUBLISH_DIR.
        name: What the certificate is known by.

    Raises:
        OSError: it cannot be read.
    """
    try:
        document = json.loads(_files.read(_path(root, name)))
        if document["schema"] != SCHEMA:
            return {}
        found = [Delivery(**entry) for entry in document["deliveries"]]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}
    return {delivery.spec: delivery for delivery in found}


def write(root: Path, name: str, deliveries: Iterable[Delivery]) -> None:
    """Write what is known, whole or not at all; call it under :func:`locked`. Raises OSError where that cannot be."""
    path = _path(root, name)
    document = {"schema": SCHEMA, "name": name, "deliveries": [asdict(delivery) for delivery in deliveries]}
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    # A command may have a password among its words, though it should not: for its owner alone.
    _files.create(draft, json.dumps(document).encode())
    draft.replace(path)
    _files.sync_folder(path.parent)


def forget(root: Path, name: str) -> None:
    """Remove what is known, and nothing where nothing is. The lock stays: somebody may hold it. Raises OSError."""
    _path(root, name).unlink(missing_ok=True)


@contextmanager
def locked(root: Path, name: str, *, patience: float) -> Iterator[None]:
    """
    Be the only one who deploys this certificate on this host.

    Raises:
        TimeoutError: another process has been at it for longer than ``patience``, in seconds.
        OSError: the folder cannot be written.
    """
    _files.make_folder(root / FOLDER, 0o700)
    path = _path(root, name)
    with _files.exclusive(path.with_name(f".{path.stem}.lock"), patience=patience):
        yield


def kept(known: Mapping[str, Delivery], specs: Iterable[str], serial: str) -> list[Delivery]:
    """What is still worth knowing: of the deployers there are, and of others as long as it is about this certificate."""
    wanted = set(specs)
    return [one for one in known.values() if one.spec in wanted or serial in (one.serial, one.failed_serial)]


def _path(root: Path, name: str) -> Path:
    return root / FOLDER / f"{directory_name(name)}.json"
