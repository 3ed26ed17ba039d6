"""`haproxy:` with Debian's HAProxy: what it serves follows what is published, and whatever fails, it serves what it did."""

from __future__ import annotations

import http.client
import os
import pickle
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from deployments import deployment
from haproxy_lab import HAProxyLab, Wrk
from tls_lab import DAY, certificate, client_context

from acme_middleware.deploy.deployer import Deployment
from acme_middleware.deploy.deployers import parse
from acme_middleware.deploy.haproxy_socket import RuntimeAPI, RuntimeAPIError
from acme_middleware.deploy.publish import Pems, publish
from acme_middleware.errors import ConfigurationError, DeployFailed

FULL = os.environ.get("SCALE", "ci") == "full"
RENEWALS = 50 if FULL else 15
KILLS = 60 if FULL else 10
NAME = "shop.example"

DEPLOYS_FOR_EVER = """
import itertools, pickle, sys
from acme_middleware.deploy.deployers import parse
deployer, deployments = parse(sys.argv[1]), pickle.load(open(sys.argv[2], "rb"))
deployer.deploy(deployments[0])  # what is to be loaded is loaded
print("begins", end="", flush=True)
for deployment in itertools.cycle(deployments):
    deployer.deploy(deployment)
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[HAProxyLab]:
    with HAProxyLab(tmp_path) as lab:
        yield lab


@pytest.fixture
def first(lab: HAProxyLab, tmp_path: Path) -> Deployment:
    """What a HAProxy that runs serves already."""
    made = deployment(tmp_path / "live", NAME)
    (lab.certs / f"{NAME}.pem").write_bytes((made.directory / "bundle.pem").read_bytes())
    (lab.certs / f"{NAME}.pem").chmod(0o600)
    lab.start()
    return made


def of(root: Path, pems: Pems, template: Deployment) -> Deployment:
    """A deployment of what is not made by deployment()."""
    published = publish(root, template.name, lambda: pems)
    made = x509.load_pem_x509_certificate(pems.cert)
    serial = f"{made.serial_number:x}"
    return replace(
        template, directory=published.directory, current=published.current, serial=serial, not_after=made.not_valid_after_utc
    )


class TestServes:
    @pytest.mark.parametrize(
        "socket_of",
        [
            pytest.param(lambda lab: lab.stats, id="by the stats socket"),
            pytest.param(lambda lab: lab.master, id="by the master's socket"),
            pytest.param(lambda lab: f"127.0.0.1:{lab.admin}", id="by a stats socket over TCP"),
        ],
    )
    def test_the_renewed_certificate_while_connections_that_there_are_go_on(
        self, socket_of: Callable[[HAProxyLab], object], lab: HAProxyLab, first: Deployment, tmp_path: Path
    ) -> None:
        kept = http.client.HTTPSConnection("127.0.0.1", lab.port, timeout=10, context=client_context())
        kept.request("GET", "/")
        assert kept.getresponse().read() == b"hello"
        was = kept.sock

        renewed = deployment(tmp_path / "live", NAME)
        spec = f"haproxy:{lab.certs}?socket={socket_of(lab)}"
        lab.deploy(renewed, spec)

        assert lab.serial(NAME) == renewed.serial != first.serial
        assert (lab.certs / f"{NAME}.pem").read_bytes() == (renewed.directory / "bundle.pem").read_bytes()
        assert (lab.certs / f"{NAME}.pem").stat().st_mode & 0o777 == 0o600
        kept.request("GET", "/")
        assert kept.getresponse().read() == b"hello"
        assert kept.sock is was
        kept.close()
        lab.deploy(renewed, spec)  # the next run does it again, and there is nothing to do
        assert lab.serial(NAME) == renewed.serial
        assert lab.files() == {f"{NAME}.pem"}

    @pytest.mark.parametrize("new", ["www.other.example", "*.other.example"])
    def test_a_name_that_is_new_to_it_also_after_a_restart(
        self, new: str, lab: HAProxyLab, first: Deployment, tmp_path: Path
    ) -> None:
        folder = new.replace("*", "_")
        pems = certificate(new)
        made = of(tmp_path / "live", pems, replace(first, name=new, names=(new,)))
        lab.deploy(made)
        asked = new.replace("*", "any")
        assert lab.serial(asked) == made.serial
        assert lab.serial(NAME) == first.serial
        assert lab.files() == {f"{NAME}.pem", f"{folder}.pem"}
        lab.stop()
        lab.start()
        assert lab.serial(asked) == made.serial

    def test_another_kind_of_key(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        for kind in ("rsa", "ec"):
            made = of(tmp_path / "live", certificate(NAME, kind=kind), first)
            lab.deploy(made)
            assert lab.serial(NAME) == made.serial

    def test_a_folder_with_a_space_in_its_name_and_a_semicolon(self, tmp_path: Path) -> None:
        with HAProxyLab(tmp_path, certs="my certs; all") as lab:
            made = deployment(tmp_path / "live", NAME)
            (lab.certs / f"{NAME}.pem").write_bytes((made.directory / "bundle.pem").read_bytes())
            lab.start()
            for name in (NAME, "new.example"):
                made = deployment(tmp_path / "live", name)
                lab.deploy(made)
                assert lab.serial(name) == made.serial

    def test_what_is_published_where_its_configuration_names_that_file(self, tmp_path: Path) -> None:
        made = deployment(tmp_path / "live", NAME)
        with HAProxyLab(tmp_path, crt=made.current / "bundle.pem") as lab:
            lab.start()
            renewed = deployment(tmp_path / "live", NAME)
            lab.deploy(renewed, f"haproxy:?socket={lab.stats}")
            assert lab.serial(NAME) == renewed.serial
            assert not lab.files()
            other = deployment(tmp_path / "live", "other.example")
            with pytest.raises(DeployFailed, match="does not name") as refused:
                lab.deploy(other, f"haproxy:?socket={lab.stats}")
            assert f"crt {other.current}/bundle.pem" in refused.value.hint

    def test_a_folder_that_haproxy_calls_by_another_name(self, tmp_path: Path) -> None:
        inside = tmp_path / "inside"
        inside.symlink_to(tmp_path / "certs")
        with HAProxyLab(tmp_path, crt=inside) as lab:
            made = deployment(tmp_path / "live", NAME)
            (lab.certs / f"{NAME}.pem").write_bytes((made.directory / "bundle.pem").read_bytes())
            lab.start()
            for name in (NAME, "new.example"):
                made = deployment(tmp_path / "live", name)
                lab.deploy(made, f"{lab.spec}&as={inside}")
                assert lab.serial(name) == made.serial

    def test_the_file_of_the_recipe_of_2015_once_it_has_another_name(self, lab: HAProxyLab, tmp_path: Path) -> None:
        made = deployment(tmp_path / "live", NAME)
        parts = ("cert.pem", "fullchain.pem", "privkey.pem")  # the certificate twice: HAProxy takes it
        (lab.certs / f"{NAME}.crt").write_bytes(b"".join((made.directory / part).read_bytes() for part in parts))
        lab.start()
        renewed = deployment(tmp_path / "live", NAME)
        error = refuses(lab, renewed)
        assert error.step == f"look into {lab.certs}"
        assert f"let it be {NAME}.pem" in error.hint
        assert (lab.files(), lab.serial(NAME)) == ({f"{NAME}.crt"}, made.serial)
        # What is refused would be in vain.
        lab.stop()
        (lab.certs / f"{NAME}.pem").write_bytes((renewed.directory / "bundle.pem").read_bytes())
        lab.start()
        assert lab.serial(NAME) == made.serial
        # As the hint says.
        (lab.certs / f"{NAME}.crt").rename(lab.certs / f"{NAME}.pem")
        lab.stop()
        lab.start()
        lab.deploy(renewed)
        assert (lab.files(), lab.serial(NAME)) == ({f"{NAME}.pem"}, renewed.serial)

    def test_a_file_beside_one_with_another_kind_of_key(self, lab: HAProxyLab, tmp_path: Path) -> None:
        (lab.certs / f"{NAME}.rsa.pem").write_bytes(certificate(NAME, kind="rsa").files()["bundle.pem"])
        made = deployment(tmp_path / "live", NAME)
        (lab.certs / f"{NAME}.pem").write_bytes((made.directory / "bundle.pem").read_bytes())
        (lab.certs / f".{NAME}.old").write_bytes((made.directory / "bundle.pem").read_bytes())  # HAProxy skips it
        lab.start()
        made = deployment(tmp_path / "live", NAME)
        lab.deploy(made)
        assert lab.serial(NAME) == made.serial

    def test_a_file_for_a_group_that_may_read_it(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        made = deployment(tmp_path / "live", NAME)
        lab.deploy(made, f"{lab.spec}&owner={os.getuid()}&group={os.getgid()}")
        assert (lab.certs / f"{NAME}.pem").stat().st_mode & 0o777 == 0o640
        assert lab.serial(NAME) == made.serial


def refuses(lab: HAProxyLab, made: Deployment, spec: str = "") -> DeployFailed:
    with pytest.raises(DeployFailed) as refused:
        lab.deploy(made, spec)
    error = refused.value
    assert error.spec == (spec or lab.spec)
    assert error.name == made.name
    assert error.step
    assert error.step in str(error)
    assert f"acme-middleware deploy {made.name}" in error.hint
    assert "PRIVATE" not in f"{error!r} {error} {error.hint}"
    assert not [path.name for path in lab.certs.iterdir() if path.name.endswith(".new")]
    return error


class TestRefuses:
    def test_a_pair_that_is_none_before_haproxy_hears_of_it(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        made = deployment(tmp_path / "live", NAME)
        bundle = made.directory / "bundle.pem"
        ours, theirs = bundle.read_bytes(), (first.directory / "privkey.pem").read_bytes()
        before = (lab.certs / f"{NAME}.pem").read_bytes()
        expired = of(tmp_path / "old", certificate(NAME, expires=-DAY), first)
        certificates = ours[: ours.index(b"-----BEGIN PRIVATE KEY")]
        for data, words in [
            (certificates + theirs, "is not the key of"),
            (certificates, "no certificate and key"),
            (b"", "no certificate and key"),
            (None, "No such file"),
        ]:
            bundle.unlink() if data is None else bundle.write_bytes(data)
            error = refuses(lab, made)
            assert error.step == "read the certificate"
            assert words in str(error)
        assert "expired" in str(refuses(lab, expired))
        assert (lab.certs / f"{NAME}.pem").read_bytes() == before
        assert lab.serial(NAME) == first.serial

    def test_more_than_haproxy_reads(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        before = (lab.certs / f"{NAME}.pem").read_bytes()
        for name in (NAME, "new.example"):
            error = refuses(lab, of(tmp_path / "live", too_long(name), replace(first, name=name, names=(name,))))
            assert error.step == "`set ssl cert`"
            assert "tune.bufsize" in error.hint
        assert lab.files() == {f"{NAME}.pem"}
        assert (lab.certs / f"{NAME}.pem").read_bytes() == before
        assert lab.serial(NAME) == first.serial
        assert lab.ask("show ssl cert").splitlines() == ["# filename", f"{lab.certs}/{NAME}.pem"]

    def test_a_folder_that_haproxy_does_not_load(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        made = deployment(tmp_path / "live", NAME)
        error = refuses(lab, made, f"haproxy:{tmp_path}/elsewhere?socket={lab.stats}")
        assert error.step == "`add ssl crt-list`"
        assert f"crt {tmp_path}/elsewhere/" in error.hint
        assert not (tmp_path / "elsewhere" / f"{NAME}.pem").exists()
        assert lab.ask("show ssl cert").splitlines() == ["# filename", f"{lab.certs}/{NAME}.pem"]
        assert lab.serial(NAME) == first.serial

    def test_a_folder_that_is_not_there(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        error = refuses(lab, deployment(tmp_path / "live", NAME), f"haproxy:{tmp_path}/none?socket={lab.stats}")
        assert error.step == f"write into {tmp_path}/none"
        assert lab.serial(NAME) == first.serial

    def test_a_socket_without_the_rights(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        made = deployment(tmp_path / "live", NAME)
        error = refuses(lab, made, f"haproxy:{lab.certs}?socket={lab.operator}")
        assert "Permission denied" in str(error)
        assert "level admin" in error.hint
        assert lab.serial(NAME) == first.serial

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            pytest.param("none", "No such file", id="nothing there"),
            pytest.param("file", "Connection refused", id="a file"),
            pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not HAProxy: HTTP/1.1 400", id="a web server's"),
            pytest.param(b"", "is not HAProxy", id="one that hangs up"),
            pytest.param(None, "no answer", id="one that says nothing"),
            pytest.param("echo", "is not HAProxy", id="one that says what it hears"),
        ],
    )
    def test_a_socket_that_is_not_haproxys(
        self, kind: Any, words: str, lab: HAProxyLab, first: Deployment, tmp_path: Path
    ) -> None:
        made = deployment(tmp_path / "live", NAME)
        with Stranger(lab.stats.with_name("stranger"), kind) as stranger:
            began = time.monotonic()
            error = refuses(lab, made, f"haproxy:{lab.certs}?socket={stranger.path}&timeout=0.5")
            assert time.monotonic() - began < 5
            assert words in str(error)
            assert str(stranger.path) in str(error)
            assert b"PRIVATE" not in stranger.heard
        assert lab.serial(NAME) == first.serial
        # The file is whole, and the next run has only to tell HAProxy.
        lab.deploy(made)
        assert lab.serial(NAME) == made.serial


class TestTransactions:
    def test_what_a_killed_run_has_left_is_taken_back(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        left = deployment(tmp_path / "live", NAME)
        lab.ask(f"set ssl cert {lab.certs}/{NAME}.pem", (left.directory / "bundle.pem").read_bytes())
        assert "# transaction" in lab.ask("show ssl cert")
        new = deployment(tmp_path / "live", "new.example")
        lab.deploy(new)
        assert lab.serial("new.example") == new.serial
        assert lab.serial(NAME) == first.serial
        assert "# transaction" not in lab.ask("show ssl cert")

    def test_a_new_file_that_a_killed_run_has_not_put_into_the_list(
        self, lab: HAProxyLab, first: Deployment, tmp_path: Path
    ) -> None:
        new = deployment(tmp_path / "live", "new.example")
        lab.ask(f"new ssl cert {lab.certs}/new.example.pem")
        lab.deploy(new)
        assert lab.serial("new.example") == new.serial

    def test_somebody_elses_is_left_alone(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        other = deployment(tmp_path / "other", "other.example")
        lab.ask("new ssl cert /elsewhere/other.pem")
        lab.ask("set ssl cert /elsewhere/other.pem", (other.directory / "bundle.pem").read_bytes())
        made = deployment(tmp_path / "live", NAME)
        error = refuses(lab, made, f"{lab.spec}&timeout=0.3")
        assert "/elsewhere/other.pem" in str(error)
        assert "abort ssl cert /elsewhere/other.pem" in error.hint
        assert "*/elsewhere/other.pem" in lab.ask("show ssl cert")
        assert lab.serial(NAME) == first.serial
        lab.ask("commit ssl cert /elsewhere/other.pem")
        lab.deploy(made)
        assert lab.serial(NAME) == made.serial

    def test_a_pair_that_is_none_is_taken_back(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        # deploy() sends none; this is for what HAProxy alone finds wrong.
        made = deployment(tmp_path / "live", NAME)
        api, file = RuntimeAPI(str(lab.stats)), f"{lab.certs}/{NAME}.pem"
        pem = (made.directory / "fullchain.pem").read_bytes()
        leaf = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA1()).hex()
        for key in (
            (first.directory / "privkey.pem").read_bytes(),
            b"-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n",
        ):
            assert api.transactions() == []
            with pytest.raises(RuntimeAPIError) as refused:
                api.replace(file, pem + key, leaf)
            assert refused.value.refused
            assert api.transactions() == []
            assert lab.serial(NAME) == first.serial

    def test_several_certificates_at_once_take_turns(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        made = {name: deployment(tmp_path / "live", name) for name in (NAME, *(f"{number}.example" for number in range(11)))}
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lab.deploy, made.values()))
        assert {name: lab.serial(name) for name in made} == {name: one.serial for name, one in made.items()}

    def test_whenever_a_run_is_killed_a_whole_file_is_there_and_the_next_run_goes_on(
        self, lab: HAProxyLab, first: Deployment, tmp_path: Path
    ) -> None:
        made = [deployment(tmp_path / "live", NAME) for _ in range(2)]
        new = [deployment(tmp_path / "live", "new.example") for _ in range(2)]
        (tmp_path / "deployments").write_bytes(pickle.dumps([*made, *new]))
        served = {first.serial, *(one.serial for one in made)}
        for number in range(KILLS):
            argv = [sys.executable, "-c", DEPLOYS_FOR_EVER, lab.spec, str(tmp_path / "deployments")]
            with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                assert process.stdout.read(6) == b"begins"
                # 20 ms and more are a whole round.
                killed_at = time.monotonic() + 0.02 * (number + 0.5) / KILLS * 4
                while time.monotonic() < killed_at:
                    time.sleep(0.001)
                process.kill()
            assert lab.serial(NAME) in served
            subprocess.run(["haproxy", "-c", "-q", "-f", tmp_path / "haproxy.cfg"], check=True)
            for one in (made[number % 2], new[number % 2]):
                lab.deploy(one)
                assert lab.serial(one.name) == one.serial
            assert not [path for path in lab.certs.iterdir() if path.name.endswith(".new")]


class TestReload:
    def test_where_the_socket_does_not_take_it(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        made = of(tmp_path / "live", too_long(NAME), first)
        lab.deploy(made, f"{lab.spec}&reload={lab.master}")
        assert lab.serial(NAME) == made.serial

    def test_alone_by_a_unit(self, lab: HAProxyLab, first: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # There is no systemd in a container; what its unit's ExecReload does, this does.
        (tmp_path / "bin").mkdir()
        systemctl = tmp_path / "bin" / "systemctl"
        systemctl.write_text(
            f'#!/bin/sh\n[ "$*" = "--no-ask-password reload haproxy.service" ] || exit 9\n'
            f"haproxy -c -q -f {tmp_path}/haproxy.cfg || exit 1\nkill -USR2 $(cat {tmp_path}/pid)\n"
        )
        systemctl.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        lines = RuntimeAPI(str(lab.master)).ask("show proc").splitlines()
        (tmp_path / "pid").write_text(next(line for line in lines if "master" in line).split()[0])
        made = deployment(tmp_path / "live", NAME)
        lab.deploy(made, f"haproxy:{lab.certs}?reload=haproxy.service")
        follows(lab, made)
        (lab.certs / "notes.txt").write_text("what a person forgot here")
        failing = deployment(tmp_path / "live", NAME)
        error = refuses(lab, failing, f"haproxy:{lab.certs}?reload=haproxy.service")
        assert error.step == "systemctl reload haproxy.service"
        # A unit that is not up yet fails in the same way, and starts with what is there.
        new = deployment(tmp_path / "live", "new.example")
        refuses(lab, new, f"haproxy:{lab.certs}?reload=haproxy.service")
        assert (lab.certs / "new.example.pem").read_bytes() == (new.directory / "bundle.pem").read_bytes()
        assert (lab.certs / f"{NAME}.pem").read_bytes() == (made.directory / "bundle.pem").read_bytes()
        assert lab.serial(NAME) == made.serial

    def test_that_fails_leaves_the_old_one_and_its_file(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        before = (lab.certs / f"{NAME}.pem").read_bytes()
        stray = lab.certs / "notes.txt"
        stray.write_text("what a person forgot here")
        made = deployment(tmp_path / "live", NAME)
        spec = f"haproxy:{lab.certs}?reload={lab.master}"
        error = refuses(lab, made, spec)
        assert error.step == "reload HAProxy by its master's socket"
        assert "haproxy -c" in error.hint
        assert (lab.certs / f"{NAME}.pem").read_bytes() == before
        assert lab.serial(NAME) == first.serial
        stray.unlink()
        lab.deploy(made, spec)
        assert lab.serial(NAME) == made.serial

    def test_by_a_socket_that_is_no_masters(self, lab: HAProxyLab, first: Deployment, tmp_path: Path) -> None:
        error = refuses(lab, deployment(tmp_path / "live", NAME), f"haproxy:{lab.certs}?reload={lab.stats}")
        assert "is not that of a master" in str(error)
        assert lab.serial(NAME) == first.serial


def test_a_haproxy_that_is_started_later_finds_its_first_certificate(lab: HAProxyLab, tmp_path: Path) -> None:
    made = deployment(tmp_path / "live", NAME)
    error = refuses(lab, made)
    assert "does HAProxy run" in error.hint
    lab.start()
    assert lab.serial(NAME) == made.serial
    lab.deploy(made)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param("haproxy:/certs", "how to reach", id="no socket"),
        pytest.param("haproxy:certs?socket=/run/s", "absolute", id="a relative folder"),
        pytest.param("haproxy:/certs?socket=run/s", "HOST:PORT", id="a relative socket"),
        pytest.param("haproxy:/certs?socket=host:port", "HOST:PORT", id="a port that is no number"),
        pytest.param("haproxy:/certs?reload=--now", "a unit", id="an option where a unit should be"),
        pytest.param("haproxy:/certs?socket=/s&as=certs", "absolute", id="a relative folder in HAProxy's eyes"),
        pytest.param("haproxy:/a%0Ashow?socket=/s", "cannot spell", id="a line break in the folder"),
        pytest.param("haproxy:/certs?sock=/s", "knows no", id="an unknown word"),
        pytest.param("haproxy:/certs?socket=/s&timeout=soon", "timeout=soon", id="a time that is none"),
    ],
)
def test_a_string_that_cannot_be_followed_is_refused(spec: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse(spec)
    assert words in f"{refused.value} {refused.value.hint}"
    assert refused.value.option == "deploy"


@pytest.mark.parametrize(
    ("way", "close"),
    [
        pytest.param("socket", False, id="Runtime API, connections kept"),
        pytest.param("socket", True, id="Runtime API, a connection for each request"),
        pytest.param("reload", True, id="reload, a connection for each request"),
    ],
)
def test_under_load_what_is_served_follows_each_renewal_and_nothing_fails(
    way: str, close: bool, lab: HAProxyLab, first: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = lab.spec if way == "socket" else f"haproxy:{lab.certs}?reload={lab.master}"
    took = []
    with Wrk(tmp_path, f"https://127.0.0.1:{lab.port}/", close=close) as wrk:
        for number in range(RENEWALS):
            made = of(tmp_path / "live", certificate(NAME, number=number % 2), first)
            began = time.monotonic()
            lab.deploy(made, spec)
            took.append(follows(lab, made) - began)
    p95 = statistics.quantiles(took, n=20, method="inclusive")[-1]
    with capsys.disabled():
        print(
            f"\nHAProxy by {way}, {'new' if close else 'kept'} connections: {RENEWALS} renewals, served after p95 {p95:.3f} s, "
            f"at most {max(took):.3f} s; {wrk.counts}"
        )
    assert p95 < 2
    assert max(took) < 5
    assert wrk.counts["requests"] > RENEWALS * 20
    assert {kind: count for kind, count in wrk.counts.items() if kind != "requests"} == dict.fromkeys(
        ("connect", "read", "write", "status", "timeout"), 0
    )


def follows(lab: HAProxyLab, made: Deployment) -> float:
    """Wait until five new connections in a row see the certificate; returns when the first of them did."""
    deadline, seen, since = time.monotonic() + 10, 0, 0.0
    while seen < 5:
        if lab.serial(NAME) == made.serial:
            since, seen = since if seen else time.monotonic(), seen + 1
        else:
            assert time.monotonic() < deadline, "the old certificate is still served"
            seen = 0
    return since


def too_long(name: str) -> Pems:
    """A certificate with a chain of more than the 16 KB that HAProxy reads."""
    pems = certificate(name)
    return replace(pems, chain=pems.chain * (16384 // len(pems.chain) + 1))


class Stranger:
    """Something at a path that is not HAProxy: it answers the same to everybody, or not at all (None), or what it hears."""

    def __init__(self, path: Path, kind: bytes | str | None) -> None:
        self.path, self.kind, self.heard = path, kind, b""
        self._stop = threading.Event()

    def __enter__(self) -> Stranger:
        if self.kind == "file":
            self.path.write_text("")
        if self.kind in ("none", "file"):
            return self
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))
        self._socket.listen()
        self._socket.settimeout(0.05)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.kind in ("none", "file"):
            return
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(5)
                heard = connection.recv(1 << 16)
                self.heard += heard
                if self.kind is None:
                    self._stop.wait(2)
                else:
                    connection.sendall(heard if self.kind == "echo" else self.kind)  # type: ignore[arg-type]
