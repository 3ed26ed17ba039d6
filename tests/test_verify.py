"""What is served is compared with what should be: by handshakes with real servers, good ones and all kinds of others."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

import pytest
from deployments import deployment
from pebble_lab import COMMAND, environment, finish, wait_until
from stored_certificates import command, store_certificate
from tls_lab import DAY, certificate, der
from tls_servers import Server

from acme_middleware import events, verify
from acme_middleware.deploy import proofs
from acme_middleware.deploy.deployers import parse
from acme_middleware.deploy.publish import Pems, publish
from acme_middleware.issuance import verifying
from acme_middleware.issuance.renewal import record_of
from acme_middleware.presented import problem_of


@dataclass(frozen=True)
class Should:
    """What should be served."""

    names: tuple[str, ...]
    fingerprint: str
    name: str = "example.com"

    @classmethod
    def be(cls, pems: Pems, *names: str) -> Should:
        return cls(names or ("example.com",), hashlib.sha256(der(pems)).hexdigest())


def pem(made: Pems) -> bytes:
    """As a server has it: the certificate, its chain, the key."""
    return made.cert + made.chain + made.key


def stored_pem(made) -> bytes:
    return (made.cert_pem + made.chain_pem + made.key_pem).encode()


def problems(findings) -> list[str]:
    return [finding.problem for finding in findings]


def test_a_server_that_presents_the_certificate_is_found_well():
    made = certificate("example.com")
    with Server(pem(made)) as server:
        (found,) = verify.verify(Should.be(made), [server.place])
    assert (found.ok, found.problem, found.unsure) == (True, "", False)
    assert found.address == f"127.0.0.1:{server.port}"
    assert found.fingerprint == hashlib.sha256(der(made)).hexdigest()
    assert str(found) == f"example.com at 127.0.0.1:{server.port}: is served"
    assert server.asked == ["example.com"]


def test_what_was_seen_has_the_whole_chain_certificate_first():
    made = certificate("example.com")
    with Server(pem(made)) as server:
        seen = verify.served(*server.place, "example.com", timeout=5)
    assert (seen.error, len(seen.chain), seen.chain[0]) == ("", 2, der(made))
    assert seen.fingerprint == hashlib.sha256(der(made)).hexdigest()


def test_a_server_that_kept_the_old_certificate_is_caught_and_says_which_it_has():
    old, new = certificate("example.com", expires=3 * DAY), certificate("example.com")
    with Server(pem(old)) as server:
        (found,) = verify.verify(Should.be(new), [server.place])
    assert found.problem.startswith("another certificate is served, serial ")
    assert "is valid until" in found.problem
    assert found.fingerprint == hashlib.sha256(der(old)).hexdigest()


def test_an_old_certificate_that_has_expired_is_called_so():
    old, new = certificate("example.com", expires=-1 * DAY), certificate("example.com")
    with Server(pem(old)) as server:
        (kept,) = verify.verify(Should.be(new), [server.place])
        (same,) = verify.verify(Should.be(old), [server.place])
    assert kept.problem.startswith("another certificate is served, serial ")
    assert "expired at" in kept.problem
    assert same.problem.startswith("the certificate is served, and expired at")


def test_of_a_server_with_an_ec_and_an_rsa_certificate_each_is_found():
    rsa, ec, newer = certificate(kind="rsa"), certificate(), certificate(kind="rsa")
    with Server(pem(ec)) as server:
        server.load(pem(ec), besides=pem(rsa))
        assert problems(verify.verify(Should.be(ec), [server.place])) == [""]
        assert problems(verify.verify(Should.be(rsa), [server.place])) == [""]
        (old,) = verify.verify(Should.be(newer), [server.place])
    assert old.problem.startswith("another certificate is served, serial ")


def test_a_server_that_reloads_within_the_wait_is_found_well():
    old, new = certificate("example.com"), certificate("example.com")
    with Server(pem(old)) as server:

        def reload_when_asked_twice() -> None:
            while len(server.asked) < 2:
                time.sleep(0.01)
            server.load(pem(new))

        reloading = threading.Thread(target=reload_when_asked_twice)
        reloading.start()
        (found,) = verify.verify(Should.be(new), [server.place], wait=30)
        reloading.join()
    assert found.ok
    assert len(server.asked) > 2


def test_after_the_wait_it_is_said_what_is_served_still():
    old, new = certificate("example.com"), certificate("example.com")
    began = time.monotonic()
    with Server(pem(old)) as server:
        found = verify.proof(*server.place, "example.com", Should.be(new).fingerprint, wait=0.5)
    assert 0.5 <= time.monotonic() - began < 5
    assert not found.ok
    assert len(server.asked) >= 2


def test_a_hook_that_does_nothing_is_caught(tmp_path):
    with Server((deployment(tmp_path, "example.com").current / "bundle.pem").read_bytes()) as server:
        renewed = deployment(tmp_path, "example.com")
        parse(f'command:["{_true()}"]').deploy(renewed)  # and it is content
        should = Should.be(Pems(b"", (renewed.current / "cert.pem").read_bytes(), b""))
        (found,) = verify.verify(should, [server.place])
        assert found.problem.startswith("another certificate is served")
        server.load((renewed.current / "bundle.pem").read_bytes())
        assert verify.verify(should, [server.place])[0].ok


def _true() -> str:
    return next(path for path in ("/bin/true", "/usr/bin/true") if os.access(path, os.X_OK))


def test_one_of_two_addresses_that_was_left_behind_is_named(two_addresses):
    old, new = certificate("example.com"), certificate("example.com")
    with Server(pem(new)) as first, Server(pem(old), address="127.0.0.2", port=first.port) as second:
        two_addresses("example.com", first.port)
        well, behind = verify.verify(Should.be(new))
    assert (well.address, well.ok) == (f"127.0.0.1:{first.port}", True)
    assert (behind.address, behind.ok) == (f"127.0.0.2:{second.port}", False)
    assert behind.problem.startswith("another certificate is served, serial")


@pytest.fixture
def two_addresses(monkeypatch):
    """A name server that has two addresses for a name, and a port 443 that is free here."""

    def answer(name: str, port: int) -> None:
        real = socket.getaddrinfo

        def resolve(host, *arguments, **more):
            hosts = ("127.0.0.1", "127.0.0.2") if host == name else (host,)
            return [entry for one in hosts for entry in real(one, *arguments, **more)]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        monkeypatch.setattr(verify, "PORT", port)

    return answer


def test_a_name_that_gets_another_ones_certificate_is_caught():
    made = certificate("example.com")
    with Server(pem(made)) as server:
        good, wrong = verify.verify(Should.be(made, "example.com", "shop.example.com"), [server.place])
    assert good.ok
    assert wrong.name == "shop.example.com"
    assert wrong.problem == "another certificate is served, for example.com: none for this name"
    assert sorted(map(str, server.asked)) == ["example.com", "shop.example.com"]


def test_a_wildcard_is_asked_for_by_a_name_that_nobody_has_configured():
    made = certificate("*.example.com")
    with Server(pem(made)) as server:
        (found,) = verify.verify(Should.be(made, "*.example.com"), [server.place])
        (other,) = verify.verify(Should.be(made, "*.example.org"), [server.place])
    assert found.ok
    assert server.asked[0] == found.name
    assert found.name.startswith("verify-")
    assert found.name.endswith(".example.com")
    assert other.problem.endswith("for *.example.com: none for this name")


def test_a_wildcard_stands_for_one_label_and_not_for_two():
    made = certificate("*.example.com")
    with Server(pem(made)) as server:
        found = verify.verify(Should.be(made, "a.example.com", "a.b.example.com"), [server.place])
    assert [one.ok for one in found] == [True, False]


def test_an_address_is_connected_to_by_itself_and_asks_for_no_name(monkeypatch):
    made = certificate("127.0.0.1", "::1")
    with Server(pem(made)) as server:
        monkeypatch.setattr(verify, "PORT", server.port)
        (found,) = verify.verify(Should.be(made, "127.0.0.1"))
    assert found.ok
    assert server.asked == [None]


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        pytest.param(lambda made, other: made.cert, "without its chain", id="the certificate alone, as cert.pem is"),
        pytest.param(lambda made, other: made.cert + other, "none of it has issued", id="somebody else's chain"),
        pytest.param(lambda made, other: made.cert + made.cert + made.chain, "", id="the certificate twice, as in 2015"),
        pytest.param(lambda made, other: made.cert + other + made.chain, "", id="something between that is not needed"),
    ],
)
def test_the_chain_is_one_that_clients_can_follow(sent, says):
    made = certificate("example.com")
    stranger = certificate("other.example", number=1).cert
    with Server(sent(made, stranger), made.key) as server:
        (found,) = verify.verify(Should.be(made), [server.place])
    assert found.ok is (not says)
    assert says in found.problem


def test_where_there_is_no_chain_none_is_missed_and_a_wrong_one_is_wrong_all_the_same():
    made, stranger = certificate("example.com"), certificate("other.example", number=1).cert
    with Server(made.cert, made.key) as server:
        assert verify.proof(*server.place, "example.com", Should.be(made).fingerprint, chained=False).ok
        server.load(made.cert, stranger, made.key)
        found = verify.proof(*server.place, "example.com", Should.be(made).fingerprint, chained=False)
    assert "none of it has issued" in found.problem


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda der: der.replace(SAN, SAN[:-1] + b"\x13", 1), id="the names are no names"),
        pytest.param(lambda der: der[:40] + bytes(20) + der[60:], id="zeros in the middle"),
        pytest.param(lambda der: der[:-50], id="the end is missing"),
        pytest.param(lambda der: b"", id="nothing at all"),
    ],
)
def test_a_certificate_that_cannot_be_read_is_a_problem_and_no_accident(damage):
    sent = damage(der(certificate("example.com")))
    said = problem_of([sent], "example.com", hashlib.sha256(sent).hexdigest(), "0" * 64)
    assert said.startswith(("a certificate is served that cannot be read: ", "another certificate is served, for no name"))


SAN = b"\x06\x03\x55\x1d\x11"
"""The object identifier of the extension with the names."""


def test_a_certificate_draws_nothing_on_the_screen():
    hostile = Should.be(certificate("example.com"))
    shown = problem_of([der(_named(b"bad\x1b[2Jxxx.com"))], "example.com", "1" * 64, hostile.fingerprint)
    assert "another certificate is served, for bad" in shown
    assert shown.isprintable()


def _named(name: bytes) -> Pems:
    """A certificate whose name is no host's: as long as one that is, and then changed."""
    made = certificate("n" * len(name))
    changed = der(made).replace(b"n" * len(name), name)
    return Pems(made.key, ssl.DER_cert_to_PEM_cert(changed).encode(), made.chain)


