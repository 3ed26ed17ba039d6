"""The CA's own keys and certificates: roots, intermediates and its HTTPS certificate, made at the first start and kept."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from acme_middleware import _files
from acme_middleware.errors import ConfigurationError

ROOT_LIFETIME, INTERMEDIATE_LIFETIME = timedelta(days=30 * 365), timedelta(days=10 * 365)
HTTPS_LIFETIME, HTTPS_RENEWED_BEFORE = timedelta(days=365), timedelta(days=30)
BACKDATED = timedelta(hours=1)
"""Certificates begin this much before they are made: clocks differ."""

Signer = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


class Hierarchy:
    """
    The keys and certificates in one state folder.

    Args:
        folder: Private to its user; made when absent. ``root.pem`` in it is what clients trust.
        now: By the CA's clock, which certificates go by.
        hosts: The names and addresses that its own HTTPS is for.
        chain_length: How many intermediates stand between a root and a certificate; 1 or more.
        alternates: How many further roots there are, each of which has signed the topmost intermediate as well.

    Raises:
        ConfigurationError: the folder is not private or cannot be written to, a file in it is not the CA's, or a certificate
            in it is not valid at ``now``.
    """

    def __init__(self, folder: Path, *, now: datetime, hosts: Sequence[str], chain_length: int, alternates: int) -> None:
        self.folder = folder
        # HTTPS is judged by the clients' clocks, and certificates by the CA's: the roots are good by both.
        real = datetime.now(UTC)
        begin = min(now, real) - timedelta(days=1)
        try:
            _prepare(folder)
            with _files.exclusive(folder / ".lock"):
                self.roots = [self._root(number, begin) for number in range(alternates + 1)]
                self.intermediates = self._intermediates(chain_length, begin)
                # The same topmost intermediate, once for each further root.
                top, key = self.intermediates[0]
                self.cross_signed = [
                    self._certificate(f"cross-{number}", top.subject, key, root, begin, INTERMEDIATE_LIFETIME)
                    for number, root in enumerate(self.roots[1:], 1)
                ]
                self.https = self._https(hosts, real)
        except OSError as error:
            raise ConfigurationError(
                f"the CA cannot keep its keys in {folder}: {error.strerror or error}",
                hint=_files.who(error) or "name another folder",
            ) from error
        for certificate, _ in [*self.roots, *self.intermediates]:
            if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
                raise ConfigurationError(
                    f"by the CA's clock ({now:%Y-%m-%d}) its own certificates in {folder} are not valid",
                    hint="set the clock, or let the CA make new ones in another folder",
                )

    @property
    def root_file(self) -> Path:
        return self.folder / "root.pem"

    @property
    def issuer(self) -> Signer:
        """What signs the certificates: the lowest intermediate."""
        return self.intermediates[-1]

    def chains(self, leaf: x509.Certificate) -> list[bytes]:
        """The chains of a certificate in PEM, without roots: the default one, then one for each further root."""
        tops = [self.intermediates[0][0], *self.cross_signed]
        below = [leaf, *(certificate for certificate, _ in reversed(self.intermediates[1:]))]
        return [b"".join(_pem(certificate) for certificate in [*below, top]) for top in tops]

    def _root(self, number: int, begin: datetime) -> Signer:
        word = "root" if number == 0 else f"root-{number}"
        key = self._key(word)
        subject = _name(f"Local development root {number} {_digest(key)}")
        return self._certificate(word, subject, key, None, begin, ROOT_LIFETIME), key

    def _intermediates(self, length: int, begin: datetime) -> list[Signer]:
        made: list[Signer] = []
        for number in range(length):
            word = f"intermediate-{number}"
            key = self._key(word)
            subject = _name(f"Local development intermediate {number} {_digest(key)}")
            above = made[-1] if made else self.roots[0]
            made.append((self._certificate(word, subject, key, above, begin, INTERMEDIATE_LIFETIME), key))
        return made

    def _certificate(
        self,
        word: str,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        above: Signer | None,
        begin: datetime,
        lifetime: timedelta,
    ) -> x509.Certificate:
        """The certificate of one of the CA's keys, kept or new; ``above`` is None for a root."""
        path = self.folder / f"{word}.pem"
        issuer, signing_key = (above[0].subject, above[1]) if above else (subject, key)
        kept = _load(path)
        if kept is not None and _is_by(kept, key, issuer, signing_key):
            return kept
        builder = (
            _builder(subject, issuer, key.public_key(), signing_key.public_key(), begin, begin + lifetime)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        )
        certificate = builder.sign(signing_key, hashes.SHA256())
        _write(path, _pem(certificate))
        return certificate

    def _https(self, hosts: Sequence[str], now: datetime) -> tuple[Path, Path]:
        """The certificate chain and key that the CA's own server shows, renewed when the CA is started."""
        key, path = self._key("https"), self.folder / "https.pem"
        names = [_general_name(host) for host in hosts]
        issuer, signing_key = self.roots[0]
        kept = _load(path)
        if kept is not None and _is_by(kept, key, issuer.subject, signing_key):
            has = list(kept.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
            if has == names and kept.not_valid_after_utc - HTTPS_RENEWED_BEFORE > now:
                return path, self.folder / "https.key"
        # As the roots: a client whose clock is hours behind shall hear that from the Date header, and not from TLS.
        begin, end = now - timedelta(days=1), now + HTTPS_LIFETIME
        builder = (
            _builder(x509.Name([]), issuer.subject, key.public_key(), signing_key.public_key(), begin, end)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        )
        _write(path, _pem(builder.sign(signing_key, hashes.SHA256())))
        return path, self.folder / "https.key"

    def _key(self, word: str) -> ec.EllipticCurvePrivateKey:
        path = self.folder / f"{word}.key"
        if path.exists():
            try:
                kept = serialization.load_pem_private_key(_files.read(path), None)
            except (ValueError, TypeError):
                kept = None
            if not isinstance(kept, ec.EllipticCurvePrivateKey):
                raise _foreign(path)
            return kept
        key = ec.generate_private_key(ec.SECP256R1())
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        _write(path, key.private_bytes(encoding, form, serialization.NoEncryption()))
        return key


def sign_leaf(signer: Signer, key: object, names: Sequence[str], *, begin: datetime, lifetime: timedelta) -> x509.Certificate:
    """
    A certificate for a server.

    It has no common name, as in the newer profiles of public CAs: whoever reads names from there is found out here.
    """
    issuer, signing_key = signer
    builder = _builder(
        x509.Name([]), issuer.subject, key, signing_key.public_key(), begin, begin + lifetime - timedelta(seconds=1)
    )
    builder = (
        # Critical since the subject is empty (RFC 5280 section 4.2.1.6).
        builder.add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return builder.sign(signing_key, hashes.SHA256())


def _prepare(folder: Path) -> None:
    _files.make_parents(folder)
    _files.make_folder(folder, 0o700)
    if folder.stat().st_mode & 0o077:
        raise ConfigurationError(
            f"others can read {folder}, where the CA keeps its keys", hint=f"chmod 700 {folder}, or name another folder"
        )


def _write(path: Path, data: bytes) -> None:
    """Write a file whole: one that a kill left half written would stop every later start."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    _files.create(new, data)
    new.replace(path)
    _files.sync_folder(path.parent)


def _load(path: Path) -> x509.Certificate | None:
    if not path.exists():
        return None
    try:
        return x509.load_pem_x509_certificate(_files.read(path))
    except ValueError:
        raise _foreign(path) from None


def _foreign(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is not a file of this CA", hint="delete it to have a new one made, or name another folder"
    )


def _is_by(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, signing_key: ec.EllipticCurvePrivateKey
) -> bool:
    """Whether a kept certificate is still for a key and by an issuer: somebody may have deleted one of the files."""
    if certificate.public_key() != key.public_key() or certificate.issuer != issuer:
        return False
    algorithm = ec.ECDSA(hashes.SHA256())
    try:
        signing_key.public_key().verify(certificate.signature, certificate.tbs_certificate_bytes, algorithm)
    except InvalidSignature:
        return False
    return True


def _builder(
    subject: x509.Name, issuer: x509.Name, key: object, signing_key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)  # type: ignore[arg-type]  # any kind that the CSR's check let through
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin.replace(microsecond=0))
        .not_valid_after(end.replace(microsecond=0))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)  # type: ignore[arg-type]
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key), critical=False)
    )


def _usage(**allowed: bool) -> x509.KeyUsage:
    parts = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    every = dict.fromkeys((*parts, "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(**{**every, **allowed})


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _digest(key: ec.EllipticCurvePrivateKey) -> str:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:6]


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
