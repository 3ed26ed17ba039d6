"""The pages about encryption and about moving, typed as they stand there."""

from __future__ import annotations

from itertools import pairwise

import pytest
from page_steps import Folder, commands, steps
from stored_certificates import keys_of, store_certificate

from acme_middleware import encryption_keys
from acme_middleware.stores import open_store
from acme_middleware.stores.sealed import PRIVATE, SealedStore, key_id, sealed_with

ENCRYPTION, MOVING = "docs/encryption.md", "docs/moving.md"
ASKS_THE_CA = "acme-middleware check"


@pytest.fixture
def folder(tmp_path):
    """Where the pages are typed, with two certificates in the store."""
    for name in ("a.example", "b.example"):
        store_certificate(tmp_path / "state", name)
    with Folder(tmp_path, ACME_STORE=f"file:{tmp_path / 'state'}") as made:
        yield made


def typed(folder, lines):
    """Type lines in one shell, as variables last, and stop where one fails."""
    return folder.run("set -e\n" + "\n".join(lines))


def ids(store):
    return {sealed_with(record.value) for kind in PRIVATE for _, record in store.scan(kind)}


def keys_in(path):
    return encryption_keys.read(path.read_text())()


def test_their_steps_are_numbered():
    assert steps(ENCRYPTION) == [1, 2, 3, 4, 1, 2, 3, 4]
    assert steps(MOVING) == [1, 2, 3, 4, 5]


def test_encrypting_and_changing_to_another_key(folder):
    lines = [line for line in commands(ENCRYPTION) if line != ASKS_THE_CA]
    assert len(lines) == len(commands(ENCRYPTION)) - 1
    store, file = open_store(folder.path / "state"), folder.path / "acme-keys"
    assert "sealed      2 records with the first key; 0 were" in typed(folder, lines[:3])
    assert file.stat().st_mode & 0o777 == 0o600
    [first] = keys_in(file)
    assert ids(store) == {key_id(first)}
    said = typed(folder, [lines[1], *lines[3:]])
    assert "sealed      2 records with the first key; 0 were" in said
    assert "sealed      0 records with the first key; 2 were" in said
    [second] = keys_in(file)
    assert second != first
    assert ids(store) == {key_id(second)}
    assert file.stat().st_mode & 0o777 == 0o600


def test_while_the_key_changes_every_host_can_read_what_any_writes(folder):
    lines = commands(ENCRYPTION)
    typed(folder, lines[:3])
    rest = lines[lines.index(ASKS_THE_CA) + 1 :]
    file, seen = folder.path / "acme-keys", [keys_in(folder.path / "acme-keys")]
    for line in rest[:6]:
        typed(folder, [lines[1], line])
        if keys_in(file) != seen[-1]:
            seen.append(keys_in(file))
    # A host may be one step behind or ahead of another: what it seals with, the other has.
    assert len(seen) == 4
    for before, after in pairwise(seen):
        assert before[0] in after
        assert after[0] in before


def test_moving_as_the_page_says(folder):
    lines = [line.replace("/srv/acme", str(folder.path)) for line in commands(MOVING)]
    said = typed(folder, lines)
    assert "would be    4 records copied" in said
    assert "copied      4 records copied" in said
    assert "same        4 records there already" in said
    assert "a.example" in said.rpartition("there already")[2]
    moved = open_store(f"sqlite:///{folder.path}/acme.sqlite3")
    assert {where for where, _ in moved.scan("") if not where.startswith("lock/")} == keys_of(folder.path / "state")
    assert SealedStore(moved).get("certificate/a.example") is not None