def test_nobody_there_is_no_proof():
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = free.getsockname()
    (found,) = verify.verify(Should.be(certificate()), [place])
    assert found.problem == "no connection: Connection refused"
    assert not found.unsure


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "the TLS handshake fails: ", id="plain HTTP"),
        pytest.param(b"\0" * 3000, "the TLS handshake fails: ", id="rubbish"),
        pytest.param(b"", "", id="the end, at once"),
        pytest.param(None, "no answer within 0.5 s", id="nothing, for ever"),
    ],
)
def test_what_is_no_tls_server_is_told_in_time(answer, says):
    done = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            if answer is None:
                done.wait(30)
            else:
                with suppress(OSError):  # the client may be gone by then, with some of it unread
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(10_000)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        began = time.monotonic()
        seen = verify.served(*listener.getsockname(), "example.com", timeout=0.5 if answer is None else 20)
        took = time.monotonic() - began
        done.set()
        serving.join()
    assert (seen.fingerprint, seen.chain) == ("", ())
    assert seen.error.startswith(says)
    assert seen.error
    assert took < 15


def test_a_name_that_does_not_resolve_is_told():
    (found,) = verify.verify(Should.be(certificate(), "no-such-host.invalid"))
    assert found.address == ""
    assert found.problem.startswith("no-such-host.invalid does not resolve here")
    assert not found.unsure


