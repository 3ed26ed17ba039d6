"""certbot, lego and acme-tiny, as they are: what they ask of the CA, and how strict they find it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import local_ports
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pebble_lab import environment, names_of, serving, site_app
from raw_acme import csr

from acme_middleware.local_ca import LocalCA

LIMIT = 120.0
NAMES = ["first.test", "second.test"]
EAB = {"customer-7": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I"}


@dataclass
class Bench:
    """A CA that finds every name at one port, and a folder for the client's things."""

    folder: Path
    stack: ExitStack
    port: int
    state: Path

    def start(self, **settings: Any) -> LocalCA:
        return self.stack.enter_context(LocalCA(state=self.state, resolve={"*": f"127.0.0.1:{self.port}"}, **settings))


@pytest.fixture
def bench(tmp_path: Path, ca_state: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        [port] = stack.enter_context(local_ports.reserve(1))
        yield Bench(tmp_path, stack, port, ca_state)


def run(ca: LocalCA, *command: str | Path, ok: bool = True) -> str:
    """Run a client; returns what it printed."""
    bundle = str(ca.ca_bundle)
    env = environment({"REQUESTS_CA_BUNDLE": bundle, "LEGO_CA_CERTIFICATES": bundle, "SSL_CERT_FILE": bundle})
    env.pop("PYTHONPATH")  # they have a Python of their own
    words = [str(word) for word in command]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, env=env, check=False)
    assert (ended.returncode == 0) == ok, ended.stdout + ended.stderr
    return ended.stdout


def certbot(ca: LocalCA, bench: Bench, verb: str, *words: str | Path, ok: bool = True) -> Path:
    """certbot with folders of its own; returns the one of its certificates."""
    folders = [word for part in ("config", "work", "logs") for word in (f"--{part}-dir", bench.folder / part)]
    run(ca, "certbot", verb, *words, "--non-interactive", "--server", ca.directory_url, *folders, ok=ok)
    return bench.folder / "config/live"


def certonly(ca: LocalCA, bench: Bench, *words: str | Path, ok: bool = True) -> Path:
    domains = [word for name in NAMES for word in ("-d", name)]
    account = ["--agree-tos", "--email", "ops@example.com", "--standalone", "--http-01-port", str(bench.port)]
    return certbot(ca, bench, "certonly", *domains, *account, *words, ok=ok) / NAMES[0]


def holds(path: Path, ca: LocalCA) -> x509.Certificate:
    """Assert that a file begins with a certificate of this CA for the names, and return it."""
    leaf = x509.load_pem_x509_certificate(path.read_bytes())
    assert names_of(leaf) == set(NAMES)
    assert leaf in [entry.leaf for entry in ca.state.certificates.values()]
    return leaf


def newest_certbot(ca: LocalCA, bench: Bench, verb: str, *words: str | Path) -> Path:
    """The certbot of PyPI, beside this Python: Debian's knows no ARI."""
    folders = [word for part in ("config", "work", "logs") for word in (f"--{part}-dir", bench.folder / part)]
    program = Path(sys.executable).with_name("certbot")
    run(ca, program, verb, *words, "--non-interactive", "--server", ca.directory_url, *folders)
    return bench.folder / "config/live" / NAMES[0]


def test_certbot_renews_when_the_ca_says_so(bench: Bench) -> None:
    ca = bench.start(renewal_retry_after=1)
    domains = [word for name in NAMES for word in ("-d", name)]
    account = ["--agree-tos", "--email", "ops@example.com", "--standalone", "--http-01-port", str(bench.port)]
    live = newest_certbot(ca, bench, "certonly", *domains, *account)
    first = holds(live / "cert.pem", ca)
    newest_certbot(ca, bench, "renew", "--no-random-sleep-on-renew")
    assert holds(live / "cert.pem", ca) == first, "it is renewed when it is two thirds through, or when the CA says so"
    now = ca.now()
    ca.set_renewal_window(first, now - timedelta(days=2), now - timedelta(days=1))
    time.sleep(1.1)  # certbot asks again when the CA's Retry-After is over, not sooner
    newest_certbot(ca, bench, "renew", "--no-random-sleep-on-renew")
    assert holds(live / "cert.pem", ca) != first
    assert ca.requests("renewal-info")


@pytest.mark.parametrize(
    "settings", [{}, {"finalize_polls": 2, "validation_delay": 0.3, "order_retry_after": 1}], ids=["at once", "slowly"]
)
def test_certbot_issues(bench: Bench, settings: dict[str, Any]) -> None:
    ca = bench.start(**settings)
    live = certonly(ca, bench)
    holds(live / "cert.pem", ca)
    assert len(x509.load_pem_x509_certificates((live / "fullchain.pem").read_bytes())) == 2


def test_certbot_renews_with_another_key(bench: Bench) -> None:
    ca = bench.start()
    live = certonly(ca, bench)
    first = holds(live / "cert.pem", ca)
    certbot(ca, bench, "renew", "--force-renewal", "--no-random-sleep-on-renew")
    second = holds(live / "cert.pem", ca)
    assert first.serial_number != second.serial_number
    assert first.public_key() != second.public_key()


