"""The CA as a server: its keys on the disk, its port, its connections, and many clients at once."""

from __future__ import annotations

import contextlib
import errno
import http.client
import itertools
import json
import os
import re
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ca_lab import Lab
from cryptography import x509
from raw_acme import connected

from acme_middleware import clock
from acme_middleware.errors import ConfigurationError
from acme_middleware.local_ca import LocalCA


def test_keys_and_roots_are_made_once_and_kept(tmp_path: Path) -> None:
    state = tmp_path / "a/b/state"
    with LocalCA(state=state, chain_length=2, alternates=1) as first:
        kept = files(state)
        roots = [first.root(0), first.root(1)]
    with LocalCA(state=state, chain_length=2, alternates=1) as second:
        assert files(state) == kept
        assert [second.root(0), second.root(1)] == roots
        assert second.ca_bundle == state / "root.pem"
        assert second.ca_bundle.read_text() == second.root_pem == roots[0]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_keys_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    state = tmp_path / "state"
    before = os.umask(umask)
    try:
        with LocalCA(state=state):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o600}


def test_folder_that_others_can_read_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o755)
    with pytest.raises(ConfigurationError, match="others can read") as caught:
        LocalCA(state=state).start()
    assert caught.value.hint.startswith("chmod 700")
    assert list(state.iterdir()) == []


def test_what_somebody_has_deleted_is_made_anew_with_all_that_hangs_on_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with LocalCA(state=state, chain_length=2, alternates=1) as ca:
        old = ca.root_pem
    for word in ("root", "intermediate-1"):
        (state / f"{word}.key").unlink()
        (state / f"{word}.pem").unlink()
        with Lab(state) as lab:
            lab.start(chain_length=2, alternates=1)
            leaf, *above = lab.issue(lab.client()).chain
            root = x509.load_pem_x509_certificate(lab.ca.root_pem.encode())
            for below, issuer in itertools.pairwise([leaf, *above, root]):
                below.verify_directly_issued_by(issuer)
            assert lab.ca.root_pem != old


@pytest.mark.parametrize("file", ["root.key", "root.pem", "https.pem"])
def test_file_that_is_spoilt_is_named(tmp_path: Path, file: str) -> None:
    state = tmp_path / "state"
    with LocalCA(state=state):
        pass
    (state / file).write_bytes(b"-----BEGIN NOTHING-----")
    with pytest.raises(ConfigurationError, match=f"{re.escape(file)} is not a file of this CA"):
        LocalCA(state=state).start()


def test_state_in_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot keep its keys in .*/file/state"):
        LocalCA(state=tmp_path / "file/state").start()


