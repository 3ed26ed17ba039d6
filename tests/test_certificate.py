"""Requests for certificates, and what is held against them before a certificate is saved."""

from __future__ import annotations

import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from acme_middleware.errors import CertificateRejected
from acme_middleware.issuance import certificate, keys
from acme_middleware.issuance.keys import PrivateKey
from acme_middleware.issuance.names import identifiers
from acme_middleware.protocol.renewal_info import certificate_id

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
WANTED = identifiers(["example.com", "www.example.com", "192.0.2.1"])


class CA:
    """A root, or below another CA an intermediate."""

    def __init__(self, name: str, issuer: CA | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        signer = issuer or self
        builder = self.builder(self.name, self.key, signer)
        self.certificate = builder.add_extension(x509.BasicConstraints(True, None), True).sign(signer.key, hashes.SHA256())

    @staticmethod
    def builder(subject: x509.Name, key: PrivateKey, signer: CA, days: int = 90) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            issuer_name=signer.name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=0x80 << 8,
            not_valid_before=NOW - datetime.timedelta(days=0 if days > 0 else 90),
            not_valid_after=NOW + datetime.timedelta(days=days),
        )

    def issue(self, key: PrivateKey, names: list[x509.GeneralName], days: int = 90) -> bytes:
        builder = self.builder(x509.Name([]), key, self, days)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return pem(builder.add_extension(identifier, False).sign(self.key, hashes.SHA256()))


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(entry.public_bytes(serialization.Encoding.PEM) for entry in certificates)


ROOT = CA("the root")
INTERMEDIATE = CA("an intermediate", ROOT)
KEY = keys.load(keys.generate("ec256"))
NAMES: list[x509.GeneralName] = [
    x509.DNSName("example.com"),
    x509.DNSName("WWW.example.com"),
    x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
]
GOOD = INTERMEDIATE.issue(KEY, NAMES)
CHAIN = GOOD + pem(INTERMEDIATE.certificate)


def damaged_names() -> bytes:
    """A certificate whose first name is longer than all of its names."""
    names = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x03\x82\x05a")
    builder = CA.builder(x509.Name([]), KEY, INTERMEDIATE).add_extension(names, False)
    return pem(builder.sign(INTERMEDIATE.key, hashes.SHA256()))


@pytest.mark.parametrize("key_type", keys.GENERATORS)
def test_request_names_the_names_and_is_signed(key_type: str) -> None:
    key = keys.load(keys.generate(key_type))
    csr = x509.load_der_x509_csr(certificate.request(key, WANTED))
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert csr.is_signature_valid
    assert names.get_values_for_type(x509.DNSName) == ["example.com", "www.example.com"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("192.0.2.1")]
    assert len(csr.subject) == 0


def test_good_chain_is_accepted_with_or_without_its_root() -> None:
    assert len(certificate.accept(CHAIN, WANTED, KEY)) == 2
    assert len(certificate.accept(CHAIN + pem(ROOT.certificate), WANTED, KEY)) == 3


@pytest.mark.parametrize(
    ("chain", "says"),
    [
        pytest.param(b"", "cannot be read", id="nothing"),
        pytest.param(b"<html>", "cannot be read", id="a web page"),
        pytest.param(CHAIN.replace(b"\nM", b"\nN", 1), "cannot be read", id="damaged base64"),
        pytest.param(GOOD, "without the chain", id="no intermediate"),
        pytest.param(GOOD + pem(ROOT.certificate), "broken", id="an intermediate left out"),
        pytest.param(GOOD + pem(ROOT.certificate, INTERMEDIATE.certificate), "broken", id="the wrong order"),
        pytest.param(GOOD + pem(CA("an intermediate", ROOT).certificate), "broken", id="another issuer of the same name"),
        pytest.param(
            INTERMEDIATE.issue(keys.load(keys.generate("ec256")), NAMES) + pem(INTERMEDIATE.certificate),
            "another key",
            id="another key",
        ),
        pytest.param(INTERMEDIATE.issue(KEY, NAMES[:2]) + pem(INTERMEDIATE.certificate), "other names", id="a name too few"),
        pytest.param(
            INTERMEDIATE.issue(KEY, [*NAMES, x509.DNSName("evil.example")]) + pem(INTERMEDIATE.certificate),
            r"other names than the request: .*evil\.example",
            id="a name too many",
        ),
        pytest.param(
            INTERMEDIATE.issue(KEY, NAMES, days=-1) + pem(INTERMEDIATE.certificate), "expired already", id="expired already"
        ),
        pytest.param(damaged_names() + pem(INTERMEDIATE.certificate), "cannot be read", id="names that cannot be read"),
        pytest.param(INTERMEDIATE.issue(KEY, []) + pem(INTERMEDIATE.certificate), "none", id="no names"),
    ],
)
def test_what_was_not_asked_for_is_rejected(chain: bytes, says: str) -> None:
    with pytest.raises(CertificateRejected, match=says):
        certificate.accept(chain, WANTED, KEY)


def test_preferred_chain_is_found_by_its_topmost_issuer() -> None:
    other = GOOD + pem(CA("an intermediate", CA("another root")).certificate)
    assert certificate.choose([CHAIN, other], None) == (CHAIN, True)
    assert certificate.choose([CHAIN, other], "another root") == (other, True)
    assert certificate.choose([CHAIN, other], "no root") == (CHAIN, False)


def test_chain_that_could_not_be_had_is_not_chosen_and_the_others_keep_their_numbers() -> None:
    other = GOOD + pem(CA("an intermediate", CA("another root")).certificate)
    chains = [CHAIN, b"", other]
    assert certificate.choose(chains, "0") == (CHAIN, True)
    assert certificate.choose(chains, "1") == (CHAIN, False)
    assert certificate.choose(chains, "2") == (other, True)
    assert certificate.choose(chains, "another root") == (other, True)


def test_facts_are_read_from_the_names_not_from_a_common_name() -> None:
    facts = certificate.facts(x509.load_pem_x509_certificate(GOOD))
    assert facts.names == ("example.com", "www.example.com", "192.0.2.1")
    assert facts.serial == "8000"
    assert len(facts.fingerprint) == 64
    assert facts.not_before == NOW


def test_certificate_id_keeps_the_leading_zero_of_the_serial() -> None:
    # RFC 9773 section 4.1 encodes the DER content of the INTEGER: 0x8000 is 00 80 00.
    leaf = x509.load_pem_x509_certificate(GOOD)
    assert certificate_id(leaf).partition(".")[2] == "AIAA"
    assert "=" not in certificate_id(leaf)


def test_pem_is_written_without_what_stood_between() -> None:
    noisy = b"subject=hello\n\n" + GOOD + b"\n# comment\n" + pem(INTERMEDIATE.certificate)
    chain = certificate.accept(noisy, WANTED, KEY)
    assert certificate.to_pem(chain) == CHAIN
