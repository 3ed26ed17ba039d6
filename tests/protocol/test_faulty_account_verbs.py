"""A CA that fails while an account's key is changed or a certificate is revoked: what works then, and the exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import both_cas
import pytest
from both_cas import LocalLab
from pebble_lab import Site, fresh
from stored_certificates import at_site

from acme_middleware.issuance.records import AccountRecord, RenewalRecord, renewal_key


@pytest.fixture
def lab() -> Iterator[LocalLab]:
    with both_cas.local() as lab:
        yield lab


def account(site: Site) -> AccountRecord:
    ((where, record),) = list(site.records().scan("account/"))
    return AccountRecord.decode(where, record.value, record.version)


@pytest.mark.parametrize(
    ("fault", "code", "changed"),
    [
        pytest.param("reset-before", 75, False, id="cut off before it was done"),
        pytest.param("closed-before", 75, False, id="closed before it was done"),
        pytest.param("reset-after", 0, True, id="cut off after it was done"),
        pytest.param("closed-after", 0, True, id="closed after it was done"),
        pytest.param("rate-limited", 75, False, id="rate limit"),
        pytest.param("unavailable", 75, False, id="503"),
        pytest.param("server-error", 75, False, id="500"),
        pytest.param("no-document", 1, False, id="refusal without a word"),
        pytest.param("html-page", 1, False, id="page of a proxy, which looks like a yes"),
    ],
)
def test_change_of_the_key_that_fails_leaves_the_account_working(
    fault: str, code: int, changed: bool, lab: LocalLab, make_site: Callable[..., Site]
) -> None:
    site = make_site(lab)
    site.issue(fresh())
    before = account(site)
    lab.ca.fault(fault, where="key-change")
    ended = at_site(site, "account", "rollover")
    lab.ca.check()
    assert ended.code == code, ended.text
    assert (account(site).key_pem != before.key_pem) is changed
    # A refusal ends it; where nothing is known the saved key is kept, and gone on with.
    assert bool(account(site).next_key_pem) is (code == 75)
    site.issue(fresh())
    ended = at_site(site, "account", "rollover")
    assert ended.code == 0, ended.text
    assert account(site).key_pem != before.key_pem
    assert account(site).next_key_pem == ""
    site.issue(fresh())
    assert site.accounts() == 1


@pytest.mark.parametrize(
    ("fault", "times", "code"),
    [
        pytest.param("reset-after", 1, 0, id="answer lost once"),
        pytest.param("reset-before", 1, 0, id="request lost once"),
        pytest.param("rate-limited", 1, 75, id="rate limit"),
        pytest.param("server-error", None, 75, id="500 whatever is sent"),
    ],
)
def test_certificate_is_due_if_and_only_if_the_ca_has_revoked_it(
    fault: str, times: int | None, code: int, lab: LocalLab, make_site: Callable[..., Site]
) -> None:
    site, name = make_site(lab), fresh()
    site.issue(name)
    lab.ca.fault(fault, times, where="revoke-certificate")
    ended = at_site(site, "revoke", name, "--json")
    assert ended.code == code, ended.text
    record = RenewalRecord.read(site.records(), renewal_key(name))
    assert record is not None
    assert (record.revoked == "unspecified") is (code == 0)
    assert (lab.revoked_for(site.leaf(name)) is not None) is (code == 0)
    if code == 0:
        assert json.loads(ended.out)["due"] == [name]


def test_ca_that_is_gone_is_try_again_later(lab: LocalLab, make_site: Callable[..., Site]) -> None:
    site, name = make_site(lab), fresh()
    site.issue(name)
    before = {key: record.value for key, record in site.records().scan("certificate/")}
    lab.ca.fault("closed-before", None, where="directory")
    for words in (["revoke", name], ["account", "show"], ["account", "rollover"], ["account", "deactivate", "--yes"]):
        ended = at_site(site, *words)
        assert ended.code == 75, f"{words}: {ended.text}"
    assert {key: record.value for key, record in site.records().scan("certificate/")} == before
    assert account(site).next_key_pem == ""
