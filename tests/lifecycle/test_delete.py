"""Forgetting a certificate: what goes, what stays, and who is asked."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from stored_certificates import at_a_terminal, command, keys_of, store_certificate, store_order

from acme_middleware import options
from acme_middleware.issuance.deleting import delete
from acme_middleware.issuance.records import AccountRecord, account_key, certificate_key
from acme_middleware.lease import lease
from acme_middleware.stores.base import key
from acme_middleware.stores.directory import DirectoryStore

NAME, OTHER = "example.com", "other.example"
OTHERS = {"renewal/other.example", "certificate/other.example", "account/letsencrypt/default", "ledger/letsencrypt/bbb"}


def fill(folder: Path) -> DirectoryStore:
    """Two certificates with all that can be there about one, and an account."""
    store_order(folder / "store", store_certificate(folder / "store", NAME))
    store_certificate(folder / "store", OTHER)
    store = DirectoryStore(folder / "store")
    AccountRecord(directory="https://ca.example/", key_pem="KEY").write(store, account_key("letsencrypt", "default"))
    for hashed, name in (("aaa", NAME), ("bbb", OTHER)):
        store.put(key("ledger", "letsencrypt", hashed), json.dumps({"schema": 1, "name": name}).encode())
    return store


def test_all_that_is_known_of_a_name_goes_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path)
    ended = command(tmp_path, "delete", NAME, "--yes")
    assert ended.code == 0, ended.text
    assert keys_of(tmp_path / "store") == OTHERS
    assert (tmp_path / "store/live" / NAME / "current/privkey.pem").exists()
    assert "removed     example.com: its renewal, an order under way, its failures, certificate and key" in ended.out
    assert "--files removes those too" in ended.out
    assert "is valid until" in ended.out
    assert command(tmp_path, "delete", NAME, "--yes").code == 2


def test_published_files_go_when_that_is_asked_for_and_what_others_put_there_stays(tmp_path: Path) -> None:
    fill(tmp_path)
    folder = tmp_path / "store/live" / NAME
    (folder / "notes.txt").write_text("ours")
    ended = command(tmp_path, "delete", NAME, "--yes", "--files", "--json")
    assert ended.code == 0, ended.text
    said = json.loads(ended.out)
    assert said["files_removed"] == str(folder)
    assert said["others_left"] == [str(folder / "notes.txt")]
    assert sorted(said["records"]) == sorted(
        ["renewal/example.com", "order/example.com", "ledger/letsencrypt/aaa", "certificate/example.com"]
    )
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    ended = command(tmp_path, "delete", OTHER, "--yes", "--files")
    assert ended.code == 0, ended.text
    assert not (tmp_path / "store/live" / OTHER).exists()


def test_link_in_the_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    fill(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "store/live" / NAME).rename(elsewhere)
    (tmp_path / "store/live" / NAME).symlink_to(elsewhere)
    assert command(tmp_path, "delete", NAME, "--yes", "--files").code == 0
    assert (elsewhere / "current/privkey.pem").exists()


def test_nobody_to_ask_is_refused_with_the_flag_to_pass(tmp_path: Path) -> None:
    before = (fill(tmp_path), keys_of(tmp_path / "store"))[1]
    ended = command(tmp_path, "delete", NAME)
    assert ended.code == 2
    assert "--yes" in ended.err
    assert keys_of(tmp_path / "store") == before


def test_person_at_the_terminal_is_asked(tmp_path: Path) -> None:
    before = (fill(tmp_path), keys_of(tmp_path / "store"))[1]
    code, seen = at_a_terminal(tmp_path, "delete", NAME, answers=[("[y/N]", "n")])
    assert code == 1
    assert "Forget the certificate example.com and its key" in seen
    assert "nothing was removed" in seen
    assert keys_of(tmp_path / "store") == before
    code, seen = at_a_terminal(tmp_path, "delete", NAME, answers=[("[y/N]", "y")])
    assert code == 0, seen
    assert keys_of(tmp_path / "store") == OTHERS


def test_damaged_records_can_be_deleted(tmp_path: Path) -> None:
    store = fill(tmp_path)
    for kind in ("renewal", "certificate", "order"):
        store.put(key(kind, NAME), b"\xff not JSON")
    store.put(key("ledger", "letsencrypt", "ccc"), b"\xff")
    ended = command(tmp_path, "delete", NAME, "--yes")
    assert ended.code == 0, ended.text
    assert keys_of(tmp_path / "store") == OTHERS | {"ledger/letsencrypt/ccc"}


def test_half_of_a_deletion_is_finished_by_the_next(tmp_path: Path) -> None:
    store = fill(tmp_path)
    store.delete(key("renewal", NAME))
    assert command(tmp_path, "delete", NAME, "--yes").code == 0
    assert keys_of(tmp_path / "store") == OTHERS


def test_process_that_is_issuing_the_same_is_waited_for(tmp_path: Path) -> None:
    store = fill(tmp_path)
    given = options.read(("test", {"store": f"file:{tmp_path / 'store'}"}))
    with lease(store, NAME):
        ended = command(tmp_path, "delete", NAME, "--yes", "--wait", "0")
        assert ended.code == 75, ended.text
        waiting = threading.Thread(target=delete, args=(given, NAME))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert store.get(certificate_key(NAME)) is not None
    waiting.join(30)
    assert keys_of(tmp_path / "store") == OTHERS


def test_failures_of_a_name_that_was_never_issued_can_be_forgotten(tmp_path: Path) -> None:
    store = fill(tmp_path)
    store.put(key("ledger", "letsencrypt", "ddd"), json.dumps({"schema": 1, "name": "tried.example"}).encode())
    ended = command(tmp_path, "delete", "tried.example", "--yes")
    assert ended.code == 0, ended.text
    assert "removed     tried.example: its failures" in ended.out
    assert store.get(key("ledger", "letsencrypt", "ddd")) is None
    assert store.get(key("ledger", "letsencrypt", "bbb")) is not None


def test_declared_certificate_is_said_to_come_back(tmp_path: Path) -> None:
    fill(tmp_path)
    declared = {"ACME_CERTIFICATES": json.dumps({NAME: {"names": [NAME]}})}
    ended = command(tmp_path, "delete", NAME, "--yes", env=declared)
    assert ended.code == 0, ended.text
    assert "take it out of CERTIFICATES as well" in ended.out
    ended = command(tmp_path, "delete", OTHER, "--yes", "--json", env=declared)
    assert json.loads(ended.out)["declared"] is False
