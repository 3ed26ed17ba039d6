"""
``placeholder``: servers that need a certificate start before there is one, and serve the real one after the first issue,
without being started again.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import local_ports
import pytest
import tls_page
from background import Background, listens
from cryptography import x509
from haproxy_lab import HAProxyLab
from renewal_site import RenewalSite, renewal_site
from stored_certificates import command, store_certificate
from tls_lab import NAME

from acme_middleware import clock, verify
from acme_middleware.deploy.publish import publish
from acme_middleware.errors import CertificateRejected, NameRefused
from acme_middleware.issuance.placeholder import LIFETIME, is_placeholder, place
from acme_middleware.testing.certificates import self_made

WORDS = ("placeholder", NAME)


def leaf(current: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((current / "cert.pem").read_bytes())


def test_the_command_publishes_a_pair_that_loads_and_says_what_comes_next(tmp_path):
    ended = command(tmp_path, *WORDS, "www.example.com", "192.0.2.1")
    current = tmp_path / "store" / "live" / NAME / "current"
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        f"  made        a self-signed pair for example.com, www.example.com, 192.0.2.1 in {current}/",
        "  next        start your server, then `acme-middleware issue example.com www.example.com 192.0.2.1`",
    ]
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(current / "fullchain.pem", current / "privkey.pem")
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(current / "bundle.pem")
    assert stat.S_IMODE((current / "privkey.pem").stat().st_mode) == 0o600
    names = leaf(current).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(name.value) for name in names} == {NAME, "www.example.com", "192.0.2.1"}
    assert is_placeholder(leaf(current))
    assert leaf(current).not_valid_after_utc < clock.now() + timedelta(days=8)


def test_the_store_knows_nothing_of_it_so_the_first_issue_is_due(tmp_path):
    (tmp_path / "options.toml").write_text(f'[certificates]\n"{NAME}" = {{}}\n')
    assert command(tmp_path, *WORDS).code == 0
    assert not (tmp_path / "store" / "renewal").exists()
    ended = command(tmp_path, "status", "--json", "--config", "options.toml")
    (shown,) = json.loads(ended.out)["certificates"]
    assert (shown["state"], shown["why"]) == ("missing", "never issued")


def test_json_says_what_was_done_and_a_second_time_that_it_is_kept(tmp_path):
    current = str(tmp_path / "store" / "live" / NAME / "current")
    said = [json.loads(command(tmp_path, *WORDS, "--json").out) for _ in range(2)]
    made = {"action": "made", "real": False, "name": NAME, "names": [NAME], "published": current, "deployed": []}
    assert said == [made, made | {"action": "kept"}]


def test_a_real_certificate_is_never_replaced(tmp_path):
    store_certificate(tmp_path / "store", NAME)
    current = tmp_path / "store" / "live" / NAME / "current"
    before = leaf(current)
    ended = command(tmp_path, *WORDS, "another.example.com")
    assert (ended.code, ended.out) == (0, f"  kept        a certificate is there already: {current}/\n")
    assert leaf(current) == before
    assert not is_placeholder(before)


def test_an_expired_certificate_of_a_ca_is_a_real_one(tmp_path):
    pems = self_made(NAME)
    publish(tmp_path, NAME, lambda: pems)
    with clock.replaced(lambda: clock._system() + timedelta(days=365)):
        placed = place(tmp_path, [NAME])
    assert (placed.made, placed.real) == (False, True)
    assert (placed.current / "cert.pem").read_bytes() == pems.cert


def test_what_cannot_be_read_is_left_for_somebody_to_look_at(tmp_path):
    pems = self_made(NAME)
    directory = publish(tmp_path, NAME, lambda: pems).directory
    (directory / "cert.pem").write_text("damaged")
    placed = place(tmp_path, [NAME])
    assert (placed.made, placed.real) == (False, True)
    assert (directory / "cert.pem").read_text() == "damaged"
    shutil.rmtree(directory)
    assert place(tmp_path, [NAME]).made  # a link to nothing serves nobody


def test_one_for_other_names_or_that_has_expired_is_made_anew(tmp_path):
    first = place(tmp_path, [NAME])
    more = place(tmp_path, [NAME, "www.example.com"])
    assert (first.made, more.made) == (True, True)
    with clock.replaced(lambda: clock._system() + LIFETIME + timedelta(minutes=1)):
        assert place(tmp_path, [NAME, "www.example.com"]).made
    assert len([entry for entry in first.current.parent.iterdir() if entry.name.isdigit()]) == 3


@pytest.mark.parametrize("key_type", ["ec256", "rsa2048"])
def test_it_has_the_kind_of_key_that_the_certificate_will_have(tmp_path, key_type):
    placed = place(tmp_path, [NAME], key_type=key_type)
    assert type(leaf(placed.current).public_key()).__name__.startswith(key_type[:2].upper())


def test_it_is_known_by_the_name_that_the_certificate_will_be_known_by(tmp_path):
    assert command(tmp_path, *WORDS, "--name", "main").code == 0
    assert is_placeholder(leaf(tmp_path / "store" / "live" / "main" / "current"))


def test_names_that_no_certificate_can_be_for_are_refused(tmp_path):
    with pytest.raises(NameRefused, match="underscore"):
        place(tmp_path, ["a_b.example.com"])
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_a_folder_of_files_needs_to_be_told_where(tmp_path):
    at = {"ACME_STORE": f"sqlite:///{tmp_path}/acme.sqlite3"}
    ended = command(tmp_path, *WORDS, env=at)
    assert (ended.code, ended.out) == (2, "")
    assert "--publish-dir" in ended.err
    assert command(tmp_path, *WORDS, "--publish-dir", "live", env=at).code == 0
    assert is_placeholder(leaf(tmp_path / "live" / NAME / "current"))


def test_a_mismatched_pair_would_not_take_its_place(tmp_path):
    placed = place(tmp_path, [NAME])
    one, other = self_made(NAME), self_made(NAME)
    with pytest.raises(CertificateRejected):
        publish(tmp_path, NAME, lambda: type(one)(one.key, other.cert, other.chain))
    assert is_placeholder(leaf(placed.current))


def test_files_of_deployers_are_written_where_nothing_is_yet(tmp_path):
    for folder in ("exported", "certs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "certs" / f"{NAME}.pem").write_text("somebody's own")
    deploy = [
        f"files:{tmp_path}/exported",
        f"files:{tmp_path}/exported?names=bundle:{{name}}.both",
        f"haproxy:{tmp_path}/certs?socket={tmp_path}/no-socket",
        "systemd:no-such-unit.service?action=restart",
        'command:["/no/such/program"]',
    ]
    words = [word for spec in deploy for word in ("--deploy", spec)]
    ended = command(tmp_path, *WORDS, "--json", *words)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["deployed"] == deploy[:2]
    assert (tmp_path / "certs" / f"{NAME}.pem").read_text() == "somebody's own"
    assert is_placeholder(leaf(tmp_path / "exported" / NAME))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "exported" / f"{NAME}.both")
    assert json.loads(command(tmp_path, *WORDS, "--json", *words).out)["deployed"] == []


def test_a_folder_of_a_deployer_that_is_not_there_is_told(tmp_path):
    ended = command(tmp_path, *WORDS, "--deploy", f"files:{tmp_path}/not-there")
    assert ended.code == 1
    assert f"{tmp_path}/not-there" in ended.err


# ------------------------------------------------------------------------------------ servers that start with nothing else


@pytest.fixture(scope="module")
def ca_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ca")


@pytest.fixture
def site(tmp_path: Path, ca_keys: Path) -> Iterator[RenewalSite]:
    """A site without a certificate, with a placeholder."""
    with renewal_site(tmp_path, ca_keys) as site:
        ended = command(tmp_path, *WORDS, env={"ACME_STORE": site.usual["store"]})
        assert ended.code == 0, ended.err
        assert is_placeholder(leaf(current(site)))
        yield site


def current(site: RenewalSite) -> Path:
    return site.folder / "acme" / "live" / NAME / "current"


def placeholder_is_served(site: RenewalSite, port: int) -> None:
    assert verify.proof("127.0.0.1", port, NAME, _fingerprint(site)).ok


def real_one_is_served(site: RenewalSite, port: int, **more: Any) -> None:
    """Issue for the first time; the server, as it runs, serves that from now on."""
    before = _fingerprint(site)
    outcome = site.issue(NAME, **more)
    assert outcome.undeployed == ()
    assert not is_placeholder(leaf(current(site)))
    assert outcome.record.fingerprint == _fingerprint(site) != before
    found = verify.proof("127.0.0.1", port, NAME, outcome.record.fingerprint, wait=10)
    assert found.ok, found


def _fingerprint(site: RenewalSite) -> str:
    from acme_middleware.issuance.certificate import facts

    return facts(leaf(current(site))).fingerprint


@pytest.mark.parametrize("by", ["its deployer", "a command"])
def test_nginx_starts_with_it_and_serves_the_real_one_after_a_reload(site, tmp_path, by):
    with local_ports.reserve() as (port,):
        configuration = tmp_path / "nginx.conf"
        configuration.write_text(NGINX.format(folder=tmp_path, port=port, current=current(site)))
        nginx = ["nginx", "-p", str(tmp_path), "-c", str(configuration), "-e", str(tmp_path / "error.log")]
        with Background([*nginx, "-g", "daemon off;"], log=tmp_path / "nginx.log") as server:
            server.wait_until(lambda: listens(port))
            placeholder_is_served(site, port)
            master = (tmp_path / "nginx.pid").read_text()
            reload = json.dumps([shutil.which("nginx"), *nginx[1:], "-s", "reload"])
            own = f"nginx:?conf={configuration}&prefix={tmp_path}"
            real_one_is_served(site, port, deploy=[own if by == "its deployer" else f"command:{reload}"])
            assert (tmp_path / "nginx.pid").read_text() == master
            os.kill(int(master), 0)


NGINX = """\
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {current}/fullchain.pem;
        ssl_certificate_key {current}/privkey.pem;
    }}
}}
"""


def test_haproxy_starts_with_it_and_is_given_the_real_one_by_its_socket(site, tmp_path):
    with HAProxyLab(tmp_path, crt=current(site) / "bundle.pem") as lab:
        lab.start()
        placeholder_is_served(site, lab.port)
        real_one_is_served(site, lab.port, deploy=[f"haproxy:?socket={lab.stats}"])


def test_haproxy_with_a_folder_of_its_own_starts_with_what_is_written_there(site, tmp_path):
    with HAProxyLab(tmp_path) as lab:
        ended = command(tmp_path, *WORDS, "--deploy", lab.spec, env={"ACME_STORE": site.usual["store"]})
        assert (ended.code, ended.out.splitlines()[1:]) == (0, [f"  written     {lab.spec}"])
        lab.start()  # which it refuses with an empty folder
        placeholder_is_served(site, lab.port)
        real_one_is_served(site, lab.port, deploy=[lab.spec])


@pytest.mark.parametrize("title", ["uvicorn", "gunicorn"])
def test_a_python_server_starts_with_it_and_follows_by_itself(site, tmp_path, title):
    section = tls_page.sections()[title]
    with tls_page.running(section, section.commands[0], tmp_path, current(site).parent.parent) as server:
        placeholder_is_served(site, server.port)
        real_one_is_served(site, server.port)
