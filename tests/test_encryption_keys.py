"""The option ENCRYPTION_KEYS: how keys may be written, and what is said of what is none."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from acme_middleware import encryption_keys, options
from acme_middleware.errors import ConfigurationError, StoreUnavailable
from acme_middleware.issuance import lineages

ONE, TWO = bytes(range(32)), bytes(range(200, 232))
URLSAFE = base64.urlsafe_b64encode(TWO).decode()
OTHER = base64.b64encode(TWO).decode()  # with + or / in it
assert URLSAFE != OTHER
WRITTEN = base64.urlsafe_b64encode(ONE).decode()


def read(value):
    return options.read(("setting", {"encryption_keys": value})).encryption_keys


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"{WRITTEN},{URLSAFE}", id="with a comma"),
        pytest.param(f" {WRITTEN} \n{URLSAFE}\n", id="with white space"),
        pytest.param(f"{WRITTEN},\n{URLSAFE},", id="with both, and a comma at the end"),
        pytest.param(f"{WRITTEN} {URLSAFE}".replace("=", ""), id="without padding"),
        pytest.param(f"{WRITTEN} {OTHER}", id="in the base64 of openssl"),
        pytest.param([WRITTEN, URLSAFE], id="a list of texts"),
        pytest.param((ONE, TWO), id="a tuple of bytes"),
        pytest.param(lambda: [ONE, URLSAFE], id="a callable"),
        pytest.param(lambda: f"{WRITTEN} {URLSAFE}", id="a callable that gives text"),
    ],
)
def test_keys_are_read_in_order(value):
    assert read(value)() == (ONE, TWO)


@pytest.mark.parametrize("value", [None, "", [], ()])
def test_nothing_is_not_set(value):
    assert read(value) is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        pytest.param("aGVsbG8tdGhlcmU", "number 1 of those given is none", id="too short"),
        pytest.param(f"{WRITTEN} {WRITTEN}xx", "number 2 of those given is none", id="too long"),
        pytest.param("supersecret-passphrase-of-43-characters-!!!", "number 1", id="no base64"),
        pytest.param(" , ", "number 1", id="only a comma"),
        pytest.param([ONE[:31]], "number 1", id="31 bytes"),
        pytest.param(ONE, "not bytes", id="bytes that are no list"),
        pytest.param(12345678, "not int", id="a number"),
        pytest.param([WRITTEN, 12345678], "number 2", id="a number in a list"),
    ],
)
def test_what_is_no_key_is_refused_and_not_shown(value, says):
    with pytest.raises(ConfigurationError) as wrong:
        read(value)
    said = f"{wrong.value} {wrong.value.hint} {wrong.value.facts}"
    assert says in str(wrong.value)
    assert "ACME_ENCRYPTION_KEYS takes keys of 32 bytes in base64url" in str(wrong.value)
    assert not any(shown in said for shown in ("aGVs", "supersecret", "12345678", WRITTEN, repr(ONE)[2:-1]))
    assert wrong.value.__suppress_context__


def test_a_new_key_is_one_and_never_the_same():
    made = {encryption_keys.new() for _ in range(100)}
    assert len(made) == 100
    assert all(len(read(key)()[0]) == 32 for key in made)


def test_keys_do_not_show():
    chosen = options.read(("setting", {"encryption_keys": [ONE, TWO]}))
    assert repr(chosen.encryption_keys) == "EncryptionKeys(2)"
    assert "encryption_keys" not in repr(chosen)


def test_keys_may_be_in_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{WRITTEN}\n{URLSAFE}\n")
    layer = options.from_environment({"ACME_ENCRYPTION_KEYS_FILE": str(file)})
    assert options.read(("environment", layer)).encryption_keys() == (ONE, TWO)


def test_an_empty_file_is_not_taken_for_no_encryption(tmp_path):
    file = tmp_path / "keys"
    file.write_text(" \n")
    with pytest.raises(ConfigurationError, match="the file that ACME_ENCRYPTION_KEYS_FILE names is empty"):
        options.from_environment({"ACME_ENCRYPTION_KEYS_FILE": str(file)})


def test_a_callable_is_asked_once_and_not_before_a_key_is_needed():
    asked = []

    def keys():
        asked.append(1)
        return [ONE]

    store = lineages.open_state(options.Options(store="memory:", encryption_keys=read(keys)))
    assert not asked
    store.put("order/a.example", b"{}")
    assert store.get("order/a.example").value == b"{}"
    assert len(asked) == 1
    store.delete("order/a.example")


def test_a_callable_that_fails_is_told_without_its_words_and_asked_again():
    answers = [OSError("no route to https://token:hunter2@vault"), [ONE]]

    def keys():
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    found = read(keys)
    with pytest.raises(StoreUnavailable, match="failed with OSError") as failed:
        found()
    assert "hunter2" not in f"{failed.value} {failed.value.hint} {failed.value.facts}"
    assert found() == (ONE,)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param([], id="an empty list"),
        pytest.param(None, id="nothing"),
        pytest.param("", id="empty text"),
        pytest.param(["short"], id="something else"),
    ],
)
def test_a_callable_that_gives_no_key_does_not_turn_encryption_off(given):
    with pytest.raises(ConfigurationError, match="callable in ENCRYPTION_KEYS gave"):
        read(lambda: given)()


def test_a_writable_check_finds_that_keys_cannot_be_had():
    def keys():
        raise OSError("down")

    store = lineages.open_state(options.Options(store="memory:", encryption_keys=read(keys)))
    with pytest.raises(StoreUnavailable):
        store.check(writable=True)


def test_reading_options_and_state_that_is_public_loads_no_cryptography():
    script = (
        "import sys; from acme_middleware import options; from acme_middleware.stores import open_store; "
        "from acme_middleware.stores.sealed import SealedStore; "
        f"read = options.read(('setting', {{'encryption_keys': {WRITTEN!r}}})); "
        "store = SealedStore(open_store('memory:'), read.encryption_keys); store.put('renewal/x', b''); "
        "print(sorted(name for name in sys.modules if name.startswith('cryptography')))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