@pytest.mark.parametrize("by", ["account", "key"])
def test_certbot_revokes(bench: Bench, by: str) -> None:
    ca = bench.start()
    live = certonly(ca, bench)
    signed_by = ["--key-path", live / "privkey.pem"] if by == "key" else []
    words = ["--cert-path", live / "cert.pem", "--reason", "superseded", "--no-delete-after-revoke", *signed_by]
    certbot(ca, bench, "revoke", *words)
    [certificate] = ca.state.certificates.values()
    assert certificate.revoked is not None
    assert certificate.revoked[1] == 4
    assert len([entry for entry in ca.requests("revoke-certificate") if entry.status == 200]) == 1


def test_certbot_binds_an_external_account(bench: Bench) -> None:
    ca = bench.start(eab=EAB)
    certonly(ca, bench, ok=False)
    assert ca.state.accounts == {}
    [(kid, mac_key)] = EAB.items()
    live = certonly(ca, bench, "--eab-kid", kid, "--eab-hmac-key", mac_key)
    holds(live / "cert.pem", ca)
    [account] = ca.state.accounts.values()
    assert account.binding is not None


def test_certbot_chooses_an_alternate_chain(bench: Bench) -> None:
    ca = bench.start(alternates=1)
    root = x509.load_pem_x509_certificate(ca.root(1).encode())
    [common] = root.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    live = certonly(ca, bench, "--preferred-chain", str(common.value))
    x509.load_pem_x509_certificates((live / "chain.pem").read_bytes())[-1].verify_directly_issued_by(root)


def test_certbot_changes_and_deactivates_its_account(bench: Bench) -> None:
    ca = bench.start()
    certbot(ca, bench, "register", "--agree-tos", "--email", "first@example.com")
    certbot(ca, bench, "update_account", "--email", "second@example.com")
    [account] = ca.state.accounts.values()
    assert account.contact == ["mailto:second@example.com"]
    certbot(ca, bench, "unregister")
    assert account.status == "deactivated"


def test_certbot_goes_on_after_refused_nonces(bench: Bench) -> None:
    ca = bench.start()
    for place in ("new-account", "new-order", "finalize"):
        ca.fault("bad-nonce", where=place)
    holds(certonly(ca, bench) / "cert.pem", ca)


# Without Retry-After it waits for 5 s before it asks how a validation went.
LEGO: dict[str, Any] = {"order_retry_after": 1}


@pytest.mark.parametrize("settings", [{}, {"finalize_polls": 2, "validation_delay": 0.3}], ids=["at once", "slowly"])
def test_lego_issues_and_renews(bench: Bench, settings: dict[str, Any]) -> None:
    ca = bench.start(**settings, **LEGO)
    lego(ca, bench, "run")
    made = bench.folder / "lego/certificates"
    first = holds(made / f"{NAMES[0]}.crt", ca)
    lego(ca, bench, "renew", "--days", "365", "--no-random-sleep")
    assert holds(made / f"{NAMES[0]}.crt", ca).serial_number != first.serial_number
    assert json.loads((made / f"{NAMES[0]}.json").read_text())["domain"] == NAMES[0]


def test_lego_revokes(bench: Bench) -> None:
    ca = bench.start(**LEGO)
    lego(ca, bench, "run")
    lego(ca, bench, "revoke", domains=NAMES[:1])
    assert [entry.revoked is not None for entry in ca.state.certificates.values()] == [True]


def test_lego_binds_an_external_account(bench: Bench) -> None:
    ca = bench.start(eab=EAB, **LEGO)
    [(kid, mac_key)] = EAB.items()
    lego(ca, bench, "run", account=["--eab", "--kid", kid, "--hmac", mac_key])
    holds(bench.folder / f"lego/certificates/{NAMES[0]}.crt", ca)


def lego(
    ca: LocalCA, bench: Bench, verb: str, *words: str, account: list[str] | None = None, domains: list[str] = NAMES
) -> None:
    given = ["--accept-tos", "--email", "ops@example.com", "--server", ca.directory_url, "--path", str(bench.folder / "lego")]
    given += [word for name in domains for word in ("--domains", name)]
    run(ca, "lego", *given, *(account or []), "--http", "--http.port", f"127.0.0.1:{bench.port}", verb, *words)


@pytest.mark.parametrize("settings", [{}, {"finalize_polls": 1, "validation_delay": 0.3}], ids=["at once", "slowly"])
def test_acme_tiny_issues(bench: Bench, settings: dict[str, Any]) -> None:
    ca = bench.start(**settings)
    folder = bench.folder
    challenges = folder / "web/.well-known/acme-challenge"
    challenges.mkdir(parents=True)
    account = rsa.generate_private_key(65537, 2048)
    (folder / "account.key").write_bytes(account.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "site.csr").write_bytes(csr(key, NAMES).public_bytes(Encoding.PEM))
    files = ["--account-key", folder / "account.key", "--csr", folder / "site.csr", "--acme-dir", challenges]
    with serving(site_app(f"webroot:{folder / 'web'}"), bench.port):
        # It asks for its own tokens first; no name of ours resolves here.
        out = run(ca, "acme-tiny", *files, "--directory-url", ca.directory_url, "--disable-check", "--quiet")
    (folder / "chain.pem").write_text(out)
    assert holds(folder / "chain.pem", ca).public_key() == key.public_key()
    assert list(challenges.iterdir()) == []