def test_an_address_that_this_host_has_no_network_for_is_left_out_where_another_was_asked():
    made = certificate()
    nowhere = ("fe80::1", 443)  # of which network it is, nobody has said
    with Server(pem(made)) as server:
        well, unsure = verify.verify(Should.be(made), [server.place, nowhere])
    assert (well.ok, unsure.ok, unsure.unsure) == (True, False, True)
    (alone,) = verify.verify(Should.be(made), [nowhere])
    assert (alone.ok, alone.unsure) == (False, False)


# ------------------------------------------------------------------------------------------------------------ the command


def run(folder, *words):
    ended = command(folder, "verify", *words)
    assert "Traceback" not in ended.err
    return ended


def status_of(folder, name="example.com"):
    shown = json.loads(command(folder, "status", "--json").out)["certificates"]
    return next(one for one in shown if one["name"] == name)["verified"]


def test_the_command_says_where_the_old_one_is_and_status_remembers(tmp_path):
    old = store_certificate(tmp_path / "store", "example.com")
    assert status_of(tmp_path) is None
    with (
        Server(stored_pem(old)) as first,
        Server(stored_pem(old), address="127.0.0.2", port=first.port) as second,
    ):
        at = ("--address", f"127.0.0.1:{first.port}", "--address", f"127.0.0.2:{second.port}")
        ended = run(tmp_path, *at)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out == "".join(f"  ✓ example.com at {one.address}:{one.port}: is served\n" for one in (first, second))
        assert status_of(tmp_path)["served"] is True

        new = store_certificate(tmp_path / "store", "example.com")
        assert status_of(tmp_path) is None  # that was another certificate
        first.load(stored_pem(new))
        ended = run(tmp_path, "example.com", *at)
        assert ended.code == 1
        well, behind = ended.out.splitlines()
        assert well == f"  ✓ example.com at 127.0.0.1:{first.port}: is served"
        assert behind.startswith(f"  ✗ example.com at 127.0.0.2:{second.port}: another certificate is served, serial ")
        kept = status_of(tmp_path)
        assert (kept["served"], len(kept["problems"])) == (False, 1)
        table = command(tmp_path, "status").out
        assert "SERVED" in table
        assert f"not served: example.com at 127.0.0.2:{second.port}: another certificate" in table

        second.load(stored_pem(new))
        assert run(tmp_path, *at).code == 0
        assert status_of(tmp_path) | {"at": ""} == {"served": True, "at": "", "problems": []}


