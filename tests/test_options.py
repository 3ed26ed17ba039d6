"""The option table, and the layers that it is read from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from acme_middleware import options
from acme_middleware.declared import Declared
from acme_middleware.errors import ConfigurationError
from acme_middleware.stores import open_challenges, open_store


def test_first_layer_that_sets_an_option_wins() -> None:
    read = options.read(("flag", {"ca": "zerossl", "email": None}), ("environment", {"ca": "google", "email": "a@example.com"}))
    assert read.ca == "zerossl"
    assert read.email == "a@example.com"
    assert read.key_type == "ec256"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(["nginx:", "systemd:app"], ("nginx:", "systemd:app"), id="a list"),
        pytest.param('["nginx:", "command:[\\"a\\", \\"b\\"]"]', ("nginx:", 'command:["a", "b"]'), id="a list in JSON"),
        pytest.param('command:["a", "b c"]', ('command:["a", "b c"]',), id="one deployer"),
        pytest.param("nginx:\n\n systemd:app\n", ("nginx:", "systemd:app"), id="one a line"),
        pytest.param([], (), id="none"),
    ],
)
def test_deployers_are_a_list(value: Any, expected: tuple[str, ...]) -> None:
    assert options.read(("environment", {"deploy": value})).deploy == expected
    assert options.read(("x.toml", {"certificates": {"a": {"deploy": value}}})).certificates[0].deploy == expected


@pytest.mark.parametrize("empty", [None, ""])
def test_none_and_empty_mean_not_set(empty: Any) -> None:
    assert options.read(("flag", {"ca": empty})).ca == "letsencrypt"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1", True), ("true", True), ("YES", True), ("on", True), (True, True), ("0", False), ("False", False), ("no", False)],
)
def test_boolean_words(value: Any, expected: bool) -> None:
    assert options.read(("environment", {"agree_tos": value})).agree_tos is expected


def test_false_in_a_higher_layer_beats_true_below() -> None:
    assert options.read(("setting", {"agree_tos": False}), ("file", {"agree_tos": True})).agree_tos is False


def test_paths_are_accepted_as_paths_and_as_text() -> None:
    assert options.read(("setting", {"publish_dir": Path("/x")})).publish_dir == Path("/x")
    assert options.read(("setting", {"publish_dir": "/x"})).publish_dir == Path("/x")


def test_a_choice_that_is_a_number_may_be_given_as_one() -> None:
    assert options.read(("setting", {"on_unknown": 404})).on_unknown == "404"


def test_a_store_may_be_given_by_the_path_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a folder, 100%"
    read = options.read(("setting", {"store": folder, "challenge_store": folder}))
    assert open_store(read.store).path == folder  # type: ignore[attr-defined]
    assert str(open_challenges(read.challenge_store).root) == str(folder / "challenges")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("source", "name", "value", "says"),
    [
        pytest.param("flag", "key_type", "ec255", "--key-type is 'ec255' but takes one of ec256", id="a choice, as a flag"),
        pytest.param("flag", "key_type", "ec255", "did you mean ec", id="a choice that is nearly right"),
        pytest.param("environment", "self_check", "maybe", "ACME_SELF_CHECK is 'maybe'", id="a choice, in the environment"),
        pytest.param("setting", "agree_tos", "perhaps", "ACME_AGREE_TOS is 'perhaps' but takes one of 1, true", id="a boolean"),
        pytest.param("x.toml", "wait", -1, "wait in x.toml is -1 but takes a number of seconds", id="a number, in a file"),
        pytest.param("flag", "wait", "nan", "takes a number of seconds", id="a number that is none"),
        pytest.param("flag", "self_check_via", "localhost", "takes HOST:PORT", id="a host without a port"),
        pytest.param("flag", "self_check_via", "h:99999", "takes HOST:PORT", id="a port that is none"),
        pytest.param("flag", "email", "a@b.example,c@d.example", "takes one email", id="two addresses"),
        pytest.param("setting", "publish_dir", 3, "takes text, not int", id="a path that is a number"),
        pytest.param("environment", "certificates", "{", "is no JSON", id="certificates that are no JSON"),
        pytest.param("setting", "certificates", ["a.example"], "takes a table such as", id="certificates as a list"),
        pytest.param(
            "x.toml", "certificates", {"a.example": {"deplo": []}}, "only names, profile, key_type", id="a certificate's typo"
        ),
        pytest.param(
            "setting", "certificates", {"a.example": {"key_type": "dsa"}}, "takes one of ec256", id="a certificate's key"
        ),
        pytest.param("environment", "deploy", '["nginx:"', "is no list in JSON", id="deployers that are no JSON"),
        pytest.param("setting", "deploy", [3], "takes a list of texts", id="a deployer that is a number"),
        pytest.param(
            "setting", "certificates", {"a.example": {"deploy": 3}}, "has the deploy 3", id="a certificate's deployers"
        ),
        pytest.param("setting", "certificates", {"a.example": {"names": 3}}, "no list of texts", id="a certificate's names"),
    ],
)
def test_wrong_value_names_option_value_place_and_what_is_valid(source: str, name: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        options.read((source, {name: value}))
    assert says in str(wrong.value)
    assert wrong.value.option == name
    assert wrong.value.hint


@pytest.mark.parametrize(
    ("source", "value"),
    [
        pytest.param("environment", '{"shop": {"names": ["a.example", "b.example"], "key_type": "ec384"}}', id="JSON"),
        pytest.param("setting", {"shop": {"names": ("a.example", "b.example"), "key_type": "ec384"}}, id="a dictionary"),
        pytest.param("setting", {"shop": {"names": "a.example b.example", "key_type": "ec384"}}, id="names in one text"),
    ],
)
def test_certificates_are_declared_in_a_table(source: str, value: Any) -> None:
    read = options.read((source, {"certificates": value}))
    assert read.certificates == (Declared("shop", ("a.example", "b.example"), None, "ec384"),)


@pytest.mark.parametrize("entry", [{}, "", [], "a.example", ["a.example"]])
def test_certificate_that_is_declared_in_short_is_for_its_own_name(entry: Any) -> None:
    assert options.read(("setting", {"certificates": {"a.example": entry}})).certificates[0].names == ("a.example",)


def test_value_of_a_secret_is_never_shown() -> None:
    with pytest.raises(ConfigurationError) as wrong:
        options.read(("setting", {"eab_hmac_key": 12345678}))
    assert "12345678" not in f"{wrong.value} {wrong.value.hint} {wrong.value.facts}"


@pytest.mark.parametrize(
    ("source", "says"),
    [("flag", "--publishdir; did you mean --publish-dir?"), ("setting", "ACME_PUBLISHDIR; did you mean ACME_PUBLISH_DIR?")],
)
def test_unknown_option_is_refused_and_the_nearest_named(source: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        options.read((source, {"publishdir": "x"}))
    assert says in str(wrong.value)


def test_environment_reads_only_its_own_names() -> None:
    layer = options.from_environment({"ACME_CA": "zerossl", "ACME_SOMETHING": "else", "PATH": "/bin"})
    assert options.read(("environment", layer)).ca == "zerossl"


def test_secret_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "hmac"
    secret.write_text("abc-_\n")
    assert options.from_environment({"ACME_EAB_HMAC_KEY_FILE": str(secret)})["eab_hmac_key"] == "abc-_"
    assert options.from_settings({"ACME_EAB_HMAC_KEY_FILE": secret})["eab_hmac_key"] == "abc-_"
    both = {"ACME_EAB_HMAC_KEY_FILE": str(secret), "ACME_EAB_HMAC_KEY": "direct"}
    assert options.from_environment(both)["eab_hmac_key"] == "direct"


def test_secret_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ACME_EAB_HMAC_KEY_FILE"):
        options.from_environment({"ACME_EAB_HMAC_KEY_FILE": str(tmp_path / "none")})


def test_secret_file_that_is_no_text_is_an_error_that_does_not_quote_it(tmp_path: Path) -> None:
    secret = tmp_path / "hmac"
    secret.write_bytes(b"\xf0\xffsecret")
    with pytest.raises(ConfigurationError, match="ACME_EAB_HMAC_KEY_FILE names is no text") as wrong:
        options.from_settings({"ACME_EAB_HMAC_KEY_FILE": secret})
    assert wrong.value.__suppress_context__


def test_secret_file_is_left_alone_where_only_serving_is_meant(tmp_path: Path) -> None:
    settings = {"ACME_EAB_HMAC_KEY_FILE": tmp_path / "none", "ACME_CA": "google"}
    assert options.from_settings(settings, secret_files=False) == {"ca": "google"}


def test_settings_may_be_an_object() -> None:
    layer = options.from_settings(SimpleNamespace(ACME_CA="google", DEBUG=True))
    assert layer == {"ca": "google"}


def test_misspelt_setting_is_not_taken_for_unset() -> None:
    with pytest.raises(ConfigurationError, match="ACME_AGREE_TO"):
        options.read(("setting", options.from_settings({"ACME_AGREE_TO": True})))


def test_file_is_toml(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('ca = "zerossl"\nwait = 3\nagree_tos = true\n')
    read = options.read((str(file), options.from_file(file)))
    assert (read.ca, read.wait, read.agree_tos) == ("zerossl", 3.0, True)


@pytest.mark.parametrize("content", [b"ca = ", b"\xff\xfe", b"= 3"])
def test_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"x\.toml"):
        options.from_file(file)


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml"):
        options.from_file(tmp_path / "none.toml")


def test_every_option_is_documented_and_its_default_is_valid() -> None:
    for option in options.table():
        assert option.metadata["doc"]
        assert not option.metadata["doc"].endswith(".")
        if option.default is not None:
            assert option.metadata["parse"](option.default) == option.default


def test_secrets_do_not_show_in_a_repr() -> None:
    read = dataclasses.replace(options.Options(), eab_hmac_key="very-secret")
    assert "very-secret" not in repr(read)


def test_the_password_in_a_stores_url_does_not_show_in_a_repr() -> None:
    url = "postgresql+psycopg://acme:hunter2@db.internal/acme"
    assert "hunter2" not in repr(options.read(("flag", {"store": url, "challenge_store": url})))
