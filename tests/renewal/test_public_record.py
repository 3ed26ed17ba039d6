"""The public record is that of the certificate in the store, whoever was stopped between writing the one and the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from stored_certificates import store_certificate

from acme_middleware.errors import Conflict
from acme_middleware.issuance.records import CertificateRecord, RenewalRecord, certificate_key, renewal_key
from acme_middleware.issuance.renewal import record_of, write_public
from acme_middleware.stores.base import Record
from acme_middleware.stores.directory import DirectoryStore

NAME = "shop.example"
PUBLIC = renewal_key(NAME)


class Interrupted(DirectoryStore):
    """A store in which others work while the public record has just been read."""

    def __init__(self, folder: Path, *others: Callable[[], object]) -> None:
        super().__init__(folder)
        self.others = list(others)

    def get(self, key: str) -> Record | None:
        record = super().get(key)
        if key == PUBLIC and self.others:
            self.others.pop(0)()
        return record


def saved(folder: Path, *names: str) -> CertificateRecord:
    """What a holder of the lease has saved, with its public record."""
    store_certificate(folder, NAME, *names, published=False)
    made = CertificateRecord.read(DirectoryStore(folder), certificate_key(NAME))
    assert made is not None
    return made


def public(folder: Path) -> RenewalRecord:
    record = RenewalRecord.read(DirectoryStore(folder), PUBLIC)
    assert record is not None
    return record


def test_of_who_was_stopped_for_long_is_not_written_over_that_of_the_successor(tmp_path: Path) -> None:
    old = saved(tmp_path)
    new = saved(tmp_path, NAME, "www.shop.example")
    with pytest.raises(Conflict, match="another certificate"):
        write_public(DirectoryStore(tmp_path), old)
    assert public(tmp_path).serial == record_of(new).serial


def test_of_a_successor_that_comes_in_between_stays(tmp_path: Path) -> None:
    old = saved(tmp_path)
    with pytest.raises(Conflict):
        write_public(Interrupted(tmp_path, lambda: saved(tmp_path, NAME, "www.shop.example")), old)
    assert public(tmp_path).names == (NAME, "www.shop.example")


def test_is_written_also_where_another_host_has_just_noted_when_to_ask_the_ca(tmp_path: Path) -> None:
    made = saved(tmp_path)

    def note() -> None:
        there = public(tmp_path)
        replace(there, ask_after=there.not_after).write(DirectoryStore(tmp_path), PUBLIC, expect=there.version)

    record = write_public(Interrupted(tmp_path, note, note), made)
    assert record == public(tmp_path)
    assert (record.serial, record.ask_after) == (record_of(made).serial, None)


def test_of_a_certificate_that_was_deleted_is_not_written(tmp_path: Path) -> None:
    made = saved(tmp_path)
    DirectoryStore(tmp_path).delete(PUBLIC)
    DirectoryStore(tmp_path).delete(certificate_key(NAME))
    with pytest.raises(Conflict):
        write_public(DirectoryStore(tmp_path), made)
    assert DirectoryStore(tmp_path).get(PUBLIC) is None
