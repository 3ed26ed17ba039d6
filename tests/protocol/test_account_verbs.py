"""The account by itself: looking at it, another address, another key at every moment of a crash, its end."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from both_cas import CA
from pebble_lab import COMMAND, Site, environment, finish, fresh
from stored_certificates import at_a_terminal, at_site

from acme_middleware.issuance.records import AccountRecord, CertificateRecord, certificate_key
from acme_middleware.protocol import directory as acme_directory
from acme_middleware.protocol.account import change_key, find_account, load_key, new_key, register
from acme_middleware.protocol.directory import Directory
from acme_middleware.protocol.network import Network

KILLS = 8


def account(site: Site) -> tuple[str, AccountRecord]:
    ((where, record),) = list(site.records().scan("account/"))
    return where, AccountRecord.decode(where, record.value, record.version)


@contextmanager
def talking(site: Site) -> Iterator[tuple[Network, Directory]]:
    """The CA, spoken to as our client does."""
    network = Network(ca_bundle=site.ca.ca_bundle)
    try:
        yield network, acme_directory.fetch(network, site.ca.directory_url)
    finally:
        network.session.close()


def known(site: Site, key_pem: str) -> str:
    """The URL of the account that the CA knows for a key, or ""."""
    with talking(site) as (network, directory):
        return find_account(network, directory, load_key(key_pem.encode()))


def works(site: Site) -> None:
    """The account can order, and it is still the same one."""
    url = account(site)[1].url
    name = fresh()
    site.issue(name)
    made = CertificateRecord.read(site.records(), certificate_key(name))
    assert made is not None
    assert made.account_url == url == account(site)[1].url
    assert site.accounts() == 1


def test_show_tells_what_the_ca_and_the_store_know_and_no_key(site: Site) -> None:
    site.issue(fresh())
    _, record = account(site)
    ended = at_site(site, "account", "show", "--json")
    assert ended.code == 0, ended.text
    said = json.loads(ended.out)
    assert (said["url"], said["status"], said["email"], said["eab_kid"]) == (record.url, "valid", "ops@example.com", "")
    assert said["contact"] == ["mailto:ops@example.com"]
    assert said["directory"] == site.ca.directory_url
    assert len(said["thumbprint"]) == 43
    assert said["terms"] == site.ca.terms
    shown = at_site(site, "account", "show")
    assert record.url in shown.out
    assert "ops@example.com" in shown.out
    assert record.key_pem.splitlines()[1] not in shown.text + ended.text


def test_store_without_an_account_names_the_cas_that_it_has_one_at(site: Site) -> None:
    site.records().check(writable=True)
    ended = at_site(site, "account", "show")
    assert ended.code == 2
    assert "has no account" in ended.err
    assert site.requests() == []
    AccountRecord(directory="d", key_pem="k", url="u").write(site.records(), "account/zerossl/default")
    assert "it has one at zerossl: choose with --ca" in at_site(site, "account", "show").err


def test_address_changes_at_the_ca_and_in_the_store(site: Site) -> None:
    site.issue(fresh())
    ended = at_site(site, "account", "update", "--email", "new@example.org", "--agree-tos", "--json")
    assert ended.code == 0, ended.text
    said = json.loads(ended.out)
    assert (said["action"], said["contact"], said["email"]) == ("updated", ["mailto:new@example.org"], "new@example.org")
    assert account(site)[1].email == "new@example.org"
    assert json.loads(at_site(site, "account", "show", "--json").out)["contact"] == ["mailto:new@example.org"]
    works(site)


def test_address_can_be_taken_away(site: Site) -> None:
    site.issue(fresh())
    ended = at_site(site, "account", "update", "--no-email")
    assert ended.code == 0, ended.text
    assert account(site)[1].email == ""
    assert json.loads(at_site(site, "account", "show", "--json").out)["contact"] == []


def test_new_key_signs_and_the_old_one_no_more(site: Site) -> None:
    site.issue(fresh())
    _, before = account(site)
    ended = at_site(site, "account", "rollover", "--json")
    assert ended.code == 0, ended.text
    _, after = account(site)
    assert (after.url, after.next_key_pem, after.email) == (before.url, "", before.email)
    assert after.key_pem != before.key_pem
    assert known(site, after.key_pem) == after.url
    assert known(site, before.key_pem) == ""
    for pem in (before.key_pem, after.key_pem):
        assert pem.splitlines()[1] not in ended.text
    works(site)


def cut_off(site: Site, *, ca_knows: bool) -> AccountRecord:
    """A change of the key that was killed: after the new one was saved, or after the CA had taken it."""
    where, record = account(site)
    record = replace(record, next_key_pem=new_key().decode())
    record.write(site.records(), where)
    if ca_knows:
        with talking(site) as (network, directory):
            network.sign_as(load_key(record.key_pem.encode()), record.url)
            change_key(network, directory, load_key(record.next_key_pem.encode()))
    return record


@pytest.mark.parametrize(
    "ca_knows", [pytest.param(False, id="before the CA heard"), pytest.param(True, id="after the CA heard")]
)
@pytest.mark.parametrize("then", ["issue", "show", "rollover", "revoke"])
def test_change_that_was_cut_off_leaves_an_account_that_works(site: Site, ca_knows: bool, then: str) -> None:
    name = fresh()
    site.issue(name)
    left = cut_off(site, ca_knows=ca_knows)
    if then == "issue":
        works(site)
    else:
        words = ["revoke", name] if then == "revoke" else ["account", then]
        ended = at_site(site, *words)
        assert ended.code == 0, ended.text
        works(site)
    _, now = account(site)
    assert now.url == left.url
    if then == "rollover":
        # Where the CA had not heard, the very key that was saved is gone on with; where it had, another follows.
        assert (now.key_pem == left.next_key_pem) is not ca_knows
        assert now.next_key_pem == ""
    elif ca_knows:
        assert (now.key_pem, now.next_key_pem) == (left.next_key_pem, "")
    else:
        assert (now.key_pem, now.next_key_pem) == (left.key_pem, left.next_key_pem)


def start_rollover(site: Site) -> subprocess.Popen[str]:
    given = {f"ACME_{name.upper()}": str(value) for name, value in site.given.items()}
    return subprocess.Popen(
        [*COMMAND, "account", "rollover"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=site.folder, env=environment(given),
    )  # fmt: skip


def test_killed_at_any_moment_the_account_works(site: Site) -> None:
    site.issue(fresh())
    watch = site.ca.watch()
    process = start_rollover(site)
    while not watch.heard() and process.poll() is None:
        time.sleep(0.002)
    begin = time.monotonic()
    assert finish(process).code == 0
    span = time.monotonic() - begin
    moments = random.Random(7)
    killed = 0
    for number in range(KILLS):
        watch = site.ca.watch()
        process = start_rollover(site)
        while not watch.heard() and process.poll() is None:
            time.sleep(0.002)
        time.sleep(span * (number + moments.random()) / KILLS)
        process.kill()
        if finish(process).code == -9:
            killed += 1
        else:
            span *= 0.8  # the machine has less to do than when it was measured
        works(site)
        ended = at_site(site, "account", "show", "--json")
        assert ended.code == 0, ended.text
        assert json.loads(ended.out)["status"] == "valid"
    assert killed >= KILLS // 2


def test_change_that_the_ca_refuses_leaves_the_old_key(site: Site) -> None:
    site.issue(fresh())
    where, record = account(site)
    # A key that has an account already is one that no CA takes.
    stranger = new_key().decode()
    with talking(site) as (network, directory):
        register(network, directory, load_key(stranger.encode()), email=None, agree_tos=True, external=None)
    replace(record, next_key_pem=stranger).write(site.records(), where)
    ended = at_site(site, "account", "rollover")
    assert ended.code == 1, ended.text
    assert "the CA refused" in ended.err
    _, now = account(site)
    assert (now.key_pem, now.next_key_pem) == (record.key_pem, "")
    assert at_site(site, "account", "rollover").code == 0


def test_account_is_ended_at_the_ca_and_forgotten_and_the_next_order_makes_another(site: Site) -> None:
    site.issue(fresh())
    _, record = account(site)
    ended = at_site(site, "account", "deactivate")
    assert ended.code == 2
    assert "--yes" in ended.err
    ended = at_site(site, "account", "deactivate", "--yes", "--json")
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["action"] == "deactivated"
    assert list(site.records().scan("account/")) == []
    site.issue(fresh())
    assert account(site)[1].url != record.url
    # As a command that was killed between the CA's answer and forgetting leaves it.
    where, now = account(site)
    record.write(site.records(), where)
    ended = at_site(site, "account", "deactivate", "--yes")
    assert ended.code == 0, ended.text
    assert "had been ended before" in ended.out
    assert now.url != record.url


def test_person_at_the_terminal_is_asked_before_the_account_ends(site: Site, tmp_path: Path) -> None:
    site.issue(fresh())
    words = ["--ca", site.given["ca"], "--ca-bundle", site.given["ca_bundle"]]
    code, seen = at_a_terminal(site.folder, "account", "deactivate", *words, answers=[("[y/N]", "n")])
    assert code == 1
    assert "End the account for ever" in seen
    works(site)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(("--email", "nobody"), "takes one email address", id="no address"),
        pytest.param(("--email", "a@example.com", "--no-email"), "exclude each other", id="address and none"),
    ],
)
def test_wrong_words_are_refused_before_the_ca_is_asked(site: Site, words: tuple[str, ...], says: str) -> None:
    ended = at_site(site, "account", "update", *words)
    assert ended.code == 2, ended.text
    assert says in ended.err
    assert site.requests() == []


def test_account_of_an_external_binding_is_found_by_its_key_id(
    make_site: Callable[..., Site], start_ca: Callable[..., CA]
) -> None:
    mac = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I"
    site = make_site(start_ca(eab={"kid-1": mac}), eab_kid="kid-1", eab_hmac_key=mac)
    site.issue(fresh())
    ended = at_site(site, "account", "show", "--json")
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["eab_kid"] == "kid-1"
    assert at_site(site, "account", "rollover").code == 0
    works(site)
