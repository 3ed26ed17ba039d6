"""The page about moving over and the rest, typed from its beginning to its end at a certificate that certbot got."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from both_cas import CA
from foreign_trees import certbot
from page_steps import commands, steps
from pebble_lab import Site
from stored_certificates import at_site, keys_of

from acme_middleware.issuance.records import CertificateRecord, certificate_key

PAGE = "docs/lifecycle.md"
NAME = "example.com"


def test_every_command_of_the_page_does_what_it_says(ca: CA, make_site: Callable[..., Site], tmp_path: Path) -> None:
    assert steps(PAGE) == [1, 2, 3, 4]
    tree, site = certbot(tmp_path, [NAME], ca, make_site), make_site()
    (site.folder / "password.txt").write_text("a password\n")
    typed = [shlex.split(command.replace("/etc/letsencrypt", str(tree.path))) for command in commands(PAGE)]
    assert {words[0] for words in typed} == {"acme-middleware"}
    assert {words[1] for words in typed} >= {"import", "export", "revoke", "delete", "account"}
    for words in typed:
        if "found.pem" in words:
            made = CertificateRecord.read(site.records(), certificate_key(NAME))
            assert made is not None
            (site.folder / "found.pem").write_text(made.cert_pem)
            (site.folder / "found.key").write_text(made.key_pem)
        ended = at_site(site, *words[1:])
        assert ended.code == 0, f"{words}: {ended.text}"
    assert (site.folder / "example.pem").exists()
    assert (site.folder / "example.p12").exists()
    # Published files stay, and so does nothing else: the certificate is forgotten, and the account is ended.
    assert site.current(NAME).exists()
    assert keys_of(site.store) == set()