def test_json_has_it_all_in_one_object(tmp_path):
    made = store_certificate(tmp_path / "store", "example.com", "example.com", "shop.example.com")
    store_certificate(tmp_path / "store", "other.example")
    with Server(stored_pem(made)) as server:
        ended = run(tmp_path, "--json", "--address", f"127.0.0.1:{server.port}")
    document = json.loads(ended.out)
    assert (ended.code, document["exit_code"]) == (1, 1)
    good, bad = document["certificates"]
    assert (good["name"], good["served"], good["problem"]) == ("example.com", True, "")
    assert [one["name"] for one in good["findings"]] == ["example.com", "shop.example.com"]
    assert good["findings"][0] == {
        "name": "example.com",
        "address": f"127.0.0.1:{server.port}",
        "fingerprint": good["fingerprint"],
        "problem": "",
        "unsure": False,
    }
    assert (bad["name"], bad["served"]) == ("other.example", False)
    assert "none for this name" in bad["findings"][0]["problem"]


def test_the_command_misses_no_chain_where_the_published_one_is_empty(tmp_path):
    made = store_certificate(tmp_path / "store", "example.com", published=False, chain_pem="")
    alone = Pems(made.key_pem.encode(), made.cert_pem.encode(), b"")
    with Server(pem(alone)) as server:
        at = ("--address", f"127.0.0.1:{server.port}")
        assert "is served without its chain" in run(tmp_path, *at).out
        publish(tmp_path / "store" / "live", "example.com", lambda: alone)
        assert run(tmp_path, *at).code == 0


