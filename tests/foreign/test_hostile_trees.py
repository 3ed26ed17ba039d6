"""Trees that are damaged, copied half, or made to harm: what is wrong is told by name, and the rest is taken over."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from josepy.jwk import JWKEC, JWKRSA
from stored_certificates import command, keys_of, store_certificate

from acme_middleware import foreign, options
from acme_middleware.foreign.pems import jwk, key, pair, to_pem
from acme_middleware.foreign.tree import MOST_BYTES, MOST_FOLDERS, Damaged, Tree
from acme_middleware.issuance.importing import bring_in
from acme_middleware.issuance.records import AccountRecord, CertificateRecord, account_key, certificate_key
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.stores.memory import MemoryStore
from acme_middleware.testing.certificates import self_made

LETSENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
GOOD, BAD = "good.example", "bad.example"
LIMIT = 20.0
"""Seconds that any tree may take; most take a hundredth of one."""


def certbot(root: Path, *names: str, account: bool = True) -> Path:
    """A folder as certbot has it, with links from live/ into archive/."""
    for name in names:
        pems = self_made(name)
        archive, live = root / "archive" / name, root / "live" / name
        archive.mkdir(parents=True)
        live.mkdir(parents=True)
        for file, data in (
            ("privkey", pems.key),
            ("cert", pems.cert),
            ("chain", pems.chain),
            ("fullchain", pems.cert + pems.chain),
        ):
            (archive / f"{file}1.pem").write_bytes(data)
            (live / f"{file}.pem").symlink_to(f"../../archive/{name}/{file}1.pem")
        (root / "renewal").mkdir(exist_ok=True)
        (root / "renewal" / f"{name}.conf").write_text(
            f"version = 2.1.0\ncert = /etc/letsencrypt/live/{name}/cert.pem\n\n[renewalparams]\naccount = abc\n"
            f"server = {LETSENCRYPT}\nkey_type = ecdsa\n[[webroot_map]]\n{name} = /var/www\n"
        )
    if account:
        folder = root / "accounts/acme-v02.api.letsencrypt.org/directory/abc"
        folder.mkdir(parents=True)
        folder.joinpath("private_key.json").write_text(JWKRSA(key=rsa.generate_private_key(65537, 2048)).json_dumps())
        folder.joinpath("regr.json").write_text('{"body": {}, "uri": "https://acme-v02.api.letsencrypt.org/acme/acct/7"}')
    return root


def take(form: str, root: Path, **more: object) -> tuple[MemoryStore, dict[str, str]]:
    """Take a tree over into a store of its own; returns what was said about each, by name."""
    store, began = MemoryStore(), time.monotonic()
    steps = bring_in(store, foreign.read(form, root), options.read(("test", more)))
    assert time.monotonic() - began < LIMIT
    return store, {step.name: step.reason or step.action for step in steps}


def names_in(store: MemoryStore) -> set[str]:
    return {where.removeprefix("certificate/") for where, _ in store.scan("certificate/")}


def rewrite(file: str, data: bytes) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / file).resolve().write_bytes(data)

    return damage


def other_key(root: Path) -> None:
    (root / f"archive/{BAD}/privkey1.pem").write_bytes((root / f"archive/{GOOD}/privkey1.pem").read_bytes())


def fifo(root: Path) -> None:
    (root / f"archive/{BAD}/privkey1.pem").unlink()
    os.mkfifo(root / f"archive/{BAD}/privkey1.pem")


def folder_for_a_file(root: Path) -> None:
    (root / f"archive/{BAD}/privkey1.pem").unlink()
    (root / f"archive/{BAD}/privkey1.pem").mkdir()


def link_out(root: Path) -> None:
    outside = root.parent / "outside.pem"
    outside.write_bytes((root / f"archive/{BAD}/privkey1.pem").read_bytes())
    link = root / f"live/{BAD}/privkey.pem"
    link.unlink()
    link.symlink_to(outside)


def link_to_itself(root: Path) -> None:
    link = root / f"live/{BAD}/cert.pem"
    link.unlink()
    link.symlink_to("cert.pem")


def broken_chain(root: Path) -> None:
    (root / f"archive/{BAD}/chain1.pem").write_bytes((root / f"archive/{GOOD}/chain1.pem").read_bytes())


def encrypted_key(root: Path) -> None:
    file = root / f"archive/{BAD}/privkey1.pem"
    found = load_pem_private_key(file.read_bytes(), None)
    file.write_bytes(found.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))


def wildcard(root: Path) -> None:
    pems = self_made("*.bad.example", BAD)
    for file, data in (("privkey", pems.key), ("cert", pems.cert), ("chain", pems.chain)):
        (root / f"archive/{BAD}/{file}1.pem").write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(other_key, "not the key of its certificate", id="another certificate's key"),
        pytest.param(rewrite(f"live/{BAD}/privkey.pem", b""), "its key is no EC or RSA key", id="empty key"),
        pytest.param(rewrite(f"live/{BAD}/privkey.pem", b"\xff" * 999), "its key is no EC or RSA key", id="garbage for a key"),
        pytest.param(encrypted_key, "its key is no EC or RSA key without a password", id="encrypted key"),
        pytest.param(rewrite(f"live/{BAD}/cert.pem", b"-----BEGIN"), "cannot be read", id="cut certificate"),
        pytest.param(rewrite(f"live/{BAD}/cert.pem", b""), "not the key of its certificate", id="empty certificate"),
        pytest.param(rewrite(f"live/{BAD}/cert.pem", b"x" * (MOST_BYTES + 1)), "is longer than", id="certificate without end"),
        pytest.param(broken_chain, "its chain is broken", id="another certificate's chain"),
        pytest.param(fifo, "is no file", id="FIFO for a key"),
        pytest.param(folder_for_a_file, "is no file", id="folder for a key"),
        pytest.param(link_out, "leads out of", id="link to a key outside"),
        pytest.param(link_to_itself, "cert.pem", id="link to itself"),
        pytest.param(rewrite(f"renewal/{BAD}.conf", b"\xff\x00\xfe"), "is no text", id="configuration that is no text"),
        pytest.param(rewrite(f"renewal/{BAD}.conf", b"[renewalparams]\nserver = ftp://x"), "no CA called", id="CA of no kind"),
        pytest.param(wildcard, "is a wildcard", id="wildcard, which http-01 cannot renew"),
    ],
)
def test_what_is_wrong_is_told_by_name_and_the_rest_is_taken_over(
    damage: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    root = certbot(tmp_path / "le", GOOD, BAD)
    damage(root)
    store, said = take("certbot", root)
    assert re.search(says, said[BAD]), said[BAD]
    assert said[GOOD] == "imported"
    assert names_in(store) == {GOOD}
    assert said["https://acme-v02.api.letsencrypt.org/acme/acct/7"] == "imported"


def test_command_ends_with_1_and_shows_no_key_and_nothing_that_moves_the_cursor(tmp_path: Path) -> None:
    root = certbot(tmp_path / "le", GOOD, BAD)
    other_key(root)
    (root / "renewal/\x1b[31m red\r.conf").write_text("x")
    DirectoryStore(tmp_path / "store").check(writable=True)
    ended = command(tmp_path, "import", "certbot", "le")
    assert ended.code == 1, ended.text
    assert "\x1b" not in ended.text
    assert "\r" not in ended.text
    assert f"refused     {BAD}: its key is not the key of its certificate" in ended.out
    assert f"imported    {GOOD} (letsencrypt, valid until" in ended.out
    secret = (root / f"archive/{GOOD}/privkey1.pem").read_text().splitlines()[1]
    assert secret not in ended.text
    ended = command(tmp_path, "import", "certbot", "le", "--json")
    assert ended.code == 1
    actions = {step["name"]: step["action"] for step in json.loads(ended.out)["certificates"]}
    assert (actions[GOOD], actions[BAD]) == ("there", "refused")
    assert secret not in ended.out


@pytest.mark.parametrize("odd", [b"\xff\xfe.example", b"a\x1b[2Jb.example", b"..", b".hidden"], ids=repr)
def test_name_that_is_no_text_or_no_folders_is_refused_and_stops_no_other(odd: bytes, tmp_path: Path) -> None:
    root = certbot(tmp_path / "le", GOOD, BAD)
    place = os.fsencode(root)
    if odd != b"..":
        os.rename(place + b"/live/" + BAD.encode(), place + b"/live/" + odd)
    os.rename(place + b"/renewal/" + BAD.encode() + b".conf", place + b"/renewal/" + odd + b".conf")
    DirectoryStore(tmp_path / "store").check(writable=True)
    ended = command(tmp_path, "import", "certbot", "le", "--json")
    assert ended.code == 1, ended.text
    actions = [step["action"] for step in json.loads(ended.out)["certificates"]]
    assert sorted(actions) == ["imported", "refused"]
    assert command(tmp_path, "import", "certbot", "le").code == 1
    assert {key for key in keys_of(tmp_path / "store") if not key.startswith("account/")} == {
        f"certificate/{GOOD}",
        f"renewal/{GOOD}",
    }


@pytest.mark.parametrize(
    ("path", "says"), [("none", "No such file"), ("file", "Not a directory"), ("empty", "nothing in empty is certbot's")]
)
def test_place_without_a_tree_is_a_wrong_word(path: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    DirectoryStore(tmp_path / "store").check(writable=True)
    ended = command(tmp_path, "import", "certbot", path)
    assert ended.code == 2
    assert says in ended.err
    assert keys_of(tmp_path / "store") == set()


def test_folders_that_link_in_circles_come_to_an_end(tmp_path: Path) -> None:
    root = certbot(tmp_path / "le", GOOD)
    for number in range(12):
        (root / f"accounts/loop{number}").symlink_to(root / "accounts")
    (root / "ca").symlink_to(".")
    assert len(list(Tree(root).walk("accounts", depth=8))) < MOST_FOLDERS
    store, _ = take("certbot", root)
    assert names_in(store) == {GOOD}
    with pytest.raises(foreign.NoTree, match=r"nothing in .* is acme.sh's"):
        foreign.read("acme.sh", root)


def test_damaged_account_leaves_the_certificates(tmp_path: Path) -> None:
    root = certbot(tmp_path / "le", GOOD)
    [key_file] = (root / "accounts").rglob("private_key.json")
    for text in (
        "",
        "[]",
        "{}",
        '{"kty": "RSA", "n": "AQ", "e": "AQ", "d": "AQ"}',
        json.dumps({"kty": "RSA", "n": "_" * 342, "e": "AQAB", "d": "-" * 340}),
        '{"kty":"EC","crv":"P-256"}',
        "[" * 100_000,
    ):
        key_file.write_text(text)
        store, said = take("certbot", root)
        assert "account abc" in said, text
        assert names_in(store) == {GOOD}
        assert list(store.scan("account/")) == []


def test_account_of_most_certificates_is_the_one_of_its_ca(tmp_path: Path) -> None:
    root = certbot(tmp_path / "le", GOOD, BAD)
    lonely = root / "accounts/acme-v02.api.letsencrypt.org/directory/aaa"
    lonely.mkdir()
    lonely.joinpath("private_key.json").write_text(JWKEC(key=ec.generate_private_key(ec.SECP256R1())).json_dumps())
    lonely.joinpath("regr.json").write_text('{"uri": "https://acme-v02.api.letsencrypt.org/acme/acct/1"}')
    store, said = take("certbot", root)
    record = AccountRecord.read(store, account_key("letsencrypt", "default"))
    assert record is not None
    assert record.url.endswith("/7")
    assert "one account for each CA" in said["https://acme-v02.api.letsencrypt.org/acme/acct/1"]


def test_store_keeps_its_own_account_and_certificate_unless_forced(tmp_path: Path) -> None:
    certbot(tmp_path / "le", GOOD)
    made = store_certificate(tmp_path / "store", GOOD, published=False)
    store = DirectoryStore(tmp_path / "store")
    where = account_key("letsencrypt", "default")
    ours = AccountRecord(directory=LETSENCRYPT, key_pem=to_pem(ec.generate_private_key(ec.SECP256R1())), url="https://ours")
    ours.write(store, where)
    ended = command(tmp_path, "import", "certbot", "le")
    assert ended.code == 0, ended.text
    assert ended.out.count("--force replaces it") == 2
    assert CertificateRecord.read(store, certificate_key(GOOD)) == made
    assert AccountRecord.read(store, where) == ours
    assert command(tmp_path, "import", "certbot", "le", "--force").code == 0
    assert CertificateRecord.read(store, certificate_key(GOOD)) != made
    assert AccountRecord.read(store, where) != ours


def test_damaged_record_of_ours_is_kept_and_named_and_replaced_with_force(tmp_path: Path) -> None:
    certbot(tmp_path / "le", GOOD)
    store = DirectoryStore(tmp_path / "store")
    store.put(certificate_key(GOOD), b"{}")
    ended = command(tmp_path, "import", "certbot", "le")
    assert "the store's own is damaged" in ended.out, ended.text
    assert command(tmp_path, "import", "certbot", "le", "--force").code == 0
    assert CertificateRecord.read(store, certificate_key(GOOD)) is not None


def test_options_of_certbot_go_along(tmp_path: Path) -> None:
    root = certbot(tmp_path / "le", GOOD)
    conf = root / f"renewal/{GOOD}.conf"
    more = "reuse_key = True\npreferred_chain = A Root\nrequired_profile = shortlived\n[[webroot_map]]"
    conf.write_text(conf.read_text().replace("[[webroot_map]]", more))
    store, _ = take("certbot", root)
    made = CertificateRecord.read(store, certificate_key(GOOD))
    assert made is not None
    assert made.options == {
        "ca": "letsencrypt",
        "key_type": "ec256",
        "reuse_key": True,
        "preferred_chain": "A Root",
        "profile": "shortlived",
        "require_profile": True,
    }
    assert made.account_url.endswith("/7")
    assert made.trusted is True


def lego(root: Path, name: str, host: str) -> Path:
    pems, folder = self_made(name), root / "certificates"
    folder.mkdir(parents=True)
    (folder / f"{name}.key").write_bytes(pems.key)
    (folder / f"{name}.crt").write_bytes(pems.cert + pems.chain)
    (folder / f"{name}.issuer.crt").write_bytes(pems.chain)
    (folder / f"{name}.json").write_text(json.dumps({"domain": name, "certUrl": f"https://{host}/certificate/1"}))
    return root


def test_lego_says_only_the_host_of_the_ca(tmp_path: Path) -> None:
    store, said = take("lego", lego(tmp_path / "known", GOOD, "acme-v02.api.letsencrypt.org"))
    made = CertificateRecord.read(store, certificate_key(GOOD))
    assert made is not None
    assert made.ca == "letsencrypt"
    _, said = take("lego", lego(tmp_path / "unknown", GOOD, "ca.example:8443"))
    assert "name it with --ca" in said[GOOD]
    store, said = take("lego", tmp_path / "unknown", ca="https://ca.example:8443/acme/directory")
    assert said[GOOD] == "imported"
    made = CertificateRecord.read(store, certificate_key(GOOD))
    assert made is not None
    assert made.options["ca"] == "https://ca.example:8443/acme/directory"


def test_acme_sh_with_both_kinds_of_key_and_an_external_account(tmp_path: Path) -> None:
    for folder in (GOOD, f"{GOOD}_ecc"):
        pems, own = self_made(GOOD), tmp_path / folder
        own.mkdir()
        (own / f"{GOOD}.conf").write_text(f"Le_Domain='{GOOD}'\nLe_API=\"https://acme.zerossl.com/v2/DV90\"\n")
        (own / f"{GOOD}.key").write_bytes(pems.key)
        (own / f"{GOOD}.cer").write_bytes(pems.cert)
        (own / "ca.cer").write_bytes(pems.chain)
    account = tmp_path / "ca/acme.zerossl.com/v2/DV90"
    account.mkdir(parents=True)
    (account / "account.key").write_text(to_pem(ec.generate_private_key(ec.SECP384R1())))
    (account / "ca.conf").write_text(
        "ACCOUNT_URL='https://acme.zerossl.com/v2/DV90/account/x'\nCA_EAB_KEY_ID='kid'\nrm -rf /\n$(touch run)\n"
    )
    store, _ = take("acme.sh", tmp_path)
    assert names_in(store) == {GOOD, f"{GOOD}_ecc"}
    record = AccountRecord.read(store, account_key("zerossl", "kid"))
    assert record is not None
    assert (record.url, record.eab_kid) == ("https://acme.zerossl.com/v2/DV90/account/x", "kid")
    made = CertificateRecord.read(store, certificate_key(GOOD))
    assert made is not None
    assert (made.account_url, made.options["eab_kid"]) == (record.url, "kid")
    assert not (tmp_path / "run").exists()


def test_simp_le_with_a_folder_for_each_site(tmp_path: Path) -> None:
    for name in (GOOD, BAD):
        pems, own = self_made(name), tmp_path / name
        own.mkdir()
        (own / "full.pem").write_bytes(pems.key + pems.cert + pems.chain)
        (own / "account_key.json").write_text(JWKRSA(key=rsa.generate_private_key(65537, 2048)).json_dumps())
        (own / "account_reg.json").write_text('{"uri": "https://acme-v02.api.letsencrypt.org/acme/acct/3"}')
    store, _ = take("simp_le", tmp_path)
    assert names_in(store) == {GOOD, BAD}


@pytest.mark.parametrize(
    "made",
    [ec.generate_private_key(curve()) for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)]
    + [rsa.generate_private_key(65537, 2048)],
    ids=["P-256", "P-384", "P-521", "RSA"],
)
def test_account_key_of_every_kind_comes_through(made: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    web = (JWKEC if isinstance(made, ec.EllipticCurvePrivateKey) else JWKRSA)(key=made)
    assert to_pem(jwk(json.loads(web.json_dumps()), "a key")) == to_pem(made)
    if isinstance(made, rsa.RSAPrivateKey):
        short = {name: value for name, value in json.loads(web.json_dumps()).items() if name in ("kty", "n", "e", "d")}
        assert jwk(short, "a key").public_key() == made.public_key()
    old = made.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert to_pem(key(b"-----BEGIN EC PARAMETERS-----\nBgg=\n-----END EC PARAMETERS-----\n" + old, "a key")) == to_pem(made)


def test_key_of_another_kind_is_refused() -> None:
    other = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(Damaged, match="no EC or RSA key"):
        key(other, "a key")


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=300), at=st.integers(0, 2000), part=st.integers(0, 2))
def test_whatever_stands_in_the_files_only_damaged_is_raised(data: bytes, at: int, part: int) -> None:
    pems = PEMS.key, PEMS.cert, PEMS.chain
    files = [pem[: at % len(pem)] + data + pem[at % len(pem) + len(data) :] if n == part else pem for n, pem in enumerate(pems)]
    try:
        found = pair(*files)
    except Damaged:
        return
    assert found.names == (GOOD,)


PEMS = self_made(GOOD)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "n", "e", "d", "p", "q", "x", "y"]),
        st.one_of(st.text(max_size=20), st.sampled_from(["RSA", "EC", "P-256", "AQAB", "Aw"]), st.integers(), st.none()),
    )
)
def test_whatever_stands_in_a_web_key_only_damaged_is_raised(document: dict[str, object]) -> None:
    with pytest.raises(Damaged):
        jwk(document, "a key")
