"""
ACME by hand: JWS and requests as RFC 8555 writes them down, with a place to spoil each part.

It shares nothing with this project's client or with the CA, so that it can contradict both.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Spoil = Callable[[dict[str, Any]], object]

LIMIT = 20.0
ALGORITHMS = {256: ("ES256", hashes.SHA256()), 384: ("ES384", hashes.SHA384()), 521: ("ES512", hashes.SHA512())}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def jwk(key: Key) -> dict[str, str]:
    """The public key (RFC 7517)."""
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return {"kty": "RSA", "n": b64(_bytes(numbers.n)), "e": b64(_bytes(numbers.e))}
    point, size = key.public_key().public_numbers(), (key.key_size + 7) // 8
    return {
        "kty": "EC",
        "crv": f"P-{key.key_size}",
        "x": b64(point.x.to_bytes(size, "big")),
        "y": b64(point.y.to_bytes(size, "big")),
    }


def thumbprint(key: Key) -> str:
    """RFC 7638."""
    return b64(hashlib.sha256(json.dumps(jwk(key), sort_keys=True, separators=(",", ":")).encode()).digest())


def sign(key: Key, data: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(ALGORITHMS[key.key_size][1])))
    size = (key.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def algorithm(key: Key) -> str:
    return "RS256" if isinstance(key, rsa.RSAPrivateKey) else ALGORITHMS[key.key_size][0]


def jws(key: Key, protected: Mapping[str, Any], payload: bytes) -> dict[str, Any]:
    """RFC 7515, flattened."""
    header, body = b64(json.dumps(protected).encode()), b64(payload)
    return {"protected": header, "payload": body, "signature": b64(sign(key, f"{header}.{body}".encode()))}


def mac_jws(mac_key: bytes, protected: Mapping[str, Any], payload: bytes) -> dict[str, Any]:
    header, body = b64(json.dumps(protected).encode()), b64(payload)
    return {"protected": header, "payload": body, "signature": b64(hmac.digest(mac_key, f"{header}.{body}".encode(), "sha256"))}


def csr(key: Key, names: list[str], *, common_name: str = "") -> x509.CertificateSigningRequest:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else [])
    builder = x509.CertificateSigningRequestBuilder(subject_name=subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    return builder.sign(key, hashes.SHA256())


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> dict[str, Any]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value

    @property
    def problem(self) -> str:
        """The type of a problem document, without its prefix; "" where it is none."""
        if self.headers.get_content_type() != "application/problem+json":
            return ""
        kind = str(self.json()["type"])
        assert kind.startswith("urn:ietf:params:acme:error:")
        return kind.rpartition(":")[2]

    @property
    def location(self) -> str:
        return self.headers["Location"] or ""

    def links(self, relation: str) -> list[str]:
        values: list[str] = self.headers.get_all("Link") or []
        return [value[1 : value.index(">")] for value in values if value.endswith(f';rel="{relation}"')]

    def refused(self, kind: str, status: int) -> Answer:
        """Assert that this is a refusal of a type."""
        assert (self.status, self.problem) == (status, kind), (self.status, self.body)
        return self

    def ok(self, status: int = 200) -> Answer:
        assert self.status == status, (self.status, self.body)
        return self


class Client:
    """One client of a CA, over one connection that stays open. ``account`` is its account's URL, "" before it has one."""

    def __init__(self, directory_url: str, ca_bundle: Path, key: Key | None = None) -> None:
        parts = urlsplit(directory_url)
        self.netloc, self.directory_url = parts.netloc, directory_url
        self.key: Key = key or new_key()
        self.account = ""
        context = ssl.create_default_context(cafile=ca_bundle)
        self.connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context, timeout=LIMIT)
        self.directory: dict[str, Any] = self.request("GET", directory_url).ok().json()

    def close(self) -> None:
        self.connection.close()

    def request(
        self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str | None] | None = None
    ) -> Answer:
        """One request; a header that is None is left out."""
        parts = urlsplit(url)
        sent = {"User-Agent": "raw", **(headers or {})}
        self.connection.request(
            method,
            parts.path + (f"?{parts.query}" if parts.query else ""),
            body,
            {name: value for name, value in sent.items() if value is not None},
        )
        response = self.connection.getresponse()
        return Answer(response.status, response.headers, response.read())

    def nonce(self) -> str:
        return str(self.request("HEAD", self.directory["newNonce"]).headers["Replay-Nonce"])

    def post(
        self,
        url: str,
        payload: Any = "",
        *,
        key: Key | None = None,
        by_key: bool = False,
        protected: Spoil = bool,
        body: Spoil = bool,
        content_type: str = "application/jose+json",
        **headers: str | None,
    ) -> Answer:
        """
        A signed POST.

        Args:
            payload: What is signed, as JSON; "" for POST-as-GET, bytes as they are.
            by_key: Sign with a jwk instead of the account's URL.
            protected, body: Spoil the header before it is signed, or the JWS after that.
        """
        signer = key or self.key
        header: dict[str, Any] = {"alg": algorithm(signer), "nonce": self.nonce(), "url": url}
        header |= {"jwk": jwk(signer)} if by_key or not self.account else {"kid": self.account}
        protected(header)
        data = payload if isinstance(payload, bytes) else b"" if payload == "" else json.dumps(payload).encode()
        signed = jws(signer, header, data)
        body(signed)
        return self.request("POST", url, json.dumps(signed).encode(), {"Content-Type": content_type, **headers})

    def register(self, **more: Any) -> Answer:
        """Make an account."""
        answer = self.post(self.directory["newAccount"], {"termsOfServiceAgreed": True, **more}, by_key=True)
        if answer.status in (200, 201):
            self.account = answer.location
        return answer

    def new_order(self, *names: str, **more: Any) -> Answer:
        identifiers = [{"type": "dns", "value": name} for name in names]
        return self.post(self.directory["newOrder"], {"identifiers": identifiers, **more})

    def key_authorization(self, token: str) -> str:
        return f"{token}.{thumbprint(self.key)}"

    def poll(self, url: str, *, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """POST-as-GET until something is so."""
        deadline = time.monotonic() + LIMIT
        while True:
            document = self.post(url).ok().json()
            if until(document):
                return document
            assert time.monotonic() < deadline, document
            time.sleep(0.01)


@contextmanager
def connected(directory_url: str, ca_bundle: Path, key: Key | None = None) -> Iterator[Client]:
    client = Client(directory_url, ca_bundle, key)
    try:
        yield client
    finally:
        client.close()


def der(certificate: x509.Certificate | x509.CertificateSigningRequest) -> str:
    return b64(certificate.public_bytes(Encoding.DER))


def certificate_id(certificate: x509.Certificate) -> str:
    """RFC 9773 section 4.1, from the bytes of the DER."""
    aki = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    serial = certificate.serial_number
    content = serial.to_bytes((serial.bit_length() + 7) // 8, "big")
    return f"{b64(aki or b'')}.{b64((bytes(1) if content[0] & 0x80 else b'') + content)}"


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