def test_half_written_file_of_a_start_that_was_killed_stops_nobody(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(0o700)
    (state / "root.new").write_bytes(b"-----BEGIN PRIV")
    with LocalCA(state=state) as ca, connected(ca.directory_url, ca.ca_bundle):
        assert not (state / "root.new").exists()


def test_two_that_start_at_once_share_one_root(tmp_path: Path) -> None:
    cas = [LocalCA(state=tmp_path / "state") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(LocalCA.start, cas))
    try:
        assert len({ca.root_pem for ca in cas}) == 1
        for ca in cas:
            with connected(ca.directory_url, ca.ca_bundle):
                pass
    finally:
        for ca in cas:
            ca.stop()


def test_without_a_state_folder_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with LocalCA() as ca:
        assert ca.ca_bundle.is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_state_folder_nothing_is_left_by_a_start_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use") as caught:
        LocalCA(port=taken.getsockname()[1]).start()
    assert caught.value.errno == errno.EADDRINUSE
    assert list(tmp_path.iterdir()) == []


def test_certificates_are_valid_by_a_clock_that_is_years_behind_or_ahead(tmp_path: Path) -> None:
    for years in (-5, 3):
        moved = datetime.now(UTC) + timedelta(days=365 * years)
        with LocalCA(state=tmp_path / str(years), clock=lambda moved=moved: moved) as ca:
            root = x509.load_pem_x509_certificate(ca.root_pem.encode())
            assert root.not_valid_before_utc < moved < root.not_valid_after_utc
            # Its HTTPS is checked by the real time of this client.
            with connected(ca.directory_url, ca.ca_bundle):
                pass


def test_roots_of_another_time_are_named_as_what_is_wrong(tmp_path: Path) -> None:
    with LocalCA(state=tmp_path / "state"):
        pass
    past = datetime.now(UTC) - timedelta(days=1000)
    with pytest.raises(ConfigurationError, match=r"its own certificates in .* are not valid"):
        LocalCA(state=tmp_path / "state", clock=lambda: past).start()


def test_clock_of_the_project_is_the_clock_of_the_ca() -> None:
    with LocalCA() as ca, clock.replaced(lambda: datetime(2031, 1, 2, tzinfo=UTC)):
        assert ca.now() == datetime(2031, 1, 2, tzinfo=UTC)


def test_https_certificate_is_renewed_when_it_is_old_or_for_other_hosts(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with LocalCA(state=state):
        first = (state / "https.pem").read_bytes()
    with LocalCA(state=state, host="127.0.0.2") as ca:
        second = (state / "https.pem").read_bytes()
        assert second != first
        with connected(f"https://127.0.0.2:{ca.port}/directory", ca.ca_bundle) as client:
            assert client.directory["newNonce"].startswith(f"https://127.0.0.2:{ca.port}/")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_urls_begin_with_the_host_that_the_client_used(lab: Lab, host: str) -> None:
    with connected(f"https://{host}:{lab.ca.port}/directory", lab.ca.ca_bundle) as client:
        urls = [url for url in client.directory.values() if isinstance(url, str)]
        assert len(urls) == 6
        assert all(url.startswith(f"https://{host}:{lab.ca.port}/") for url in urls)
        client.register().ok(201)
        assert client.account.startswith(f"https://{host}:{lab.ca.port}/")
        lab.issue(client)


def test_host_that_is_not_the_cas_gets_urls_of_the_ca(lab: Lab) -> None:
    client = lab.stranger()
    answer = client.request("GET", client.directory_url, headers={"Host": "evil.test"})
    assert answer.json()["newOrder"] == client.directory["newOrder"]


def test_ca_listens_at_ipv6_where_it_is_told_so(tmp_path: Path) -> None:
    with (
        LocalCA(host="::1", state=tmp_path / "state") as ca,
        connected(f"https://[::1]:{ca.port}/directory", ca.ca_bundle) as client,
    ):
        client.register().ok(201)
        assert client.account.startswith(f"https://[::1]:{ca.port}/account/")


def test_ca_is_exposed_only_when_told_so(tmp_path: Path) -> None:
    with (
        LocalCA(host="0.0.0.0", expose=True, state=tmp_path / "state") as ca,
        connected(ca.directory_url, ca.ca_bundle) as client,
    ):
        client.register().ok(201)


def test_ca_is_reached_by_the_names_that_it_was_given(tmp_path: Path) -> None:
    with LocalCA(names=["ca.internal", "127.0.0.9"], state=tmp_path / "state") as ca:
        context = ssl.create_default_context(cafile=ca.ca_bundle)
        for name in ("ca.internal", "127.0.0.9"):
            with (
                socket.create_connection(("127.0.0.1", ca.port), timeout=10) as raw,
                context.wrap_socket(raw, server_hostname=name) as connection,
            ):
                connection.sendall(f"GET /directory HTTP/1.1\r\nHost: {name}:{ca.port}\r\nUser-Agent: raw\r\n\r\n".encode())
                response = http.client.HTTPResponse(connection)
                response.begin()
                assert json.loads(response.read())["newOrder"] == f"https://{name}:{ca.port}/new-order"


def test_connection_stays_open_from_request_to_request(lab: Lab) -> None:
    client = lab.client()
    port = client.connection.sock.getsockname()[1]
    lab.issue(client)
    client.post(f"{client.account}x").refused("unauthorized", 403)
    assert client.connection.sock.getsockname()[1] == port


def test_head_has_no_body_and_the_length_of_get(lab: Lab) -> None:
    client = lab.stranger()
    head, get = (client.request(method, client.directory_url) for method in ("HEAD", "GET"))
    assert head.body == b""
    assert head.headers["Content-Length"] == str(len(get.body))


def test_post_as_get_of_the_directory_is_answered_as_get(lab: Lab) -> None:
    client = lab.client()
    assert client.post(client.directory_url).ok().json() == client.directory


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/", 404, id="the root"),
        pytest.param("GET", "/directory/", 404, id="a slash after a path"),
        pytest.param("GET", "/order//x", 404, id="two slashes within it"),
        pytest.param("POST", "/terms", 405, id="POST where there is only GET"),
        pytest.param("PUT", "/new-order", 405, id="PUT"),
        pytest.param("DELETE", "/directory", 405, id="DELETE"),
        pytest.param("HEAD", "/new-order", 405, id="HEAD where there is only POST"),
        pytest.param("GET", "/order/%2e%2e/x", 404, id="dots"),
    ],
)
def test_request_that_makes_no_sense_is_refused(lab: Lab, method: str, path: str, status: int) -> None:
    client = lab.stranger()
    answer = client.request(method, f"https://localhost{path}")
    assert answer.status == status
    assert answer.headers.get_content_type() == "application/problem+json"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"{", b"\xff", b'{"protected": 1, "payload": "", "signature": ""}', b"[" * 60_000]
)
def test_body_that_is_no_jws_is_malformed(lab: Lab, body: bytes) -> None:
    client = lab.stranger()
    answer = client.request("POST", client.directory["newOrder"], body, {"Content-Type": "application/jose+json"})
    answer.refused("malformed", 400)


