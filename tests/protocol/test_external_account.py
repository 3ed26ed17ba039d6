"""External account binding (RFC 8555 section 7.3.4): the pair that a CA gives its customers, and what is wrong with it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from both_cas import CA, start
from pebble_lab import Site, fresh

from acme_middleware.issuance.records import AccountRecord

# All of -, _ and = stand in its base64url: decoders that drop or refuse them have been published.
RAW = b"\xfb\xef\xbe\xff\xff\xff" * 5 + b"\x01\x02"
PADDED = base64.urlsafe_b64encode(RAW).decode()
UNPADDED = PADDED.rstrip("=")
STANDARD = base64.b64encode(RAW).decode()


@pytest.fixture(scope="module")
def bound_ca(which_ca: str) -> Iterator[CA]:
    with start(which_ca, eab={"kid-1": UNPADDED, "kid-2": UNPADDED}) as ca:
        yield ca


@pytest.fixture
def bound_site(bound_ca: CA, make_site: Callable[..., Site]) -> Site:
    return make_site(bound_ca)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(UNPADDED, id="base64url without padding"),
        pytest.param(PADDED, id="base64url with padding"),
        pytest.param(STANDARD, id="the other alphabet, with padding"),
        pytest.param(f" {UNPADDED}\n", id="white space around it"),
    ],
)
def test_key_is_understood_as_it_is_pasted(bound_site: Site, key: str) -> None:
    assert "-" in UNPADDED
    assert "_" in UNPADDED
    assert PADDED.endswith("=")
    name = fresh()
    ended = bound_site.run(name, eab_kid="kid-1", env={"ACME_EAB_HMAC_KEY": key})
    assert ended.code == 0, ended.text
    ((where, record),) = list(bound_site.records().scan("account/"))
    account = AccountRecord.decode(where, record.value, record.version)
    assert (where.rpartition("/")[2], account.eab_kid) == ("kid-1", "kid-1")
    assert_secret(bound_site, ended.text)


def test_key_is_read_from_a_file(bound_site: Site, tmp_path: Path) -> None:
    file = tmp_path / "mac-key"
    file.write_text(UNPADDED + "\n")
    ended = bound_site.run(fresh(), eab_kid="kid-1", env={"ACME_EAB_HMAC_KEY_FILE": str(file)})
    assert ended.code == 0, ended.text


def test_pair_is_needed_for_the_first_order_only(bound_site: Site) -> None:
    bound_site.issue(fresh(), eab_kid="kid-1", eab_hmac_key=UNPADDED)
    bound_site.issue(fresh(), eab_kid="kid-1", eab_hmac_key=PADDED)
    assert bound_site.accounts() == 1


def test_each_key_id_has_an_account_of_its_own(bound_site: Site) -> None:
    bound_site.issue(fresh(), eab_kid="kid-1", eab_hmac_key=UNPADDED)
    bound_site.issue(fresh(), eab_kid="kid-2", eab_hmac_key=UNPADDED)
    assert bound_site.accounts() == 2


@pytest.mark.parametrize(
    ("kid", "key", "message"),
    [
        pytest.param("kid-1", base64.urlsafe_b64encode(b"x" * 32).decode(), "refused the external account", id="wrong key"),
        pytest.param("kid-9", UNPADDED, "refused the external account binding of key id kid-9", id="unknown key id"),
        pytest.param("kid-1", "no*base64", "ACME_EAB_HMAC_KEY is no base64url", id="no base64"),
        pytest.param(None, None, "only with an external account binding", id="no pair at all"),
        pytest.param("kid-1", None, "only one is set", id="key id without a key"),
        pytest.param(None, UNPADDED, "only one is set", id="key without a key id"),
    ],
)
@pytest.mark.parametrize("flags", [["--traceback"], ["--json"], []], ids=["with a traceback", "as JSON", "plain"])
def test_wrong_pair_is_refused_with_what_to_do(
    bound_site: Site, kid: str | None, key: str | None, message: str, flags: list[str]
) -> None:
    ended = bound_site.run(fresh(), *flags, eab_kid=kid, env={"ACME_EAB_HMAC_KEY": key} if key else {})
    assert ended.code == 2, ended.text
    assert message in ended.text
    assert "ACME_EAB_KID" in ended.text or "copy it again" in ended.text
    assert ("Traceback" in ended.err) is ("--traceback" in flags)
    assert bound_site.orders() == []
    assert bound_site.accounts() == 0
    if key:
        assert_secret(bound_site, ended.text, key)


def test_right_pair_works_after_a_wrong_one(bound_site: Site) -> None:
    name = fresh()
    assert bound_site.run(name, eab_kid="kid-1", env={"ACME_EAB_HMAC_KEY": "AAAA" * 10}).code == 2
    ended = bound_site.run(name, eab_kid="kid-1", env={"ACME_EAB_HMAC_KEY": UNPADDED})
    assert ended.code == 0, ended.text


def assert_secret(site: Site, text: str, key: str = UNPADDED) -> None:
    """The key is in no output, and in no file of the store."""
    bare = key.strip().rstrip("=")
    assert bare not in text
    assert all(bare.encode() not in path.read_bytes() for path in site.store.rglob("*") if path.is_file())