def test_listeners_are_told_whether_it_is_served(tmp_path):
    made = store_certificate(tmp_path / "store", "example.com")
    record, told = record_of(made), []
    with Server(stored_pem(made)) as server:
        found = verifying.prove(record, tmp_path / "store" / "live", [server.place], emit=told.append)
        assert found.served
        server.load(pem(certificate("example.com")))
        verifying.prove(record, None, [server.place], emit=told.append)
    served, not_served = told
    assert served == events.Verified(name="example.com", addresses=(f"127.0.0.1:{server.port}",))
    assert isinstance(not_served, events.NotServed)
    assert "another certificate is served, serial" in not_served.problems[0]


def test_one_that_is_declared_and_was_never_issued_is_not_served(tmp_path):
    (tmp_path / "options.toml").write_text('[certificates]\n"new.example" = {}\n')
    store_certificate(tmp_path / "store", "example.com")
    ended = run(tmp_path, "new.example", "--config", "options.toml")
    assert (ended.code, ended.out) == (1, "  ✗ new.example: there is no certificate yet\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["exmaple.com"], "example.com", id="a name that is none, with the nearest"),
        pytest.param(["--address", "127.0.0.1"], "--address takes HOST:PORT", id="an address without a port"),
        pytest.param(["--wait", "-1"], "--wait", id="a wait below zero"),
    ],
)
def test_wrong_words_are_refused(tmp_path, words, says):
    store_certificate(tmp_path / "store", "example.com")
    ended = run(tmp_path, *words)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err


def test_who_gives_up_does_not_wait_for_what_is_waited_for(tmp_path):
    store_certificate(tmp_path / "store", "example.com")
    with Server(pem(certificate("example.com"))) as server:
        waiting = subprocess.Popen(
            [*COMMAND, "verify", "--wait", "3600", "--address", f"127.0.0.1:{server.port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment({"ACME_STORE": f"file:{tmp_path / 'store'}"}),
        )
        try:
            wait_until(lambda: len(server.asked) > 3, "it asks again")
            waiting.send_signal(signal.SIGINT)
            ended = finish(waiting, limit=30)
        finally:
            waiting.kill()
    assert (ended.code, ended.out) == (130, "")
    assert ended.err.startswith("error: interrupted\n")


def test_where_the_outcome_cannot_be_kept_it_is_told_all_the_same(tmp_path):
    made = store_certificate(tmp_path / "store", "example.com")
    (tmp_path / "store" / "live" / proofs.FOLDER).write_text("in the way")
    with Server(stored_pem(made)) as server:
        ended = run(tmp_path, "--address", f"127.0.0.1:{server.port}")
    assert (ended.code, ended.out) == (0, f"  ✓ example.com at 127.0.0.1:{server.port}: is served\n")
    assert status_of(tmp_path) is None


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b'{"schema": 2, "at": "2026-01-01T00:00:00+00:00"}', id="of a newer version"),
        pytest.param(b'{"schema": 1, "at": "yesterday"}', id="no time"),
        pytest.param(b"\xff", id="no text"),
    ],
)
def test_a_damaged_proof_is_none_and_the_next_look_replaces_it(tmp_path, damage):
    made = store_certificate(tmp_path / "store", "example.com")
    with Server(stored_pem(made)) as server:
        assert run(tmp_path, "--address", f"127.0.0.1:{server.port}").code == 0
        file = tmp_path / "store" / "live" / proofs.FOLDER / "example.com.json"
        assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o644, 0o755)
        file.write_bytes(damage)
        assert proofs.read(tmp_path / "store" / "live", "example.com") is None
        assert status_of(tmp_path) is None
        assert run(tmp_path, "--address", f"127.0.0.1:{server.port}").code == 0
    assert status_of(tmp_path)["served"] is True


def test_a_certificate_that_is_deleted_with_its_files_leaves_no_proof(tmp_path):
    made = store_certificate(tmp_path / "store", "example.com")
    with Server(stored_pem(made)) as server:
        run(tmp_path, "--address", f"127.0.0.1:{server.port}")
    assert proofs.read(tmp_path / "store" / "live", "example.com") is not None
    assert command(tmp_path, "delete", "example.com", "--yes", "--files").code == 0
    assert list((tmp_path / "store" / "live" / proofs.FOLDER).iterdir()) == []
