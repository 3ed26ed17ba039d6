"""
Trees that certbot and lego made against Pebble, and trees in the documented layouts of acme.sh and simp_le, are taken over,
and the next renewal goes on with the account.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from both_cas import CA
from cryptography import x509
from foreign_trees import MakeSite, Tree, acme_sh, certbot, lego, simp_le
from pebble_lab import fresh, names_of
from stored_certificates import at_site

from acme_middleware.issuance.issuer import Action
from acme_middleware.issuance.records import (
    CertificateRecord,
    RenewalRecord,
    certificate_key,
    renewal_key,
)


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

    ended = at_site(site, "import", form, str(tree.path), "--dry-run")
    assert ended.code == 0, ended.text
    assert f"would be    {name}" in ended.out
    assert not site.store.exists()

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
    # The CA was told what it replaces, which it takes only from the account that ordered that. (Pebble at times does not
    # find an order that it has, and says so with a 500: then the certificate is ordered without.)
    assert len(site.watch.replacements()) == 1 or "could not find an order" in ended.text, ended.text

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
