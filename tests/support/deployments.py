"""Published certificates, and what a deployer is told about each."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography import x509

from acme_middleware.deploy.deployer import Deployment
from acme_middleware.deploy.publish import Pems, publish
from acme_middleware.testing.certificates import self_made


def deployment(root: Path, *names: str, name: str = "", pems: Pems | None = None) -> Deployment:
    """Publish a new certificate for ``names`` below ``root``, by default an EC one, and say what is to be deployed."""
    name, pems = name or names[0], pems or self_made(*names)
    before = root.absolute() / name / "current"
    previous = before.parent / os.readlink(before) if before.is_symlink() else None
    published = publish(root, name, lambda: pems)
    made = x509.load_pem_x509_certificate(pems.cert)
    return Deployment(
        name=name,
        names=names,
        directory=published.directory,
        current=published.current,
        previous=previous,
        serial=f"{made.serial_number:x}",
        not_after=made.not_valid_after_utc,
        previous_serial=_serial(previous) if previous else "",
    )


def _serial(directory: Path) -> str:
    return f"{x509.load_pem_x509_certificate((directory / 'cert.pem').read_bytes()).serial_number:x}"
