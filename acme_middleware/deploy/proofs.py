"""What the last look at the servers came to, kept on this host beside the published files: another host serves by itself."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from acme_middleware import _files
from acme_middleware.deploy.publish import _explained, _locked, directory_name

__all__ = ["FOLDER", "Proof", "forget", "read", "write"]

SCHEMA = 1
FOLDER = ".verified"
"""In PUBLISH_DIR; no certificate's folder begins with a dot."""


@dataclass(frozen=True, slots=True)
class Proof:
    """
    Whether a certificate is served.

    Attributes:
        name: What it is known by.
        fingerprint: Which one it was; where another is the newest by now, this says nothing about that.
        at: When it was looked at.
        problems: What was wrong, a sentence each; none where it is served at every address.
    """

    name: str
    fingerprint: str
    at: datetime
    problems: tuple[str, ...]

    @property
    def served(self) -> bool:
        """Whether it was served at every address."""
        return not self.problems

    def is_of(self, fingerprint: str) -> bool:
        """Whether it is about that very certificate, not the one before."""
        return self.fingerprint == fingerprint


def read(root: Path, name: str) -> Proof | None:
    """The last proof of a certificate below ``root``, PUBLISH_DIR. None where there is none, or none that can be read."""
    try:
        document = json.loads(_files.read(_file(root, name)))
        at = datetime.fromisoformat(document["at"])
        if document["schema"] != SCHEMA or at.tzinfo is None:
            return None
        return Proof(str(document["name"]), str(document["fingerprint"]), at, tuple(map(str, document["problems"])))
    except (OSError, ValueError, TypeError, KeyError):
        return None  # the next look makes it anew


def write(root: Path, proof: Proof) -> None:
    """
    Keep a proof.

    Raises:
        PublishFailed: it cannot be written there.
    """
    root = Path(root).absolute()
    document = {
        "schema": SCHEMA,
        "name": proof.name,
        "fingerprint": proof.fingerprint,
        "at": proof.at.isoformat(),
        "problems": list(proof.problems),
    }
    file = _file(root, proof.name)
    fresh = file.with_name(f".{file.name}")
    with _explained(root), _locked(root):
        _files.make_folder(file.parent, 0o755)
        fresh.unlink(missing_ok=True)  # of a run that was killed here
        _files.create(fresh, json.dumps(document).encode(), mode=0o644)
        os.replace(fresh, file)


def forget(root: Path, name: str) -> None:
    """Remove the proof of a certificate that is deleted. Raises PublishFailed where it cannot be."""
    with _explained(root):
        _file(root, name).unlink(missing_ok=True)


def _file(root: Path, name: str) -> Path:
    return Path(root).absolute() / FOLDER / f"{directory_name(name)}.json"
