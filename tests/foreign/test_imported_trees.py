"""
Trees that certbot and lego made against Pebble, and trees in the documented layouts of acme.sh and simp_le, are taken over,
and the next renewal goes on with the account.

acme.sh and simp_le are packaged nowhere that we test: openssl writes their keys, and we their files.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from both_cas import CA
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from josepy.jwk import JWKRSA
from pebble_lab import LIMIT, Site, environment, fresh, names_of, serving, site_app
from stored_certificates import at_site, keys_of

from acme_middleware.authorities import find
from acme_middleware.issuance.issuer import Action
from acme_middleware.issuance.records import (
    AccountRecord,
    CertificateRecord,
    RenewalRecord,
    account_key,
    certificate_key,
    renewal_key,
)

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


def snapshot(folder: Path) -> dict[str, object]:
    """All of a tree: links, contents, modes and times of change."""
    return {
        str(path): (
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "",
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize(
    ("form", "make"),
    [
        pytest.param("certbot", certbot, id="certbot, by itself"),
        pytest.param("lego", lego, id="lego, by itself"),
        pytest.param("acme.sh", acme_sh, id="acme.sh, as documented"),
        pytest.param("simp_le", simp_le, id="simp_le, as documented"),
    ],
)
def test_tree_is_taken_over_and_the_next_renewal_keeps_the_account(
    form: str, make: Callable[[Path, list[str], CA, MakeSite], Tree], ca: CA, make_site: MakeSite, tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    tree = make(folder, [fresh("first"), fresh("second")], ca, make_site)
    before, name, site = snapshot(tree.path), tree.names[0], make_site()
    site.records().check(writable=True)

    ended = at_site(site, "import", form, str(tree.path), "--dry-run")
    assert ended.code == 0, ended.text
    assert f"would be    {name}" in ended.out
    assert keys_of(site.store) == set()

    ended = at_site(site, "import", form, str(tree.path), "--json")
    assert ended.code == 0, ended.text
    said = json.loads(ended.out)
    [account], [certificate] = said["accounts"], said["certificates"]
    assert (account["action"], account["name"]) == ("imported", tree.account_url)
    assert (certificate["action"], certificate["name"], certificate["names"]) == ("imported", name, tree.names)
    made = CertificateRecord.read(site.records(), certificate_key(name))
    record = RenewalRecord.read(site.records(), renewal_key(name))
    assert made is not None
    assert record is not None
    leaf = x509.load_pem_x509_certificate(made.cert_pem.encode())
    assert leaf == x509.load_pem_x509_certificate(tree.cert_pem.encode())
    assert record.fingerprint
    assert record.ari_id
    assert made.account_url == tree.account_url
    assert snapshot(tree.path) == before
    for line in (made.key_pem.splitlines()[2], record.fingerprint):
        assert line not in ended.text

    stored = {key: value.value for key, value in site.records().scan("")}
    ended = at_site(site, "import", form, str(tree.path), "--json")
    assert ended.code == 0, ended.text
    assert {step["action"] for kind in ("accounts", "certificates") for step in json.loads(ended.out)[kind]} == {"there"}
    for key, value in site.records().scan(""):
        assert key.startswith("lock/") or stored[key] == value.value

    # Not due yet: a sweep publishes it, and orders nothing.
    ended = at_site(site, "renew")
    assert ended.code == 0, ended.text
    assert site.leaf(name) == leaf
    assert site.orders() == []
    ended = at_site(site, "renew", name, "--force")
    assert ended.code == 0, ended.text
    renewed = CertificateRecord.read(site.records(), certificate_key(name))
    assert renewed is not None
    assert renewed.cert_pem != made.cert_pem
    assert renewed.account_url == tree.account_url
    assert set(names_of(site.leaf(name))) == set(tree.names)
    assert site.accounts() == 0
    # The CA was told what it replaces, which it takes only from the account that ordered that.
    assert len(site.watch.replacements()) == 1

    # Their tree is older than the store now.
    ended = at_site(site, "import", form, str(tree.path), "--json")
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["certificates"][0]["action"] == "kept"
    assert CertificateRecord.read(site.records(), certificate_key(name)) == renewed
    ended = at_site(site, "import", form, str(tree.path), "--force")
    assert ended.code == 0, ended.text
    again = CertificateRecord.read(site.records(), certificate_key(name))
    assert again is not None
    assert again.cert_pem == made.cert_pem


def test_account_that_is_taken_over_revokes_what_it_ordered(ca: CA, make_site: MakeSite, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    tree = lego(folder, [fresh()], ca, make_site)
    site = make_site()
    site.records().check(writable=True)
    assert at_site(site, "import", "lego", str(tree.path)).code == 0
    ended = at_site(site, "revoke", tree.names[0], "--json")
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["by"] == "account"
    assert site.issue(tree.names[0]).action is Action.RENEWED
