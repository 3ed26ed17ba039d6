"""A fleet's state goes round all engines, encrypted in each, and comes home as it left: by the commands that our page names."""

from __future__ import annotations

import json

import pytest
from stored_certificates import command, store_certificate, store_order

from acme_middleware import encryption_keys
from acme_middleware.issuance.resealing import reseal
from acme_middleware.stores import open_store
from acme_middleware.stores.sealed import PRIVATE, SealedStore, key_id, sealed_with

NAMES = ["a.example", "b.example", "2001:db8::1", "x" * 60 + "." + "y" * 60 + "." + "z" * 60 + ".example"]
ENV = {"ACME_ENCRYPTION_KEYS": f"{encryption_keys.new()},{encryption_keys.new()}"}
KEYS = encryption_keys.read(ENV["ACME_ENCRYPTION_KEYS"])


@pytest.fixture
def engines(postgresql, mariadb, redis, tmp_path):
    return [
        f"sqlite:///{tmp_path / 'acme.sqlite3'}",
        postgresql.new_database(),
        redis.new_database(),
        mariadb.new_database(),
        f"file:{tmp_path / 'home'}",
    ]


def held(store):
    return {where: record.value for where, record in store.scan("") if not where.startswith("lock/")}


def test_round_all_engines_and_home(engines, tmp_path):
    for name in NAMES:
        made = store_certificate(tmp_path / "store", name, "a.example", published=False)
    store_order(tmp_path / "store", made)
    home = held(open_store(tmp_path / "store"))
    assert len(home) == 2 * len(NAMES) + 1
    places = [f"file:{tmp_path / 'store'}", *engines]
    for before, place in zip(places, engines, strict=False):
        if not place.startswith(("redis", "file")):
            ended = command(tmp_path, "store", "init", "--store", place)
            assert ended.code == 0, ended.text
        ended = command(tmp_path, "store", "copy", before, place, "--json", env=ENV)
        assert ended.code == 0, ended.text
        assert json.loads(ended.out)["copied"] == len(home)
        password = place.partition("@")[0].rpartition(":")[2] if "@" in place else "PRIVATE KEY"
        assert password not in ended.text
        store = SealedStore(open_store(place), KEYS)
        assert held(store) == home
        kept = [record.value for kind in PRIVATE for _, record in store.inner.scan(kind)]
        assert {sealed_with(value) for value in kept} == {key_id(KEYS()[0])}
        assert not [value for value in kept if b"PRIVATE" in value]
        again = command(tmp_path, "store", "copy", before, place, "--json", env=ENV)
        assert (again.code, json.loads(again.out)["same"]) == (0, len(home)), again.text


def test_a_database_is_not_copied_onto_itself_under_another_url(postgresql, tmp_path):
    url = postgresql.new_database()
    assert command(tmp_path, "store", "init", "--store", url).code == 0
    ended = command(tmp_path, "store", "copy", url, url.replace("postgresql+psycopg:", "postgresql:"))
    assert (ended.code, "FROM and TO are the same store" in ended.err) == (2, True), ended.text


def test_every_engine_is_rotated_to_another_key(engines, tmp_path):
    old, new = (encryption_keys.new() for _ in range(2))
    for place in engines:
        if not place.startswith(("redis", "file")):
            assert command(tmp_path, "store", "init", "--store", place).code == 0
        store = SealedStore(open_store(place), encryption_keys.read(old))
        values = {f"{kind}{number}.example": bytes([number]) * 3000 for kind in PRIVATE for number in range(3)}
        for where, value in values.items():
            store.put(where, value)
        steps = list(reseal(SealedStore(store.inner, encryption_keys.read(f"{new} {old}")), wait=0))
        assert {step.record: step.action for step in steps} == dict.fromkeys(values, "sealed")
        assert held(SealedStore(store.inner, encryption_keys.read(new))) == values
