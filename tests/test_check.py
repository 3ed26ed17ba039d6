"""``check``: what it finds out about a host, what it says to do, and that it changes nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from stored_certificates import command, store_certificate

from acme_middleware import clock, encryption_keys
from acme_middleware.lease import lease
from acme_middleware.local_ca import LocalCA
from acme_middleware.stores import open_store
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.stores.sealed import SealedStore
from acme_middleware.stores.sql import SQLStore

NO_CA = ("--ca", "https://127.0.0.1:1/directory")


@pytest.fixture(scope="module")
def keys_of_cas(tmp_path_factory):
    return tmp_path_factory.mktemp("ca")


@pytest.fixture(scope="module")
def ca(keys_of_cas):
    with LocalCA(state=keys_of_cas, terms=False) as server:
        yield server


@pytest.fixture
def check(tmp_path, ca):
    """Run it with --json; the exit code, and what was found, in order."""

    def run(*words: str, **env: str):
        at = {"ACME_CA": ca.directory_url, "ACME_CA_BUNDLE": str(ca.ca_bundle)}
        ended = command(tmp_path, "check", "--json", *words, env={**at, **env})
        assert ended.err == ""
        document = json.loads(ended.out)
        assert document["exit_code"] == ended.code
        assert document["role"] in ("issuing", "serving")
        return ended.code, document["findings"]

    return run


def about(findings, what):
    (found,) = [one for one in findings if one["what"] == what]
    return found["level"], found["said"], found["hint"]


def test_a_host_that_is_well_is_said_to_be_so_line_by_line(tmp_path, ca):
    at = {"ACME_CA": ca.directory_url, "ACME_CA_BUNDLE": str(ca.ca_bundle)}
    ended = command(tmp_path, "check", env=at)
    assert (ended.code, ended.err) == (0, "")
    assert [line.split(":")[0].partition(" localhost")[0] for line in ended.out.splitlines()] == [
        "  ✓ options",
        "  ✓ challenge store",
        "  ✓ store",
        "  ✓ encryption",
        "  ✓ leases",
        "  ✓ files",
        "  ✓ CA",
        "  ✓ clock",
    ]
    assert list(DirectoryStore(tmp_path / "store").scan("")) == []
    assert [path for path in (tmp_path / "store" / "challenges").rglob("*") if path.is_file()] == []


def test_a_terminal_that_has_no_ticks_gets_letters(tmp_path):
    ended = command(tmp_path, "check", "--role", "serving", env={"PYTHONIOENCODING": "ascii"})
    assert ended.code == 0
    assert ended.out.startswith("  ok options: are valid\n")


@pytest.mark.parametrize("command_line", [["--role", "serving"], []], ids=["serving", "issuing"])
def test_a_wrong_option_is_named_and_nothing_else_is_tried(check, command_line):
    code, found = check(*command_line, ACME_KEY_TYPE="rsa1024")
    assert code == 2
    assert [one["what"] for one in found] == ["options"]
    level, said, _ = about(found, "options")
    assert (level, "ACME_KEY_TYPE" in said) == ("wrong", True)


def test_every_part_is_tried_though_the_first_is_wrong(check, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    code, found = check(
        ACME_CHALLENGE_STORE="webroot:/not/there", ACME_STORE=f"file:{tmp_path}/file", ACME_PUBLISH_DIR=f"{tmp_path}/file"
    )
    assert code == 2
    assert {one["what"]: one["level"] for one in found if one["level"] != "ok"} == {
        "challenge store": "wrong",
        "store": "wrong",
    }
    assert about(found, "clock")[0] == "ok"
    assert about(found, "challenge store")[2] == "make it, or correct the store's URL"


def test_a_folder_of_files_that_cannot_be_written_is_named(check, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    code, found = check(ACME_PUBLISH_DIR=f"{tmp_path}/file/live")
    assert code == 2
    level, said, hint = about(found, "files")
    assert (level, str(tmp_path / "file") in said, bool(hint)) == ("wrong", True, True)


def test_an_owner_that_nobody_is_called_is_named(check):
    code, found = check("--owner", "no-such-user")
    assert code == 2
    level, said, _ = about(found, "files")
    assert (level, "no-such-user" in said) == ("wrong", True)


def test_the_folder_of_each_certificate_is_tried(check, tmp_path):
    store_certificate(tmp_path / "store", "example.com", published=False)
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "example.com").write_text("not a folder")
    code, found = check(ACME_PUBLISH_DIR=f"{tmp_path}/live")
    assert code == 2
    assert "example.com" in about(found, "files")[1]


@pytest.mark.parametrize(
    ("words", "env", "what"),
    [
        pytest.param(NO_CA, {}, "CA 127.0.0.1_1", id="the CA"),
        pytest.param((), {"ACME_STORE": "redis://acme:secret@127.0.0.1:1/0"}, "store", id="the store"),
        pytest.param((), {"ACME_CHALLENGE_STORE": "postgresql://acme:secret@127.0.0.1:1/x"}, "challenge store", id="tokens"),
        pytest.param(
            ("--role", "serving"), {"ACME_STORE": "mysql://acme:secret@127.0.0.1:1/x"}, "challenge store", id="serving"
        ),
    ],
)
def test_what_does_not_answer_now_is_for_later(check, words, env, what):
    code, found = check(*words, **env)
    assert code == 75
    assert any(one["what"].startswith(what) and one["level"] == "unavailable" and one["hint"] for one in found)
    assert "secret" not in json.dumps(found)


@pytest.mark.parametrize(
    ("off", "level", "code"),
    [
        pytest.param(timedelta(seconds=30), "ok", 0, id="half a minute"),
        pytest.param(timedelta(minutes=10), "warning", 0, id="ten minutes"),
        pytest.param(timedelta(hours=-3), "wrong", 2, id="three hours"),
    ],
)
def test_the_clock_is_compared_with_the_cas(check, keys_of_cas, off, level, code):
    with LocalCA(state=keys_of_cas, terms=False, clock=lambda: clock.now() + off) as other:
        ended, found = check("--ca", other.directory_url)
    assert ended == code
    last = found[-1]
    assert (last["level"], "clock" in last["what"] + last["said"] + last["hint"]) == (level, True)
    assert level == "ok" or "timedatectl" in last["hint"]


def test_terms_that_nobody_has_agreed_to_are_a_warning(check, keys_of_cas):
    with LocalCA(state=keys_of_cas, terms=True) as other:
        code, found = check("--ca", other.directory_url)
        assert code == 0
        assert any("terms of service" in one["said"] and "--agree-tos" in one["hint"] for one in found)
        code, found = check("--ca", other.directory_url, "--agree-tos")
    assert not any("terms of service" in one["said"] for one in found)


class TestLeases:
    def test_a_holder_is_named_with_its_age(self, check, tmp_path):
        with lease(DirectoryStore(tmp_path / "store"), "*.example.com", ttl=30):
            level, said, _ = about(check()[1], "leases")
        assert level == "ok"
        assert said.startswith(f"*.example.com is held by process {os.getpid()} on {socket.gethostname()}, for ")
        assert said.endswith(" s")
        assert about(check()[1], "leases")[1] == "nobody holds one"

    def test_a_holder_that_died_is_said_to_be_dead(self, check, tmp_path):
        code = (
            "from acme_middleware.lease import lease\nfrom acme_middleware.stores import open_store\nimport time\n"
            f"with lease(open_store('file:{tmp_path}/store'), 'example.com'):\n"
            "    print('held', flush=True)\n    time.sleep(100)\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
            assert holder.stdout.readline() == b"held\n"
            holder.send_signal(signal.SIGKILL)
            holder.wait(30)
        level, said, hint = about(check()[1], "leases")
        assert level == "warning"
        assert f"held by process {holder.pid}" in said
        assert said.endswith("that process has died")
        assert hint

    def test_a_holder_of_another_host_that_is_silent_is_a_warning(self, check, tmp_path):
        now = clock.now().timestamp()
        holder = {"host": "web-9", "boot": "b", "namespace": "n", "pid": 7, "started": "1"}
        facts = {
            "schema": 1,
            "state": "held",
            "lease": "l",
            "ttl": 60,
            "holder": holder,
            "since": now - 7200,
            "seen": now - 600,
        }
        DirectoryStore(tmp_path / "store").put("lock/example.com", json.dumps(facts).encode())
        level, said, _ = about(check()[1], "leases")
        assert level == "warning"
        assert said == "example.com is held by process 7 on web-9, for 2 h; its last sign of life is 10 min old"

    @pytest.mark.parametrize("value", [b"garbage", b'{"lease": "x", "since": "never", "seen": 1e99, "ttl": -1}'], ids=repr)
    def test_a_record_that_nobody_can_read_harms_nobody(self, check, tmp_path, value):
        DirectoryStore(tmp_path / "store").put("lock/example.com", value)
        code, found = check()
        assert code == 0
        assert about(found, "leases")


class TestEncryption:
    KEY, OTHER = encryption_keys.new(), encryption_keys.new()

    @pytest.fixture
    def shared(self, tmp_path):
        """A store that is no folder: what is in it is read by whoever has a backup of it."""
        url = f"sqlite:///{tmp_path}/shared.db"
        SQLStore(url).make_tables()
        return url

    def test_a_shared_store_without_keys_is_a_warning(self, check, shared):
        code, found = check(ACME_STORE=shared)
        level, _, hint = about(found, "encryption")
        assert (code, level) == (0, "warning")
        assert "ACME_ENCRYPTION_KEYS" in hint

    def test_records_that_are_not_encrypted_yet_are_counted(self, check, shared):
        open_store(shared).put("certificate/a", b"plain")
        SealedStore(open_store(shared), encryption_keys.read(self.KEY)).put("certificate/b", b"sealed")
        code, found = check(ACME_STORE=shared, ACME_ENCRYPTION_KEYS=self.KEY)
        level, said, hint = about(found, "encryption")
        assert (code, level, said) == (0, "warning", "of 2 private records 1 are not encrypted yet")
        assert "keys rotate" in hint

    def test_a_file_that_is_no_record_is_named(self, check, tmp_path):
        store = DirectoryStore(tmp_path / "store")
        store.put("certificate/a", b"plain")
        (tmp_path / "store/certificate/other.example").write_bytes(b"")
        code, found = check()
        level, said, _ = about(found, "encryption")
        assert (code, level) == (2, "wrong")
        assert "other.example" in said

    def test_all_that_is_encrypted_can_be_opened(self, check, shared):
        SealedStore(open_store(shared), encryption_keys.read(self.KEY)).put("certificate/b", b"sealed")
        level, said, _ = about(check(ACME_STORE=shared, ACME_ENCRYPTION_KEYS=self.KEY)[1], "encryption")
        assert (level, said) == ("ok", "on; 1 private records, and all can be opened")

    @pytest.mark.parametrize("keys", ["", OTHER], ids=["no key", "another key"])
    def test_a_record_that_no_key_opens_is_wrong(self, check, shared, keys):
        SealedStore(open_store(shared), encryption_keys.read(self.KEY)).put("certificate/b", b"sealed")
        code, found = check(ACME_STORE=shared, ACME_ENCRYPTION_KEYS=keys)
        level, said, hint = about(found, "encryption")
        assert (code, level) == (2, "wrong")
        assert "certificate/b" in said
        assert hint
        assert self.KEY not in json.dumps(found)


class TestServing:
    def test_the_state_is_not_opened_no_secret_is_read_and_no_ca_is_asked(self, check, tmp_path):
        wrong = {
            "ACME_STORE": "nothing:",
            "ACME_CA": "https://127.0.0.1:1/directory",
            "ACME_ENCRYPTION_KEYS_FILE": "/not/there",
            "ACME_EAB_HMAC_KEY_FILE": "/not/there",
        }
        code, found = check("--role", "serving", ACME_CHALLENGE_STORE=f"file:{tmp_path}/store", **wrong)
        assert code == 0
        assert [one["what"] for one in found] == ["options", "challenge store"]
        assert check(ACME_CHALLENGE_STORE=f"file:{tmp_path}/store", **wrong)[0] == 2

    def test_nothing_is_written(self, check, tmp_path):
        assert check("--role", "serving", ACME_STORE=f"file:{tmp_path}/state")[0] == 0
        assert not (tmp_path / "state").exists()

    def test_a_store_in_memory_is_refused(self, check):
        code, found = check("--role", "serving", ACME_STORE="memory:")
        assert code == 2
        assert "memory:" in about(found, "options")[1]

    def test_a_server_that_says_nothing_ends_within_seconds(self, check):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            done = threading.Timer(20, silent.close)
            done.start()
            began = clock.now()
            code, _ = check("--role", "serving", ACME_STORE=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
            took = clock.now() - began
            done.cancel()
        assert code == 75
        assert took < timedelta(seconds=10)
