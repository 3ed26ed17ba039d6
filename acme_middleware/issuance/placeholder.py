"""
A self-signed pair where a certificate will be: nginx, HAProxy and Apache do not start without one.

It is in the files alone, never in the store: there the certificate is one that was never issued, so it is due at once, and
the first issue publishes the real one in place of this.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from acme_middleware import clock
from acme_middleware.deploy.deployer import Deployer, Deployment
from acme_middleware.deploy.deployers import parse_all
from acme_middleware.deploy.exports import Files
from acme_middleware.deploy.haproxy import HAProxy
from acme_middleware.deploy.publish import Pems, directory_name, publish
from acme_middleware.errors import DeployFailed
from acme_middleware.issuance import keys
from acme_middleware.issuance import names as identifier_names
from acme_middleware.protocol.identifier import Identifier

__all__ = ["Placed", "hand_out", "is_placeholder", "place"]

SUBJECT = "acme-middleware placeholder"
LIFETIME = timedelta(days=7)
BACKDATED = timedelta(hours=1)
MOST_BYTES = 100_000


class Placed(NamedTuple):
    """
    What became of it.

    Attributes:
        name: What the certificate is, or will be, known by.
        names: What it is for.
        current: The folder with the files.
        made: Whether a placeholder was made now.
        real: Whether a certificate is there that is none of ours, which was left as it is.
    """

    name: str
    names: tuple[str, ...]
    current: Path
    made: bool
    real: bool


class _Stays(Exception):
    """What is there stays. No error: the way out of publishing."""

    def __init__(self, *, real: bool) -> None:
        super().__init__()
        self.real = real


def place(
    root: Path,
    names: Sequence[str],
    *,
    name: str | None = None,
    key_type: str = "ec256",
    owner: str | None = None,
    group: str | None = None,
) -> Placed:
    """
    Publish a self-signed pair, unless any certificate is there already: a real one stays, and so does a placeholder for the
    same names that has not expired.

    Args:
        root: PUBLISH_DIR; made when absent.
        names: DNS names and IP addresses.
        name: What the certificate will be known by; by default its first name.
        key_type: As the option.
        owner: As for :func:`acme_middleware.deploy.publish.publish`.
        group: As there.

    Raises:
        NameRefused: a name that no certificate can be for.
        ConfigurationError: an unknown owner or group, or a ``name`` that cannot be a folder's.
        PublishFailed: the files cannot be written.
    """
    wanted = identifier_names.identifiers(names)
    lineage = identifier_names.lineage(name, wanted)
    current = Path(root).absolute() / directory_name(lineage) / "current"
    as_text = tuple(entry.value for entry in wanted)

    def newest() -> Pems:
        # Under the lock of whoever publishes: a real one cannot come between this look and the files.
        there = _read(current)
        if there is not None:
            real = not is_placeholder(there)
            if real or (_names(there) == set(as_text) and clock.now() < there.not_valid_after_utc):
                raise _Stays(real=real)
        elif current.exists():
            raise _Stays(real=True)  # damaged, or not ours: somebody has to look at it
        return _self_signed(wanted, key_type)

    try:
        published = publish(root, lineage, newest, owner=owner, group=group)
    except _Stays as stays:
        return Placed(lineage, as_text, current, made=False, real=stays.real)
    return Placed(lineage, as_text, published.current, made=True, real=False)


def hand_out(placed: Placed, specs: Sequence[str]) -> list[str]:
    """
    Write a placeholder where DEPLOY has files of its own (``files:``, ``haproxy:`` with a folder) and none of them is there.
    Other deployers have nothing to do: there is no server yet that could be told.

    Returns:
        The strings of DEPLOY that were followed.

    Raises:
        ConfigurationError: there is no such deployer.
        DeployFailed: a file could not be written.
    """
    followed = []
    deployment = _deployment(placed)
    for deployer in parse_all(specs):
        targets = _targets(deployer, directory_name(placed.name))
        if placed.real or not targets or any(target.exists() for target in targets):
            continue
        try:
            deployer.deploy(deployment)
        except DeployFailed:
            if not all(target.exists() for target in targets):
                raise
            # It is written, and HAProxy was not told: it has not been started yet, which is what this is for.
        followed.append(deployer.spec)
    return followed


def _targets(deployer: Deployer, name: str) -> list[Path]:
    """The files that a deployer makes for a certificate; none where it makes none."""
    if isinstance(deployer, HAProxy):
        return [deployer.folder / f"{name}.pem"] if deployer.folder is not None else []
    if not isinstance(deployer, Files):
        return []
    if deployer.below:
        return [deployer.folder / name / "privkey.pem"]
    return [deployer.folder / file.replace("{name}", name) for file in (*deployer.names, deployer.p12) if file]


def _deployment(placed: Placed) -> Deployment:
    certificate = _read(placed.current)
    if certificate is None:
        raise FileNotFoundError(placed.current)
    return Deployment(
        name=placed.name,
        names=placed.names,
        directory=placed.current.resolve(),
        current=placed.current,
        previous=None,
        serial=f"{certificate.serial_number:x}",
        not_after=certificate.not_valid_after_utc,
        previous_serial="",
    )


def is_placeholder(certificate: x509.Certificate) -> bool:
    """Whether a certificate is one of those that are made here."""
    return certificate.issuer == certificate.subject == _subject()


def _subject() -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SUBJECT)])


def _read(current: Path) -> x509.Certificate | None:
    """The certificate that is published; None where there is none, or none that can be read."""
    try:
        with (current / "cert.pem").open("rb") as file:
            return x509.load_pem_x509_certificate(file.read(MOST_BYTES))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _names(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return {*names.get_values_for_type(x509.DNSName), *(address.compressed for address in addresses)}


def _self_signed(wanted: Sequence[Identifier], key_type: str) -> Pems:
    pem = keys.generate(key_type)
    key = keys.load(pem)
    names: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address(entry.value)) if entry.type == "ip" else x509.DNSName(entry.value)
        for entry in wanted
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_subject())
        .issuer_name(_subject())
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(clock.now() - BACKDATED)
        .not_valid_after(clock.now() + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pems(pem, certificate.public_bytes(serialization.Encoding.PEM), b"")
