"""The account at a CA: one for all names and processes, and a new one where the CA has lost it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from both_cas import CA
from pebble_lab import Site, finish, fresh

from acme_middleware import events, options
from acme_middleware.errors import AcmeMiddlewareError
from acme_middleware.issuance.issuer import Action, Issuer
from acme_middleware.issuance.records import AccountRecord, order_key
from acme_middleware.stores.base import key


def account(site: Site) -> tuple[str, AccountRecord]:
    ((where, record),) = list(site.records().scan("account/"))
    return where, AccountRecord.decode(where, record.value, record.version)


def test_account_is_used_again_for_every_name_and_run(site: Site) -> None:
    name = fresh()
    site.issue(name)
    first = account(site)
    site.issue(fresh())
    site.run(name, "--force")
    assert account(site) == first
    assert site.accounts() == 1
    assert site.requests("new-account") == ["new-account"]
    assert [event.created for event in site.events if isinstance(event, events.AccountReady)] == [True, False]


def test_processes_that_register_at_once_end_up_with_one_account(site: Site) -> None:
    names = [fresh() for _ in range(4)]
    processes = [site.start(name) for name in names]
    for ended in map(finish, processes):
        assert ended.code == 0, ended.text
    assert site.accounts() == 1
    assert account(site)[1].url
    certificates = [json.loads(record.value) for _, record in site.records().scan("certificate/")]
    assert {certificate["account_url"] for certificate in certificates} == {account(site)[1].url}
    assert len(certificates) == 4


def test_key_that_was_saved_before_a_crash_is_registered_by_the_next_run(site: Site) -> None:
    site.issue(fresh())
    where, saved = account(site)
    # As a run that was killed between saving the key and hearing the CA's answer leaves it.
    replace(saved, url="").write(site.records(), where)
    site.issue(fresh())
    now = account(site)[1]
    assert (now.url, now.key_pem) == (saved.url, saved.key_pem)
    assert site.accounts() == 1


def origin(ca: CA) -> str:
    return f"https://{urlsplit(ca.directory_url).netloc}"


def lose_account(site: Site, stranger: Site) -> AccountRecord:
    """Let the CA have forgotten the account: one of another CA's is all that to it."""
    stranger.issue(fresh())
    unknown = account(stranger)[1]
    where, known = account(site)
    url = f"{origin(site.ca)}{urlsplit(unknown.url).path}"
    lost = replace(unknown, url=url, directory=known.directory)
    lost.write(site.records(), where)
    return lost


def test_account_that_the_ca_does_not_know_is_made_anew_once(
    site: Site, make_site: Callable[..., Site], start_ca: Callable[..., CA]
) -> None:
    name = fresh()
    site.issue(name)
    known = account(site)[1]
    lost = lose_account(site, make_site(start_ca()))
    outcome = site.issue(name, force=True)
    assert outcome.action is Action.RENEWED
    assert site.warnings() == ["the CA does not know our account any more; a new one is made"]
    now = account(site)[1]
    assert now.url not in ("", lost.url, known.url)
    assert now.key_pem not in (lost.key_pem, known.key_pem)
    assert site.accounts() == 2
    assert len(site.orders()) == 2
    site.issue(name, force=True)
    assert site.accounts() == 2


def test_who_loses_account_and_lease_leaves_the_order_of_its_successor(
    site: Site, make_site: Callable[..., Site], start_ca: Callable[..., CA]
) -> None:
    site.issue(fresh())
    lose_account(site, make_site(start_ca()))
    name, successors = fresh(), b'{"schema": 1}'

    def frozen_here(event: events.Event) -> None:
        if isinstance(event, events.Warned):
            site.records().put(key("lock", name), b"{}")
            site.records().put(order_key(name), successors)

    with pytest.raises(AcmeMiddlewareError):
        Issuer(options.read(("test", site.given)), listener=frozen_here).issue([name])
    left = site.records().get(order_key(name))
    assert left is not None
    assert left.value == successors


def test_processes_that_find_the_account_lost_at_once_make_one_new_one(
    site: Site, make_site: Callable[..., Site], start_ca: Callable[..., CA]
) -> None:
    site.issue(fresh())
    lose_account(site, make_site(start_ca()))
    for ended in map(finish, [site.start(fresh()) for _ in range(4)]):
        assert ended.code == 0, ended.text
    assert site.accounts() == 2  # the one that was lost, and one


def test_lost_account_takes_its_order_under_way_with_it(
    site: Site, make_site: Callable[..., Site], start_ca: Callable[..., CA]
) -> None:
    stranger = make_site(start_ca(), self_check="require", self_check_via="127.0.0.1:9")
    name = fresh()
    ended = stranger.run(name)
    assert ended.code == 1, ended.text
    base, other = (origin(one.ca) for one in (site, stranger))
    theirs = {key: record.value for kind in ("account", "order") for key, record in stranger.records().scan(f"{kind}/")}
    assert len(theirs) == 2
    site.issue(fresh())
    where, known = account(site)
    ca = where.split("/")[1]
    for kept, value in theirs.items():
        record = json.loads(value.replace(other.encode(), base.encode()))
        if "ca" in record:
            record["ca"] = ca
        site.records().put(where if kept.startswith("account/") else kept, json.dumps(record).encode())
    outcome = site.issue(name)
    assert outcome.action is Action.ISSUED
    assert account(site)[1].url != known.url
    assert len(site.orders()) == 2
