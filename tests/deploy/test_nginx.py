"""`nginx:` tests, reloads, looks at what nginx presents, and takes back what does not go well; also under load."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from deployments import deployment
from haproxy_lab import Wrk
from nginx_lab import NginxLab, until
from stored_certificates import command, store_certificate
from tls_lab import certificate, der, published

from acme_middleware import clock
from acme_middleware.deploy.deployer import Deployment
from acme_middleware.deploy.deployers import parse
from acme_middleware.deploy.rollback import roll_back
from acme_middleware.errors import ConfigurationError, DeployFailed
from acme_middleware.verify import served

NAME = "shop.example"
FULL = os.environ.get("SCALE", "ci") == "full"
RENEWALS = 50 if FULL else 15


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[NginxLab]:
    with NginxLab(tmp_path) as made:
        yield made


@pytest.fixture
def first(lab: NginxLab) -> Deployment:
    """The certificate that nginx presents at the beginning of a test."""
    made = deployment(lab.live, NAME)
    lab.site(NAME)
    lab.start()
    assert lab.presents(NAME) == leaf(made)
    return made


def leaf(made: Deployment) -> bytes:
    return ssl.PEM_cert_to_DER_cert((made.directory / "cert.pem").read_text())


def refuses(lab: NginxLab, made: Deployment, spec: str = "") -> DeployFailed:
    with pytest.raises(DeployFailed) as caught:
        parse(spec or lab.spec).deploy(made)
    error = caught.value
    assert (error.name, error.spec) == (made.name, spec or lab.spec)
    assert f"acme-middleware deploy {made.name}" in error.hint
    return error


def whole(made: Deployment) -> None:
    """Nothing is left of what was begun."""
    assert not [entry for entry in os.listdir(made.current.parent) if entry.startswith(".")]
    assert (made.current / "privkey.pem").is_file()


class TestWell:
    def test_a_renewed_certificate_is_presented_when_it_returns(self, lab: NginxLab, first: Deployment) -> None:
        renewed = deployment(lab.live, NAME)
        parse(lab.spec).deploy(renewed)
        assert lab.presents(NAME) == leaf(renewed) != leaf(first)
        assert os.readlink(renewed.current) == renewed.directory.name

    def test_a_first_one_is_when_the_configuration_has_it(self, lab: NginxLab, first: Deployment) -> None:
        made = deployment(lab.live, "new.example", "www.new.example")
        lab.site("new.example", "www.new.example", port=lab.other)
        parse(lab.spec).deploy(made)
        assert lab.presents("www.new.example", port=lab.other) == leaf(made)
        assert lab.presents(NAME) == leaf(first)

    def test_again_changes_nothing(self, lab: NginxLab, first: Deployment) -> None:
        for _ in range(2):
            parse(lab.spec).deploy(first)
        assert lab.presents(NAME) == leaf(first)

    def test_many_at_the_same_time(self, lab: NginxLab, first: Deployment) -> None:
        names = [f"site-{number}.example" for number in range(8)]
        for name in names:
            deployment(lab.live, name)
            lab.site(name)
        renewed = [deployment(lab.live, name) for name in names]
        with ThreadPoolExecutor(4) as pool:  # as `renew` does
            list(pool.map(lambda made: parse(lab.spec).deploy(made), renewed))
        assert [lab.presents(made.name) for made in renewed] == [leaf(made) for made in renewed]
        assert lab.presents(NAME) == leaf(first)

    def test_by_a_unit_of_systemd(
        self, lab: NginxLab, first: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # There is no systemd in a container; what its unit's ExecReload does, this does.
        program = tmp_path / "bin" / "systemctl"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\n[ "$*" = "--no-ask-password reload nginx.service" ] || exit 9\n'
            f"exec nginx -p {lab.folder} -e stderr -c {lab.folder}/nginx.conf -s reload\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        renewed = deployment(lab.live, NAME)
        parse(f"{lab.spec}&unit=nginx.service").deploy(renewed)
        assert lab.presents(NAME) == leaf(renewed)

    def test_nginx_is_found_where_cron_does_not_look(
        self, lab: NginxLab, first: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = shutil.which("nginx")
        assert found
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        renewed = deployment(lab.live, NAME)
        parse(lab.spec).deploy(renewed)
        assert lab.presents(NAME) == leaf(renewed)

    def test_one_that_no_server_has_is_told(self, lab: NginxLab, first: Deployment, caplog: pytest.LogCaptureFixture) -> None:
        parse(lab.spec).deploy(deployment(lab.live, "other.example"))
        assert "other.example: nginx was reloaded, but no server of its configuration" in caplog.text
        caplog.clear()
        parse(lab.spec).deploy(deployment(lab.live, NAME))
        assert "no server" not in caplog.text


def test_a_public_site_is_not_taken_for_another_that_this_host_alone_gets_to(
    lab: NginxLab, caplog: pytest.LogCaptureFixture
) -> None:
    for name, address in (("internal.example", "127.0.0.1:"), (NAME, "")):
        deployment(lab.live, name)
        lab.site(name)
        conf = lab.folder / "sites" / f"{name}.conf"
        conf.write_text(conf.read_text().replace("listen 127.0.0.1:", f"listen {address}"))
    lab.start()
    renewed = deployment(lab.live, NAME)
    parse(lab.spec.replace("timeout=10", "timeout=1")).deploy(renewed)
    assert f"{NAME}: nginx was reloaded, but no server of its configuration that could be looked at" in caplog.text
    assert os.readlink(renewed.current) == renewed.directory.name
    until(lambda: served("127.0.0.2", lab.port, NAME).chain[:1] == (leaf(renewed),))
    internal = deployment(lab.live, "internal.example")
    parse(lab.spec).deploy(internal)
    assert lab.presents("internal.example") == leaf(internal)


DUAL = """server {{
    listen 127.0.0.1:{port} ssl; server_name {name}; ssl_protocols {protocols};
    ssl_certificate {live}/ec/current/fullchain.pem; ssl_certificate_key {live}/ec/current/privkey.pem;
    ssl_certificate {live}/rsa/current/fullchain.pem; ssl_certificate_key {live}/rsa/current/privkey.pem;
}}
"""


class TestTwoKindsOfKeys:
    """One server with an EC certificate and an RSA one: a client that knows both sees the EC one alone."""

    def begin(self, lab: NginxLab, protocols: str) -> dict[str, Deployment]:
        made = {kind: self.made(lab, kind) for kind in ("ec", "rsa")}
        lab.add(NAME, DUAL.format(port=lab.port, name=NAME, live=lab.live, protocols=protocols))
        lab.start()
        return made

    def made(self, lab: NginxLab, kind: str) -> Deployment:
        return deployment(lab.live, NAME, name=kind, pems=certificate(NAME, kind=kind))

    @pytest.mark.parametrize("kind", ["ec", "rsa"])
    def test_each_is_presented_when_it_returns(self, lab: NginxLab, kind: str) -> None:
        self.begin(lab, "TLSv1.2 TLSv1.3")
        renewed = self.made(lab, kind)
        parse(lab.spec).deploy(renewed)
        assert os.readlink(renewed.current) == renewed.directory.name
        known = "RSA" if kind == "rsa" else "ECDSA"
        assert served("127.0.0.1", lab.port, NAME, kind=known).chain[0] == leaf(renewed)

    @pytest.mark.parametrize("kind", ["ec", "rsa"])
    def test_one_that_is_not_loaded_is_taken_back(self, lab: NginxLab, kind: str) -> None:
        before = self.begin(lab, "TLSv1.2 TLSv1.3")
        with socket.create_server(("127.0.0.1", lab.other)):
            lab.add("taken", f"server {{ listen 127.0.0.1:{lab.other}; }}\n")
            error = refuses(lab, self.made(lab, kind), lab.spec.replace("timeout=10", "timeout=1"))
        assert f"another certificate is presented, serial {before[kind].serial}" in str(error)
        assert os.readlink(before[kind].current) == before[kind].directory.name

    def test_by_tls_1_3_alone_nobody_knows_so_that_nothing_is_taken_back(
        self, lab: NginxLab, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.begin(lab, "TLSv1.3")
        renewed = {kind: self.made(lab, kind) for kind in ("ec", "rsa")}
        parse(lab.spec).deploy(renewed["ec"])
        assert caplog.text == ""
        parse(lab.spec.replace("timeout=10", "timeout=1")).deploy(renewed["rsa"])
        assert f"{NAME} at 127.0.0.1:{lab.port}: its RSA certificate cannot be looked at" in caplog.text
        assert os.readlink(renewed["rsa"].current) == renewed["rsa"].directory.name


class TestBadInput:
    """The old certificate stays served, and current again; the message says which step failed."""

    @pytest.mark.parametrize(
        ("key", "says"),
        [
            pytest.param("other", "key values mismatch", id="another certificate's key"),
            pytest.param("garbage", "cannot load certificate key", id="a key that is none"),
            pytest.param("none", "privkey.pem", id="no key"),
        ],
    )
    def test_a_pair_that_is_none(self, lab: NginxLab, first: Deployment, key: str, says: str) -> None:
        renewed = deployment(lab.live, NAME)
        file = renewed.directory / "privkey.pem"
        if key == "none":
            file.unlink()
        else:
            file.write_bytes(certificate(NAME).key if key == "other" else b"no key\n")
        error = refuses(lab, renewed)
        assert error.step == "nginx -t"
        assert says in str(error)
        assert "the certificate before is the current one again" in str(error)
        assert "no better" not in str(error)
        assert os.readlink(renewed.current) == first.directory.name
        assert lab.presents(NAME) == leaf(first)
        whole(renewed)

    def test_a_configuration_that_is_wrong_elsewhere(self, lab: NginxLab, first: Deployment) -> None:
        lab.add("wrong", "ssl_stapling perhaps;\n")
        renewed = deployment(lab.live, NAME)
        error = refuses(lab, renewed)
        assert error.step == "nginx -t"
        assert 'invalid value "perhaps"' in str(error)
        assert "with which it goes no better (nginx -t)" in str(error)
        assert lab.presents(NAME) == leaf(first)
        assert os.readlink(renewed.current) == first.directory.name

        (lab.folder / "sites" / "wrong.conf").unlink()
        again = deployment(lab.live, NAME)
        parse(lab.spec).deploy(again)
        assert lab.presents(NAME) == leaf(again)
        whole(again)

    def test_an_nginx_that_does_not_reload(self, lab: NginxLab, first: Deployment) -> None:
        # Its own test does not find that out: a port that another program has.
        with socket.create_server(("127.0.0.1", lab.other)):
            lab.add("taken", f"server {{ listen 127.0.0.1:{lab.other}; }}\n")
            renewed = deployment(lab.live, NAME)
            error = refuses(lab, renewed, lab.spec.replace("timeout=10", "timeout=2"))
        assert error.step == "look at what is served"
        assert f"{NAME} at 127.0.0.1:{lab.port}: another certificate is presented, serial {first.serial}" in str(error)
        assert "the certificate before is the current one again" in str(error)
        assert os.readlink(renewed.current) == first.directory.name
        assert lab.presents(NAME) == leaf(first)

    def test_a_server_that_has_a_copy_of_its_own(self, lab: NginxLab, first: Deployment, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(first.directory, copy)
        conf = lab.folder / "sites" / f"{NAME}.conf"
        conf.write_text(conf.read_text().replace(str(first.current), str(copy)))
        renewed = deployment(lab.live, NAME)
        error = refuses(lab, renewed, f"{lab.spec.replace('timeout=10', 'timeout=2')}&address=127.0.0.1:{lab.port}")
        assert error.step == "look at what is served"
        assert lab.presents(NAME) == leaf(first)

    def test_a_proof_that_fails_though_nginx_has_loaded_it(self, lab: NginxLab, first: Deployment) -> None:
        renewed = deployment(lab.live, NAME)
        error = refuses(lab, renewed, f"{lab.spec.replace('timeout=10', 'timeout=1')}&address=127.0.0.1:{lab.other}")
        assert error.step == "look at what is served"
        assert f"{NAME} at 127.0.0.1:{lab.other}: no connection: Connection refused" in str(error)
        assert os.readlink(renewed.current) == first.directory.name
        until(lambda: lab.presents(NAME) == leaf(first))

    def test_an_nginx_that_does_not_run(self, lab: NginxLab, first: Deployment) -> None:
        lab.stop()
        renewed = deployment(lab.live, NAME)
        error = refuses(lab, renewed)
        assert error.step == "nginx -s reload"
        assert "does nginx run?" in error.hint
        lab.start()
        assert lab.presents(NAME) == leaf(renewed), "it has passed the test, and nobody has the old one any more"

    def test_a_test_that_hangs(self, lab: NginxLab, first: Deployment, tmp_path: Path) -> None:
        program = tmp_path / "hangs"
        program.write_text("#!/bin/sh\nexec sleep 600\n")
        program.chmod(0o755)
        renewed = deployment(lab.live, NAME)
        began = time.monotonic()
        error = refuses(lab, renewed, f"nginx:?binary={program}&timeout=0.3")
        assert time.monotonic() - began < 10
        assert "did not end within 0.3 s, and was killed" in str(error)
        assert lab.presents(NAME) == leaf(first)

    def test_a_program_that_is_not_there(self, lab: NginxLab, first: Deployment) -> None:
        error = refuses(lab, deployment(lab.live, NAME), "nginx:?binary=/nonexistent/nginx")
        assert error.step == "nginx -t"
        assert "cannot start /nonexistent/nginx: No such file" in str(error)

    def test_what_is_secret_in_the_configuration_is_in_no_message_or_log(
        self, lab: NginxLab, first: Deployment, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        lab.add("secret", 'proxy_set_header Authorization "Bearer hidden-words";\n')
        parse(lab.spec).deploy(deployment(lab.live, NAME))
        lab.add("wrong", "unknown_words;\n")
        error = refuses(lab, deployment(lab.live, NAME))
        assert 'unknown directive "unknown_words"' in str(error)
        assert "hidden-words" not in f"{error} {error.hint} {caplog.text}"


class TestRollBack:
    def test_a_first_certificate_has_none_before_it(self, lab: NginxLab, first: Deployment) -> None:
        lab.add("wrong", "unknown_words;\n")
        made = deployment(lab.live, "new.example")
        error = refuses(lab, made)
        assert "its files stay where they are: there is none before it" in str(error)
        assert os.readlink(made.current) == made.directory.name
        assert lab.presents(NAME) == leaf(first)

    def test_one_that_has_expired_is_not_put_back(self, tmp_path: Path) -> None:
        published(tmp_path, certificate(NAME, expires=timedelta(days=-1)), NAME)
        assert roll_back(deployment(tmp_path, NAME)) == "the one before it has expired"

    def test_one_that_is_damaged_is_not_put_back(self, tmp_path: Path) -> None:
        deployment(tmp_path, NAME)
        made = deployment(tmp_path, NAME)
        assert made.previous
        (made.previous / "privkey.pem").write_text("no key\n")
        assert roll_back(made) == "the one before it cannot be read"
        assert os.readlink(made.current) == made.directory.name

    def test_what_a_killed_one_has_left_is_no_obstacle(self, tmp_path: Path) -> None:
        old, made = deployment(tmp_path, NAME), deployment(tmp_path, NAME)
        (made.current.parent / ".current").symlink_to("1")
        assert roll_back(made) == ""
        assert os.readlink(made.current) == old.directory.name
        whole(made)

    def test_what_was_published_meanwhile_stays(self, tmp_path: Path) -> None:
        deployment(tmp_path, NAME)
        second, third = deployment(tmp_path, NAME), deployment(tmp_path, NAME)
        assert roll_back(second) == "another one was published meanwhile"
        assert os.readlink(third.current) == third.directory.name

    def test_what_was_put_back_is_published_again_by_the_next_run(self, tmp_path: Path) -> None:
        old = deployment(tmp_path, NAME)
        pems = certificate(NAME)
        published(tmp_path, pems, NAME)
        newer = replace(old, directory=old.directory.with_name("2"), previous=old.directory, not_after=clock.now())
        assert roll_back(newer) == ""
        assert os.readlink(old.current) == "1"
        published(tmp_path, pems, NAME)
        assert ssl.PEM_cert_to_DER_cert((old.current / "cert.pem").read_text()) == der(pems)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param("nginx:/etc/nginx", "where nothing should be", id="a path"),
        pytest.param("nginx:?binary=nginx", "absolute path of nginx", id="a program without its path"),
        pytest.param("nginx:?conf=nginx.conf", "absolute path of a configuration", id="a relative configuration"),
        pytest.param("nginx:?unit=--now", "has unit=--now", id="an option where a unit should be"),
        pytest.param("nginx:?address=443", "takes HOST:PORT", id="an address without a host"),
        pytest.param("nginx:?address=localhost:0", "takes HOST:PORT", id="an address without a port"),
        pytest.param("nginx:?timeout=never", "number of seconds", id="no number of seconds"),
        pytest.param("nginx:?reload=yes", "it takes binary=", id="a word that it does not know"),
    ],
)
def test_what_cannot_be_followed_is_refused_before_anything_is_done(spec: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(spec)
    assert says in f"{caught.value} {caught.value.hint}"


def test_what_has_failed_is_repeated_by_the_next_run_and_shown_until_then(lab: NginxLab, tmp_path: Path) -> None:
    env = {"ACME_PUBLISH_DIR": str(lab.live), "ACME_DEPLOY": lab.spec}

    def saved() -> bytes:
        made = store_certificate(tmp_path / "store", NAME, published=False)
        return ssl.PEM_cert_to_DER_cert(made.cert_pem)

    first = saved()
    assert command(tmp_path, "deploy", env={**env, "ACME_DEPLOY": ""}).code == 0
    lab.site(NAME)
    lab.start()
    assert lab.presents(NAME) == first
    assert command(tmp_path, "deploy", env=env).code == 0

    second = saved()
    lab.add("wrong", "unknown_words;\n")
    for _ in range(2):
        ended = command(tmp_path, "deploy", env=env)
        assert ended.code == 1
        assert 'nginx -t: unknown directive "unknown_words" in' in ended.err
        assert lab.presents(NAME) == first
        assert os.readlink(lab.live / NAME / "current") == "1"
    shown = command(tmp_path, "status", env=env)
    assert (shown.code, "unknown_words" in shown.out) == (3, True)

    (lab.folder / "sites" / "wrong.conf").unlink()
    assert command(tmp_path, "deploy", env=env).code == 0
    assert lab.presents(NAME) == second
    assert len(os.listdir(lab.live / NAME)) == 3, "the two versions that were shown, and the link"
    assert command(tmp_path, "status", env=env).code == 0


class Watch:
    """Somebody who connects all the time, and notes which certificate was presented last at what time."""

    def __init__(self, lab: NginxLab) -> None:
        self.last: dict[bytes | None, float] = {}
        self.failures: list[str] = []
        self._lab, self._stop = lab, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.005):
            try:
                seen = self._lab.presents(NAME)
            except OSError as error:
                self.failures.append(str(error))
            else:
                self.last[seen] = time.monotonic()


@pytest.mark.parametrize("close", [True, False], ids=["a connection for each request", "connections that are kept"])
def test_under_load_what_is_served_follows_each_renewal_and_no_new_connection_fails(
    lab: NginxLab, first: Deployment, tmp_path: Path, close: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    took = []
    with Watch(lab) as watch, Wrk(tmp_path, f"https://127.0.0.1:{lab.port}/", close=close) as wrk:
        before = first
        for _ in range(RENEWALS):
            began = time.monotonic()
            renewed = deployment(lab.live, NAME)
            parse(lab.spec).deploy(renewed)
            until(lambda renewed=renewed: leaf(renewed) in watch.last)
            # How long anybody still saw the one before: for a moment, workers of both kinds accept connections.
            until(lambda before=before: time.monotonic() - watch.last[leaf(before)] > 0.1)
            took.append(watch.last[leaf(before)] - began)
            before = renewed
    took.sort()
    p95 = took[int(0.95 * len(took))]
    with capsys.disabled():
        print(
            f"\nnginx, {'new' if close else 'kept'} connections: {RENEWALS} renewals, served after p95 {p95:.3f} s, "
            f"at most {took[-1]:.3f} s; {wrk.counts}"
        )
    assert p95 < 2
    assert took[-1] < 5
    assert watch.failures == []
    counts = wrk.counts
    assert counts["requests"] > RENEWALS * 20
    assert [counts[kind] for kind in ("connect", "timeout", "status", "write")] == [0, 0, 0, 0]
    # With one connection for each request nobody sees a reload. One that is kept is closed by each of the two old workers at
    # most once, maybe while a request is on its way.
    assert counts["read"] <= (0 if close else 2 * 20 * RENEWALS)
