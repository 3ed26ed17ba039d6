"""Certificates made at once, of any key type and age, and TLS handshakes in memory, for tests of what serves them."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Callable
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from acme_middleware.clock import now
from acme_middleware.deploy.publish import Pems, publish

DAY = datetime.timedelta(days=1)
NAME = "example.com"

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@cache
def key_of(kind: str, number: int = 0) -> Key:
    """One key of each kind and number per run: making an RSA key costs more than all else here."""
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def certificate(*names: str, kind: str = "ec", expires: datetime.timedelta = 80 * DAY, number: int = 0) -> Pems:
    """
    A certificate that a root for tests has signed, with a serial number that no other has.

    Both bear what Python's VERIFY_X509_STRICT (the default from 3.13) asks for.
    """
    key, signer = key_of(kind, number), key_of("ec", -1)
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A root for tests")])
    alternative = [x509.IPAddress(ipaddress.ip_address(n)) if _is_address(n) else x509.DNSName(n) for n in names or (NAME,)]
    made = (
        x509.CertificateBuilder()
        .issuer_name(root_name)
        .subject_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - 90 * DAY)
        .not_valid_after(now() + expires)
        .add_extension(x509.SubjectAlternativeName(alternative), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return Pems(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), made.public_bytes(Encoding.PEM), _root(root_name)
    )


@cache
def _root(name: x509.Name) -> bytes:
    signer = key_of("ec", -1)
    made = (
        x509.CertificateBuilder()
        .issuer_name(name)
        .subject_name(name)
        .public_key(signer.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - 100 * DAY)
        .not_valid_after(now() + 100 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(signer.public_key()), critical=False)
        .add_extension(_signs_certificates(), critical=True)
        .sign(signer, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


def _signs_certificates() -> x509.KeyUsage:
    others = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    return x509.KeyUsage(
        key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False, **dict.fromkeys(others, False)
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def der(pems: Pems) -> bytes:
    """What a client gets to see of it."""
    return ssl.PEM_cert_to_DER_cert(pems.cert.decode())


def published(root: Path, pems: Pems, name: str = NAME) -> bytes:
    """Publish a certificate; returns what clients are to see from then on."""
    publish(root, name, lambda: pems)
    return der(pems)


def client_context(*, alpn: list[str] | None = None) -> ssl.SSLContext:
    """A client that looks at certificates and trusts any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


_client = client_context()


def handshake(
    server: ssl.SSLContext, name: str | None = NAME, *, client: ssl.SSLContext = _client, session: ssl.SSLSession | None = None
) -> ssl.SSLObject:
    """A handshake in memory; returns the client's end of it. Raises ssl.SSLError, as the client has it, where it fails."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name, session=session),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                ends[0].do_handshake()  # raises what the server has told the client
                raise
        if not waiting:
            ends[1].write(b"hello")
            ends[0].read(5)  # with TLS 1.3 tickets come after the handshake
            return ends[0]
    raise AssertionError("the handshake does not end")


def seen(server: ssl.SSLContext, name: str | None = NAME, **given: ssl.SSLContext) -> bytes | None:
    """The certificate that a client sees which asks for ``name``."""
    return handshake(server, name, **given).getpeercert(binary_form=True)


def fails(work: Callable[[], object]) -> str:
    """The reason for which a handshake fails."""
    try:
        work()
    except ssl.SSLError as error:
        return error.reason or str(error)
    raise AssertionError("it does not fail")
