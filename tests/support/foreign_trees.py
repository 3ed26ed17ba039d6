"""
Folders of other clients: made by certbot and lego themselves against Pebble, and by us in the documented layouts of acme.sh and
simp_le.

acme.sh and simp_le are packaged nowhere that we test: openssl writes their keys, and we their files.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from both_cas import CA
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from josepy.jwk import JWKRSA
from pebble_lab import LIMIT, Site, environment, serving, site_app

from acme_middleware.authorities import find
from acme_middleware.issuance.records import AccountRecord, CertificateRecord, account_key, certificate_key

MakeSite = Callable[..., Site]


class Tree(NamedTuple):
    """What another client has: its folder, its account, and the certificate of the first of its names."""

    path: Path
    account_url: str
    names: list[str]
    cert_pem: str


def run(command: list[str | Path], ca: CA) -> None:
    env = environment({"REQUESTS_CA_BUNDLE": str(ca.ca_bundle), "LEGO_CA_CERTIFICATES": str(ca.ca_bundle)})
    # These clients have a Python of their own.
    env.pop("PYTHONPATH")
    ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=LIMIT, env=env, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def certbot(folder: Path, names: list[str], ca: CA, make_site: MakeSite) -> Tree:
    root = folder / "webroot"
    root.mkdir()
    state = [word for part in ("config", "work", "logs") for word in (f"--{part}-dir", str(folder / part))]
    account = ["--non-interactive", "--agree-tos", "--email", "ops@example.com", "--server", ca.directory_url]
    domains = [word for name in names for word in ("-d", name)]
    with serving(site_app(f"webroot:{root}"), ca.http_port):
        run(["certbot", "certonly", "--webroot", "-w", root, *domains, *account, *state], ca)
    [registration] = (folder / "config/accounts").rglob("regr.json")
    url = json.loads(registration.read_text())["uri"]
    return Tree(folder / "config", url, names, (folder / "config/live" / names[0] / "cert.pem").read_text())


def lego(folder: Path, names: list[str], ca: CA, make_site: MakeSite) -> Tree:
    root = folder / "webroot"
    root.mkdir()
    domains = [word for name in names for word in ("--domains", name)]
    account = ["--accept-tos", "--email", "ops@example.com", "--server", ca.directory_url, "--path", str(folder / "lego")]
    with serving(site_app(f"webroot:{root}"), ca.http_port):
        run(["lego", *account, *domains, "--http", "--http.webroot", root, "run"], ca)
    [registration] = (folder / "lego/accounts").rglob("account.json")
    url = json.loads(registration.read_text())["registration"]["uri"]
    return Tree(folder / "lego", url, names, (folder / "lego/certificates" / f"{names[0]}.crt").read_text())


def openssl(*words: str | Path) -> str:
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, timeout=LIMIT, check=True).stdout


def with_account(make_site: MakeSite, key_pem: str, names: list[str], key_type: str) -> tuple[Site, CertificateRecord]:
    """A certificate that was issued to an account with a key of another's making."""
    site = make_site(key_type=key_type)
    AccountRecord(directory=site.ca.directory_url, key_pem=key_pem).write(
        site.records(), account_key(find(site.ca.directory_url).id, "default")
    )
    site.issue(*names)
    made = CertificateRecord.read(site.records(), certificate_key(names[0]))
    assert made is not None
    return site, made


def acme_sh(folder: Path, names: list[str], ca: CA, make_site: MakeSite) -> Tree:
    """As https://github.com/acmesh-official/acme.sh lays it out; the EC key as `openssl ecparam -genkey` prints it."""
    key = openssl("ecparam", "-name", "prime256v1", "-genkey")
    assert key.startswith("-----BEGIN EC PARAMETERS-----")
    _, made = with_account(make_site, openssl("pkey", "-in", _file(folder, key)), names, "ec256")
    home = folder / ".acme.sh"
    own, account = home / f"{names[0]}_ecc", home / "ca/127.0.0.1/dir"
    own.mkdir(parents=True)
    account.mkdir(parents=True)
    (account / "account.key").write_text(key)
    (account / "ca.conf").write_text(f"ACCOUNT_URL='{made.account_url}'\nCA_EMAIL='ops@example.com'\nCA_KEY_HASH='x='\n")
    reload = base64.b64encode(b"service nginx reload").decode()
    (own / f"{names[0]}.conf").write_text(
        f"Le_Domain='{names[0]}'\nLe_Alt='{','.join(names[1:])}'\nLe_Webroot='/var/www'\nLe_API='{ca.directory_url}'\n"
        f"Le_Keylength='ec-256'\nLe_ReloadCmd='__ACME_BASE64__START_{reload}__ACME_BASE64__END_'\n"
    )
    (own / f"{names[0]}.key").write_text(made.key_pem)
    (own / f"{names[0]}.cer").write_text(made.cert_pem)
    (own / "ca.cer").write_text(made.chain_pem)
    (own / "fullchain.cer").write_text(made.cert_pem + made.chain_pem)
    return Tree(home, made.account_url, names, made.cert_pem)


def simp_le(folder: Path, names: list[str], ca: CA, make_site: MakeSite) -> Tree:
    """As the README of https://github.com/zenhack/simp_le has it: one folder, the account's RSA key as a JSON Web Key."""
    key = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    _, made = with_account(make_site, key, names, "rsa2048")
    own = folder / "site"
    own.mkdir()
    (own / "account_key.json").write_text(JWKRSA(key=load_pem_private_key(key.encode(), None)).json_dumps())
    (own / "account_reg.json").write_text(
        json.dumps({"body": {"contact": ["mailto:ops@example.com"]}, "uri": made.account_url})
    )
    (own / "key.pem").write_text(made.key_pem)
    (own / "cert.pem").write_text(made.cert_pem)
    (own / "fullchain.pem").write_text(made.cert_pem + made.chain_pem)
    return Tree(own, made.account_url, names, made.cert_pem)


def _file(folder: Path, text: str) -> Path:
    file = folder / "a.key"
    file.write_text(text)
    return file
