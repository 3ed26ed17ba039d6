"""Moving to another store: everything but leases arrives and opens, the source is only read, and nothing newer is lost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from stored_certificates import command, keys_of, store_certificate, store_order

from acme_middleware import encryption_keys
from acme_middleware.cli import main
from acme_middleware.errors import ConfigurationError, StoreMisconfigured
from acme_middleware.issuance.copying import copy, refuse_same
from acme_middleware.issuance.records import CertificateRecord, certificate_key
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.stores.memory import MemoryStore
from acme_middleware.stores.sealed import SealedStore

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
EARLY = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)


def at(days):
    return (EARLY + timedelta(days=days)).isoformat()


def document(**facts):
    return json.dumps({"schema": 1, **facts}).encode()


RECORDS = {
    "account/ca/default": document(key_pem="-----BEGIN PRIVATE KEY-----1"),
    "account/ca2/kid-1": document(key_pem="-----BEGIN PRIVATE KEY-----2"),
    "budget/ca/default/orders": document(times=[1, 2, 3], window=60),
    "certificate/a.example": document(issued_at=at(1), revoked="", key_pem="-----BEGIN PRIVATE KEY-----3"),
    "ledger/ca/0123": document(failed_at=at(1), failures=1),
    "order/b.example": document(url="https://ca.example/order/1"),
    "renewal/a.example": document(issued_at=at(1), revoked="", ask_after=at(2)),
    "sweep/host": document(began=at(1), ended=at(1)),
    "yet-unknown/x": b"\x00\xff of a kind that a plugin has",
}


@pytest.fixture
def source():
    made = SealedStore(MemoryStore(), [ONE])
    for where, value in RECORDS.items():
        made.put(where, value)
    made.put("lock/a.example", b"{}")
    return made


@pytest.fixture
def target():
    return SealedStore(MemoryStore(), [TWO])


def held(store):
    return {where: record.value for where, record in store.scan("")}


def actions(steps):
    return {step.record: step.action for step in steps}


def test_everything_but_leases_arrives_and_is_encrypted_with_the_targets_key(source, target):
    before = list(source.inner.scan(""))
    assert actions(copy(source, target)) == dict.fromkeys(RECORDS, "copied")
    assert held(target) == RECORDS
    assert list(source.inner.scan("")) == before
    assert not any(b"PRIVATE" in record.value for _, record in target.inner.scan(""))


def test_private_records_are_written_before_the_public_ones_that_speak_of_them(source, target):
    order = [step.record for step in copy(source, target)]
    assert order.index("certificate/a.example") < order.index("renewal/a.example")


def test_a_second_time_changes_nothing(source, target):
    list(copy(source, target))
    before = list(target.inner.scan(""))
    assert actions(copy(source, target)) == dict.fromkeys(RECORDS, "same")
    assert list(target.inner.scan("")) == before


def test_cut_off_half_way_the_next_run_copies_the_rest(source, target):
    steps = copy(source, target)
    done = [next(steps).record for _ in range(4)]
    steps.close()
    assert actions(copy(source, target)) == {where: "same" if where in done else "copied" for where in RECORDS}
    assert held(target) == RECORDS


@pytest.mark.parametrize(
    ("where", "value"),
    [
        pytest.param("certificate/a.example", document(issued_at=at(1.5), revoked=""), id="renewed since"),
        pytest.param("certificate/a.example", document(issued_at=at(1), revoked="keyCompromise"), id="revoked since"),
        pytest.param("renewal/a.example", document(issued_at=at(1), revoked="", ask_after=at(3)), id="the CA was asked since"),
        pytest.param("ledger/ca/0123", document(failed_at=at(1.1), failures=2), id="failed again since"),
        pytest.param("budget/ca/default/orders", document(times=[2, 3, 4], window=60), id="counted more since"),
        pytest.param("sweep/host", document(began=at(2), ended=at(2)), id="swept since"),
    ],
)
def test_what_has_become_newer_is_replaced_and_never_the_other_way_round(source, target, where, value):
    list(copy(source, target))
    source.put(where, value)
    assert actions(copy(source, target)) == {**dict.fromkeys(RECORDS, "same"), where: "replaced"}
    assert target.get(where).value == value
    source.put(where, RECORDS[where])
    kept = {step.record: step for step in copy(source, target) if step.action != "same"}
    assert {where: step.action for where, step in kept.items()} == {where: "kept"}
    assert "--force" in kept[where].reason
    assert target.get(where).value == value
    assert actions(copy(source, target, force=True))[where] == "replaced"
    assert held(target) == RECORDS


@pytest.mark.parametrize("where", ["account/ca/default", "order/b.example", "yet-unknown/x"])
def test_what_has_no_age_is_kept_where_it_differs(source, target, where):
    list(copy(source, target))
    target.put(where, document(url="another"))
    assert actions(copy(source, target))[where] == "kept"
    assert target.get(where).value == document(url="another")


def test_a_dry_run_says_the_same_and_writes_nothing(source, target):
    assert actions(copy(source, target, dry_run=True)) == dict.fromkeys(RECORDS, "copied")
    assert held(target) == {}


@pytest.mark.parametrize("keys", [[], [TWO]], ids=["no key is set", "another key is set"])
def test_what_no_key_opens_is_refused_and_stops_no_other(source, target, keys):
    steps = list(copy(SealedStore(source.inner, keys), target))
    private = {where for where in RECORDS if where.startswith(("account", "order", "certificate"))}
    assert {step.record for step in steps if step.action == "refused"} == private
    assert set(held(target)) == RECORDS.keys() - private


def test_what_the_target_cannot_open_is_not_overwritten_unless_forced(source, target):
    list(copy(source, SealedStore(target.inner, [ONE])))
    assert actions(copy(source, target))["account/ca/default"] == "kept"
    assert actions(copy(source, target, force=True))["account/ca/default"] == "replaced"
    assert held(target) == RECORDS


def test_a_file_that_is_no_record_is_refused_and_replaced_only_when_forced(source, target, tmp_path):
    files = DirectoryStore(tmp_path / "files")
    list(copy(source, SealedStore(files, [])))
    (tmp_path / "files" / "renewal" / "a.example").write_bytes(b"")
    assert actions(copy(SealedStore(files, []), target, force=True))["renewal/a.example"] == "refused"
    assert set(held(target)) == RECORDS.keys() - {"renewal/a.example"}
    assert actions(copy(source, SealedStore(files, [])))["renewal/a.example"] == "kept"
    assert actions(copy(source, SealedStore(files, []), force=True))["renewal/a.example"] == "replaced"
    assert held(SealedStore(files, [])) == RECORDS


class Forgetful(MemoryStore):
    """A store that damages what it keeps of one record."""

    def put(self, key, value, **expected):
        return super().put(key, value[:-1] if key == "sweep/host" else value, **expected)


def test_what_does_not_come_back_as_it_was_written_is_an_error(source):
    with pytest.raises(StoreMisconfigured, match="sweep/host was written to the target, and does not come back"):
        list(copy(source, SealedStore(Forgetful())))


def test_a_record_that_appears_at_this_moment_is_not_overwritten(source, target):
    steps = copy(source, target)
    next(steps)
    target.put("sweep/host", b"somebody's")
    assert actions(steps)["sweep/host"] == "kept"
    assert target.get("sweep/host").value == b"somebody's"


class Disguised:
    """The same store under another name, as two URLs of one database are."""

    def __init__(self, store):
        self.get, self.put, self.delete, self.scan = store.get, store.put, store.delete, store.scan


def test_a_store_is_not_copied_onto_itself_by_whatever_name(source, tmp_path):
    with pytest.raises(ConfigurationError, match="the same store"):
        refuse_same(source, SealedStore(source.inner), dry_run=True)
    with pytest.raises(ConfigurationError, match="the same store"):
        refuse_same(source, SealedStore(Disguised(source.inner)), dry_run=False)
    assert held(source).keys() == {*RECORDS, "lock/a.example"}
    folder = tmp_path / "store"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    one, other = (SealedStore(DirectoryStore(tmp_path / name)) for name in ("store", "link"))
    with pytest.raises(ConfigurationError, match="the same store"):
        refuse_same(one, other, dry_run=True)


def test_two_stores_are_two(source, target):
    refuse_same(source, target, dry_run=False)
    assert held(target) == {}


def test_by_the_command_a_certificate_moves_with_all_that_belongs_to_it(tmp_path):
    made = store_certificate(tmp_path / "store", "a.example")
    store_order(tmp_path / "store", made)
    keys = {"ACME_ENCRYPTION_KEYS": encryption_keys.new()}
    tried = command(tmp_path, "store", "copy", "file:store", "file:new", "--dry-run", env=keys)
    assert (tried.code, "would be    3 records copied" in tried.out) == (0, True), tried.text
    assert not (tmp_path / "new").exists()
    ended = command(tmp_path, "store", "copy", "file:store", "file:new", env=keys)
    assert (ended.code, ended.out) == (0, "  copied      3 records copied\n"), ended.text
    assert keys_of(tmp_path / "new") == keys_of(tmp_path / "store")
    assert not [path for path in (tmp_path / "new").rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()]
    exported = command(tmp_path, "export", "a.example", "--pem", "a.pem", "--store", "file:new", env=keys)
    assert exported.code == 0, exported.text
    assert made.key_pem in (tmp_path / "a.pem").read_text()
    again = command(tmp_path, "store", "copy", "file:store", "file:new", "--json", env=keys)
    assert json.loads(again.out) == {
        "action": "copied",
        "from": "file:store",
        "to": "file:new",
        "copied": 0,
        "replaced": 0,
        "same": 3,
        "kept": [],
        "refused": [],
    }


def test_by_the_command_what_cannot_be_read_is_named_once(tmp_path):
    store_certificate(tmp_path / "store", "a.example")
    sealed = SealedStore(DirectoryStore(tmp_path / "store"), [ONE])
    sealed.put("certificate/a.example", sealed.get("certificate/a.example").value)
    ended = command(tmp_path, "store", "copy", "file:store", "file:new", env={"COLUMNS": "80"})
    assert (ended.code, ended.out.count("certificate/a.example")) == (1, 1), ended.text
    assert "refused     the record certificate/a.example is sealed, and no key is set" in ended.out
    assert all(len(line) <= 80 for line in ended.out.splitlines())


def test_by_the_command_what_differs_is_named_and_is_exit_code_1(tmp_path):
    store_certificate(tmp_path / "store", "a.example")
    other = store_certificate(tmp_path / "new", "a.example")
    ended = command(tmp_path, "store", "copy", "file:store", "file:new")
    assert ended.code == 1
    assert "kept        certificate/a.example: the target has another one" in ended.out
    kept = CertificateRecord.read(DirectoryStore(tmp_path / "new"), certificate_key("a.example"))
    assert kept is not None
    assert kept.cert_pem == other.cert_pem


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        pytest.param(["file:store", "file:store"], 2, "FROM and TO are the same store", id="onto itself"),
        pytest.param(["file:store", "file:./x/../store"], 2, "FROM and TO are the same store", id="onto itself, otherwise"),
        pytest.param(["file:none", "file:new"], 2, "there is no directory", id="from nowhere"),
        pytest.param(["file:store", "memory:"], 2, "ends with it", id="into memory"),
        pytest.param(["file:store", "Memory:"], 2, "ends with it", id="into memory, however it is written"),
        pytest.param(["file:store", "nope://u:hunter2@h/x"], 2, "there is no store for nope:", id="into no kind of store"),
        pytest.param(["file:store", "webroot:///x"], 2, "webroot: keeps tokens only", id="into a store of tokens"),
        pytest.param(["file:store", "env:NEW"], 2, "env:NEW names a variable that is not set", id="into no variable"),
        pytest.param(["file:store"], 2, "Missing argument 'TO'", id="to nowhere"),
    ],
)
def test_by_the_command_a_wrong_place_is_refused(tmp_path, words, code, says):
    store_certificate(tmp_path / "store", "a.example")
    ended = command(tmp_path, "store", "copy", *words)
    assert (ended.code, says in ended.err) == (code, True), ended.text
    assert "hunter2" not in ended.text
    assert not (tmp_path / "new").exists()


def test_by_the_command_urls_may_be_in_variables(tmp_path):
    store_certificate(tmp_path / "store", "a.example")
    urls = {"OLD": "file:store", "NEW": f"sqlite:///{tmp_path}/acme.sqlite3"}
    assert command(tmp_path, "store", "init", "--store", urls["NEW"]).code == 0
    ended = command(tmp_path, "store", "copy", "env:OLD", "env:NEW", env=urls)
    assert (ended.code, ended.out) == (0, "  copied      2 records copied\n"), ended.text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        pytest.param(
            "postgresql+psycopg://acme:hunter2@db.example:5432/acme?password=hunter2",
            "postgresql+psycopg://db.example:5432/acme",
            id="as user and as parameter",
        ),
        pytest.param("postgresql://acme:12/hunter2@db.example/acme", "postgresql://db.example/acme", id="with a slash in it"),
        pytest.param("redis://:hunter2@[::1:bad/0", "redis://[::1:bad/0", id="before what is no host"),
        pytest.param("file:///var/lib/acme", "file:///var/lib/acme", id="none in a folder's"),
        pytest.param("django:other", "django:other", id="none in Django's"),
    ],
)
def test_passwords_are_not_printed(tmp_path, monkeypatch, capsys, url, shown):
    for folder in (tmp_path / "from", tmp_path / "to"):
        store_certificate(folder, "a.example")
    opened = {url: DirectoryStore(tmp_path / "from"), "file:other": DirectoryStore(tmp_path / "to")}
    monkeypatch.setattr("acme_middleware.issuance.lineages.open_store", opened.__getitem__)
    assert main(["store", "copy", url, "file:other", "--dry-run", "--force", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["from"] == shown
    assert "hunter2" not in told.out + told.err
