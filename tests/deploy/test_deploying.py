"""When deployers are called, how often, and what becomes of a failure: by a real CA, a clock that moves, and real programs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from renewal_site import RenewalSite, renewal_site

from acme_middleware import api, events
from acme_middleware.deploy import state
from acme_middleware.errors import ConfigurationError, DeployFailed
from acme_middleware.issuance import deploying
from acme_middleware.issuance.deleting import delete
from acme_middleware.issuance.sweep import exit_code, sweep
from acme_middleware.stores.memory import MemoryStore

NAME = "shop.example"


@pytest.fixture(scope="module")
def ca_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ca")


@pytest.fixture
def site(tmp_path: Path, ca_keys: Path) -> Iterator[RenewalSite]:
    with renewal_site(tmp_path, ca_keys) as running:
        yield running


class Hook:
    """A program that notes what it was called for; it fails while a file says so."""

    def __init__(self, folder: Path, name: str = "hook") -> None:
        self.told, self.failing = folder / f"{name}.told", folder / f"{name}.fails"
        path = folder / name
        path.write_text(
            f'#!/bin/sh\necho "$CERT_NAME $CERT_SERIAL $CERT_PREVIOUS_SERIAL" >> {self.told}\n'
            f"test ! -e {self.failing} || {{ echo the server does not like it; exit 1; }}\n"
        )
        path.chmod(0o755)
        self.spec = f"command:{json.dumps([str(path)])}"

    def calls(self) -> list[list[str]]:
        return [line.split() for line in self.told.read_text().splitlines()] if self.told.exists() else []


class Nginx:
    """A program in the place of nginx; its test fails while a file says so."""

    def __init__(self, folder: Path) -> None:
        self.failing = folder / "nginx.fails"
        path = folder / "nginx"
        path.write_text(
            f"#!/bin/sh\ntest ! -e {self.failing} || {{ echo 'nginx: [emerg] unknown directive \"foo\"' >&2; exit 1; }}\n"
        )
        path.chmod(0o755)
        self.spec = f"nginx:?binary={path}"


@pytest.fixture
def hook(tmp_path: Path) -> Hook:
    return Hook(tmp_path)


def live(site: RenewalSite) -> Path:
    return site.folder / "acme" / "live"


def run(site: RenewalSite, **more: Any) -> tuple[dict[str, str], int]:
    results = sweep(site.options(**more), listener=site.events.append)
    return {result.name: result.action for result in results}, exit_code(results)


def test_it_is_deployed_after_the_first_issue_and_each_renewal_and_only_then(site: RenewalSite, hook: Hook) -> None:
    first = site.issue(NAME, deploy=[hook.spec]).record.serial
    assert hook.calls() == [[NAME, first]]
    assert site.issue(NAME, deploy=[hook.spec]).undeployed == ()
    assert run(site, deploy=[hook.spec]) == ({NAME: "not due"}, 0)
    assert len(hook.calls()) == 1, "nothing has changed"
    site.to_renewal(NAME)
    assert run(site, deploy=[hook.spec]) == ({NAME: "renewed"}, 0)
    assert hook.calls()[1:] == [[NAME, site.record(NAME).serial, first]]
    assert [event.serial for event in site.said(events.Deployed)] == [first, site.record(NAME).serial]


def test_a_failure_keeps_the_certificate_and_is_repeated_by_the_next_run(site: RenewalSite, hook: Hook) -> None:
    hook.failing.touch()
    outcome = site.issue(NAME, deploy=[hook.spec])
    assert [(error.name, error.spec, error.step) for error in outcome.undeployed] == [(NAME, hook.spec, "hook")]
    assert "the server does not like it" in str(outcome.undeployed[0])
    assert (live(site) / NAME / "current" / "privkey.pem").exists()
    assert run(site, deploy=[hook.spec]) == ({NAME: "failed"}, 1)
    assert [type(event) for event in site.events if "Deploy" in type(event).__name__] == [events.DeployFailed] * 2
    assert not site.said(events.Failed), "issuing has not failed"
    assert state.read(live(site), NAME)[hook.spec].failures == 2

    hook.failing.unlink()
    assert run(site, deploy=[hook.spec]) == ({NAME: "not due"}, 0)
    assert run(site, deploy=[hook.spec]) == ({NAME: "not due"}, 0)
    assert [serial for _, serial in hook.calls()] == [outcome.record.serial] * 3
    assert site.orders() == 1


def test_a_renewal_that_is_not_deployed_is_renewed_and_failed(site: RenewalSite, hook: Hook) -> None:
    first = site.issue(NAME, deploy=[hook.spec]).record.serial
    hook.failing.touch()
    site.to_renewal(NAME)
    results = site.sweep(deploy=[hook.spec])
    assert results[NAME].action == "failed"
    assert results[NAME].reason.startswith("renewed, but ")
    assert isinstance(results[NAME].error, DeployFailed)
    assert results[NAME].record is not None
    assert results[NAME].record.serial != first
    assert state.read(live(site), NAME)[hook.spec].serial == first, "what the server has"


def test_one_that_fails_keeps_no_other_from_being_called(site: RenewalSite, hook: Hook, tmp_path: Path) -> None:
    other = Hook(tmp_path, "other")
    hook.failing.touch()
    specs = [hook.spec, "systemd:no/unit", other.spec]
    with pytest.raises(ConfigurationError, match="where a unit should be"):
        site.issue(NAME, deploy=specs)
    assert site.orders() == 0, "what cannot be followed is refused before a certificate is ordered"
    site.issue(NAME)
    outcome = site.issue(NAME, deploy=specs)
    assert [error.spec for error in outcome.undeployed] == specs[:2]
    assert len(other.calls()) == 1
    hook.failing.unlink()
    site.issue(NAME, deploy=[hook.spec, other.spec])
    assert (len(hook.calls()), len(other.calls())) == (2, 1), "only what has failed is repeated"


def test_where_the_proof_fails_what_stands_before_it_is_repeated(site: RenewalSite, hook: Hook, tmp_path: Path) -> None:
    """The most common accident: a hook ends well, and the server has not loaded anything."""
    after, nobody = Hook(tmp_path, "after"), "verify:127.0.0.1:1?wait=0"
    specs = [hook.spec, nobody, after.spec]
    assert [error.spec for error in site.issue(NAME, deploy=specs).undeployed] == [nobody]
    assert [error.spec for error in site.issue(NAME, deploy=specs).undeployed] == [nobody]
    assert (len(hook.calls()), len(after.calls())) == (2, 1)
    site.issue(NAME, deploy=[hook.spec, after.spec])
    assert (len(hook.calls()), len(after.calls())) == (2, 1), "without the proof nothing is in doubt"


def test_where_one_puts_the_certificate_before_back_none_counts_as_done(site: RenewalSite, hook: Hook, tmp_path: Path) -> None:
    """A server behind it would load the old certificate, and one before it loads that at its next start."""
    nginx = Nginx(tmp_path)
    after, current = Hook(tmp_path, "after"), live(site) / NAME / "current"
    specs = [hook.spec, nginx.spec, after.spec]
    first = site.issue(NAME, deploy=specs).record.serial
    nginx.failing.touch()
    site.to_renewal(NAME)
    results = site.sweep(deploy=specs)
    second, known = site.record(NAME).serial, state.read(live(site), NAME)
    assert os.readlink(current) == "1"
    assert [serial for _, serial, *_ in hook.calls()] == [first, second]
    assert [serial for _, serial, *_ in after.calls()] == [first], "it would have loaded the old one"
    assert not any(known[spec].is_done(second) for spec in specs)
    assert (
        f"{after.spec}: look at what is published: {nginx.spec} has put the certificate before back" in known[after.spec].error
    )
    assert [event.spec for event in site.said(events.DeployFailed)] == [nginx.spec, after.spec, hook.spec]
    assert "unknown directive" in results[NAME].reason, "of the three, the one that says why"

    told = (live(site) / NAME / "2").stat().st_ino
    nginx.failing.unlink()
    assert run(site, deploy=specs) == ({NAME: "not due"}, 0)
    assert run(site, deploy=specs) == ({NAME: "not due"}, 0)
    assert (os.readlink(current), current.stat().st_ino) == ("2", told), "the path that the first hook was given"
    assert [serial for _, serial, *_ in hook.calls()] == [first, second, second]
    assert [serial for _, serial, *_ in after.calls()] == [first, second]


def test_who_comes_after_another_that_put_it_back_does_not_say_that_it_is_deployed(site: RenewalSite, tmp_path: Path) -> None:
    nginx = Nginx(tmp_path)
    site.issue(NAME, deploy=[nginx.spec])
    nginx.failing.touch()
    site.to_renewal(NAME)
    assert run(site, deploy=[nginx.spec]) == ({NAME: "failed"}, 1)
    nginx.failing.unlink()
    noted = state.read(live(site), NAME)
    errors = deploying.deploy(site.options(deploy=[nginx.spec]), live(site), site.record(NAME), site.events.append)
    assert [error.step for error in errors] == ["look at what is published"]
    assert "the certificate before has been put back" in str(errors[0])
    assert state.read(live(site), NAME) == noted, "why it was put back"


def test_deployers_come_from_the_configuration_and_from_no_record(site: RenewalSite, hook: Hook) -> None:
    site.issue(NAME, deploy=[hook.spec])
    assert hook.spec not in site.store.get("renewal/" + NAME).value.decode()  # type: ignore[union-attr]
    site.to_renewal(NAME)
    assert run(site) == ({NAME: "renewed"}, 0)
    assert len(hook.calls()) == 1


def test_a_declared_certificate_may_have_deployers_of_its_own(site: RenewalSite, hook: Hook, tmp_path: Path) -> None:
    other = Hook(tmp_path, "other")
    declared = {NAME: {"deploy": [other.spec]}, "plain.example": {}, "quiet.example": {"deploy": []}}
    given: dict[str, Any] = {"certificates": declared, "deploy": [hook.spec]}
    assert run(site, **given)[1] == 0
    assert [name for name, _ in other.calls()] == [NAME]
    assert [name for name, _ in hook.calls()] == ["plain.example"]
    assert run(site, **given)[1] == 0
    site.issue(NAME, **given)
    assert (len(other.calls()), len(hook.calls())) == (1, 1)


def test_a_deployer_that_is_new_in_the_configuration_is_called_by_the_next_run(site: RenewalSite, hook: Hook) -> None:
    site.issue(NAME)
    assert run(site, deploy=[hook.spec]) == ({NAME: "not due"}, 0)
    assert len(hook.calls()) == 1


def test_from_a_programs_own_code_a_failure_is_an_exception_and_the_next_call_repeats_it(site: RenewalSite, hook: Hook) -> None:
    hook.failing.touch()
    given = {**site.usual, "deploy": [hook.spec]}
    for _ in range(2):
        with pytest.raises(DeployFailed, match="the server does not like it"):
            api.issue(NAME, **given)
    hook.failing.unlink()
    assert api.issue(NAME, **given).record.serial == site.record(NAME).serial
    assert (len(hook.calls()), site.orders()) == (3, 1)


def test_two_at_once_deploy_once(site: RenewalSite, hook: Hook) -> None:
    site.issue(NAME)
    threads = [threading.Thread(target=run, args=(site,), kwargs={"deploy": [hook.spec]}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(hook.calls()) == 1


class TestBadInput:
    def test_a_pair_that_is_none_reaches_no_server(self, site: RenewalSite, hook: Hook) -> None:
        site.issue(NAME)
        site.issue("other.example")
        directory = live(site) / NAME / "current"
        key = (live(site) / "other.example" / "current" / "privkey.pem").read_bytes()
        (directory / "privkey.pem").write_bytes(key)
        errors = site_deploys(site, hook)
        assert [error.step for error in errors] == ["read the pair"]
        assert "is not the key of" in str(errors[0])
        assert hook.calls() == []

    def test_a_key_that_is_gone_reaches_no_server(self, site: RenewalSite, hook: Hook) -> None:
        site.issue(NAME)
        (live(site) / NAME / "current" / "privkey.pem").unlink()
        errors = site_deploys(site, hook)
        assert [error.step for error in errors] == ["read the pair"]
        assert hook.calls() == []

    def test_an_expired_certificate_reaches_no_server(self, site: RenewalSite, hook: Hook) -> None:
        site.issue(NAME)
        site.clock.travel(days=91)
        errors = site_deploys(site, hook)
        assert [error.step for error in errors] == ["look at the dates"]
        assert hook.calls() == []

    def test_state_that_is_damaged_is_as_if_there_were_none(self, site: RenewalSite, hook: Hook) -> None:
        site.issue(NAME, deploy=[hook.spec])
        path = live(site) / ".deployed" / f"{NAME}.json"
        assert path.stat().st_mode & 0o777 == 0o600
        for damage in ("", "[]", '{"schema": 1, "deliveries": [{"colour": "red"}]}', '{"schema": 99}'):
            path.write_text(damage)
            assert run(site, deploy=[hook.spec]) == ({NAME: "not due"}, 0)
        assert len(hook.calls()) == 5

    def test_state_that_cannot_be_written_is_told_and_nothing_is_called(self, site: RenewalSite, hook: Hook) -> None:
        site.issue(NAME)
        (live(site) / ".deployed").write_text("in the way")
        errors = site_deploys(site, hook)
        assert [error.step for error in errors] == ["note what is deployed"]
        assert hook.calls() == []

    def test_deployers_without_files_to_deploy_are_refused(self, site: RenewalSite, hook: Hook) -> None:
        with pytest.raises(ConfigurationError, match="no PUBLISH_DIR"):
            site.issue(NAME, store=MemoryStore(), challenge_store=f"file:{site.folder / 'acme'}", deploy=[hook.spec])
        assert site.orders() == 0


def site_deploys(site: RenewalSite, hook: Hook) -> tuple[DeployFailed, ...]:
    """Deploy what is published now, without publishing it again."""
    return deploying.deploy(site.options(deploy=[hook.spec]), live(site), site.record(NAME), site.events.append)


def test_deleting_the_files_forgets_what_was_deployed(site: RenewalSite, hook: Hook) -> None:
    site.issue(NAME, deploy=[hook.spec])
    assert state.read(live(site), NAME)
    delete(site.options(), NAME, files=True)
    assert state.read(live(site), NAME) == {}
    assert not [entry for entry in os.listdir(live(site)) if not entry.startswith(".")]
