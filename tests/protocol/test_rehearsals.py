"""``--dry-run`` and ``--staging``: all is tried, and nothing is kept of it. ``status``: what a person then sees."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from both_cas import CA
from cryptography import x509
from killing import make_due
from pebble_lab import COMMAND, Ended, Site, app_404, environment, finish, fresh, serving

from acme_middleware import authorities, options
from acme_middleware.cli import main
from acme_middleware.errors import ValidationFailed
from acme_middleware.issuance.dry_run import dry_run
from acme_middleware.issuance.issuer import Issuer

BOTH = ("pretend-ca", "pretend-ca-staging")


@pytest.fixture
def twins(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CA with a staging twin: only the twin is there."""
    table = {
        "pretend-ca": authorities.Authority(
            "pretend-ca", "Pretend CA", "https://pretend.invalid/dir", staging="pretend-ca-staging"
        ),
        "pretend-ca-staging": authorities.Authority(
            "pretend-ca-staging", "Pretend CA (staging)", site.ca.directory_url, trusted=False
        ),
    }
    monkeypatch.setattr(authorities, "AUTHORITIES", {**authorities.AUTHORITIES, **table})


def kept(site: Site) -> list[str]:
    """All records but leases."""
    return [key for kind in ("account", "order", "certificate", "renewal") for key, _ in site.records().scan(f"{kind}/")]


@pytest.mark.usefixtures("twins")
def test_dry_run_orders_at_the_staging_twin_and_keeps_nothing(site: Site) -> None:
    names = [fresh(), fresh()]
    issuer = Issuer(options.read(("test", {**site.given, "ca": "pretend-ca"})), listener=site.events.append)
    steps = dry_run(issuer, names)
    assert any("an order at Pretend CA (staging)" in step for step in steps)
    assert any(", ".join(names) in step for step in steps)
    assert len(site.orders()) == 1
    assert "certificate" in site.requests()
    assert kept(site) == []
    assert site.tokens() == []
    assert not site.current(names[0]).exists()


def test_dry_run_without_a_staging_twin_orders_nothing(site: Site) -> None:
    ended = site.run(fresh(), "--dry-run")
    assert ended.code == 0, ended.text
    assert "no staging twin" in ended.out
    assert site.requests() == []
    assert kept(site) == []
    assert site.tokens() == []


def test_dry_run_finds_that_the_name_leads_elsewhere(ca: CA, make_site: Callable[..., Site]) -> None:
    site, name = make_site(ca, answers=False), fresh()
    issuer = Issuer(options.read(("test", site.given)))
    with serving(app_404, ca.http_port), pytest.raises(ValidationFailed, match=f"{name} does not lead to this app") as failed:
        dry_run(issuer, [name])
    assert "Nothing of that name" in failed.value.hint
    with pytest.raises(ValidationFailed, match=f"{name} does not lead to this app") as failed:
        dry_run(issuer, [name])
    assert "refused" in failed.value.hint
    assert site.requests() == []
    assert site.tokens() == []


@pytest.mark.usefixtures("twins")
def test_staging_asks_the_twin(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    name = fresh()
    _, _, *words = site.argv(name, "--staging", ca="pretend-ca")
    assert main(["issue", *words]) == 0
    assert "Pretend CA (staging)" in capsys.readouterr().out
    assert len(site.orders()) == 1
    # What browsers do not trust does not stay a minute longer than it must, but for now it is the newest.
    assert site.leaf(name).issuer == x509.load_pem_x509_certificate(site.ca.intermediate().encode()).subject


def test_staging_of_a_ca_without_a_twin_is_refused(site: Site) -> None:
    ended = site.run(fresh(), "--staging")
    assert ended.code == 2
    assert "no staging environment" in ended.err
    assert site.requests() == []


def status(site: Site, *words: str) -> Ended:
    import subprocess

    command = [*COMMAND, "status", "--store", site.given["store"], *words]
    return finish(
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=site.folder)
    )


def test_status_tells_what_issue_has_made(site: Site) -> None:
    first, second = sorted([fresh(), fresh()])
    site.issue(first)
    record = site.issue(second, f"www.{second}").record
    shown = status(site)
    assert shown.code == 0, shown.text
    assert [line.split()[:2] for line in shown.out.splitlines()[1:]] == [[first, "ok"], [second, "ok"]]
    assert shown.out.count("(ARI)") == 2
    said = json.loads(status(site, "--json").out)["certificates"]
    assert [one["name"] for one in said] == [first, second]
    assert said[1]["names"] == [second, f"www.{second}"]
    assert said[1]["serial"] == record.serial
    assert len(site.orders()) == 2


def test_status_asks_for_attention_where_a_renewal_is_overdue(site: Site) -> None:
    name = fresh()
    site.issue(name, profile="shortlived")
    make_due(site.records(), name)
    assert status(site).code == 0
    assert " due " in status(site).out


def test_status_of_no_certificate_says_how_to_get_one(site: Site) -> None:
    (site.store).mkdir()
    shown = status(site)
    assert shown.code == 0, shown.text
    assert "acme-middleware issue" in shown.out