def test_request_of_more_than_64_kib_is_413(lab: Lab) -> None:
    client = lab.stranger()
    headers = {"Content-Type": "application/jose+json", "Content-Length": str(1 << 30)}
    assert client.request("POST", client.directory["newOrder"], b"", headers).status == 413


def test_request_without_a_length_is_413_and_ends_the_connection(lab: Lab) -> None:
    with tls(lab.ca) as connection:
        connection.sendall(b"POST /new-order HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert (response.status, response.getheader("Connection")) == (413, "close")


def test_client_that_does_not_speak_stops_nobody(lab: Lab) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", lab.ca.port)))
        began = time.monotonic()
        lab.issue(lab.client())
        assert time.monotonic() - began < 5


def test_client_that_speaks_no_tls_stops_nobody(lab: Lab) -> None:
    with socket.create_connection(("127.0.0.1", lab.ca.port)) as connection:
        connection.sendall(b"GET /directory HTTP/1.1\r\n\r\n")
        connection.settimeout(10)
        try:
            answer = connection.recv(100)
        except ConnectionResetError:
            answer = b""
        # At the most it is told so by a TLS alert, whose type is 21.
        assert answer[:1] in (b"", b"\x15")
    lab.client()


def test_stopping_ends_open_connections_and_frees_the_port(tmp_path: Path) -> None:
    ca = LocalCA(state=tmp_path / "state")
    ca.start()
    port = ca.port
    with tls(ca) as connection:
        ca.stop()
        assert connection.recv(1) == b""
    with LocalCA(port=port, state=tmp_path / "state") as again:
        assert again.port == port
    ca.stop()  # twice is no error


def test_stopped_ca_says_so() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        _ = LocalCA().port
    with pytest.raises(RuntimeError, match="not started"):
        _ = LocalCA().ca_bundle


def test_threads_end_with_the_ca(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with Lab(tmp_path / "state") as lab:
        lab.issue(lab.client())
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, set(threading.enumerate()) - before
        time.sleep(0.01)


def test_eight_clients_at_once_get_their_certificates(lab: Lab) -> None:
    ca = lab.ca

    def one(number: int) -> int:
        with connected(ca.directory_url, ca.ca_bundle) as client:
            client.register().ok(201)
            return len({lab.issue(client, f"c{number}-{turn}.test").leaf.serial_number for turn in range(5)})

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(8))) == 40
    assert len(ca.state.certificates) == 40
    assert len(ca.state.accounts) == 8


def test_a_hundred_connections_at_once_are_all_answered(lab: Lab) -> None:
    ca = lab.ca

    def one(number: int) -> int:
        with connected(ca.directory_url, ca.ca_bundle) as client:
            return client.request("HEAD", client.directory["newNonce"]).status

    began = time.monotonic()
    with ThreadPoolExecutor(100) as pool:
        assert list(pool.map(one, range(100))) == [200] * 100
    assert time.monotonic() - began < 15


def test_requests_are_told_with_their_statuses(lab: Lab) -> None:
    client = lab.client()
    lab.ca.fault("reset-before", where="account")
    with pytest.raises(ConnectionResetError):
        client.post(client.account)
    assert [(entry.method, entry.status) for entry in lab.ca.requests("new-account", "account")] == [("POST", 201), ("POST", 0)]
    assert [entry.resource for entry in lab.ca.requests()][:3] == ["directory", "new-nonce", "new-account"]


def test_site_is_asked_by_as_many_perspectives_as_the_ca_has(tmp_path: Path) -> None:
    with Lab(tmp_path / "state") as lab:
        lab.start(perspectives=5)
        lab.issue(lab.client())
        assert len(lab.site.asked) == 5
        assert len(set(lab.site.asked)) == 1


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextlib.contextmanager
def tls(ca: LocalCA) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=ca.ca_bundle)
    with (
        socket.create_connection(("127.0.0.1", ca.port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=True) as connection,
    ):
        yield connection
