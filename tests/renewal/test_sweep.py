"""One sweep over many certificates: who is renewed and how, what is asked of the CA, and that one bad name stops no other."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from renewal_site import RenewalSite

from acme_middleware import clock, events
from acme_middleware.errors import ConfigurationError, NoSuchCertificate
from acme_middleware.issuance import advice, sweeps
from acme_middleware.issuance.deleting import delete
from acme_middleware.issuance.issuer import Issuer
from acme_middleware.issuance.records import CertificateRecord, certificate_key, renewal_key
from acme_middleware.issuance.sweep import Result, exit_code, sweep
from acme_middleware.lease import lease

Open = Callable[..., RenewalSite]
EXPLANATION = "https://ca.test/incident"


def leaf(site: RenewalSite, name: str) -> x509.Certificate:
    made = CertificateRecord.read(site.store, certificate_key(name))
    assert made is not None
    return x509.load_pem_x509_certificate(made.cert_pem.encode())


def forget_answers(site: RenewalSite, name: str) -> None:
    """It is time to ask the CA when to renew."""
    replace(site.record(name), ask_after=site.clock.now()).write(site.store, renewal_key(name))


def asked(site: RenewalSite) -> int:
    """How often the CA was asked when to renew."""
    return len(site.ca.requests("renewal-info"))


def damage(site: RenewalSite, name: str, changes: dict[str, object]) -> bytes:
    """Change the record of a certificate, as by hand; returns what it is then."""
    found = site.store.get(certificate_key(name))
    assert found is not None
    value = json.dumps(json.loads(found.value) | changes).encode()
    site.store.put(certificate_key(name), value)
    return value


DAMAGES = [
    pytest.param({"cert_pem": "no PEM"}, id="certificate that is no PEM"),
    pytest.param({"key_pem": "no PEM"}, id="key that is no PEM"),
    pytest.param({"schema": 99}, id="schema that is not known"),
]


class TestWhoIsDue:
    def test_nothing_due_asks_the_ca_nothing(self, site: RenewalSite) -> None:
        site.issue("a.example")
        heard = len(site.ca.requests())
        assert site.actions() == {"a.example": "not due"}
        assert len(site.ca.requests()) == heard

    @pytest.mark.parametrize("profile", ["90-days", "64-days", "45-days", "6-days"])
    def test_each_lifetime_is_renewed_at_its_time_and_says_what_it_replaces(self, site: RenewalSite, profile: str) -> None:
        first = site.issue("a.example", profile=profile).record
        site.clock.move_to(first.renew_after - timedelta(minutes=1))
        assert site.actions() == {"a.example": "not due"}
        site.clock.move_to(first.renew_after)
        assert site.actions() == {"a.example": "renewed"}
        assert site.record("a.example").profile == profile
        with site.ca.state.lock:
            assert [bool(order.replaces) for order in site.ca.state.orders.values()] == [False, True]

    def test_what_is_declared_and_not_there_is_issued(self, site: RenewalSite) -> None:
        declared = {"shop": {"names": ["shop.example", "www.shop.example"], "profile": "6-days", "key_type": "ec384"}}
        assert site.actions(certificates=declared) == {"shop": "issued"}
        record = site.record("shop")
        assert (record.names, record.profile) == (("shop.example", "www.shop.example"), "6-days")
        assert site.actions(certificates=declared) == {"shop": "not due"}

    def test_declared_names_that_change_are_issued_at_once_dropped_ones_too(self, site: RenewalSite) -> None:
        site.issue("a.example", "b.example")
        assert site.actions(certificates={"a.example": ["a.example", "c.example"]}) == {"a.example": "renewed"}
        assert site.record("a.example").names == ("a.example", "c.example")

    def test_what_the_configuration_no_longer_declares_is_renewed_as_it_was_issued(self, site: RenewalSite) -> None:
        site.sweep(certificates={"a.example": {"key_type": "ec384"}, "b.example": {}})
        site.to_renewal("a.example")
        assert site.actions(certificates={"b.example": {}}, force=True) == {"a.example": "renewed", "b.example": "renewed"}
        made = CertificateRecord.read(site.store, certificate_key("a.example"))
        assert made is not None
        assert made.key_type == "ec384"

    def test_expired_is_renewed(self, site: RenewalSite) -> None:
        site.issue("a.example")
        site.clock.travel(days=120)
        assert site.sweep()["a.example"].reason == "expired"

    def test_named_ones_only(self, site: RenewalSite) -> None:
        site.issue("a.example")
        site.issue("b.example")
        site.to_renewal("a.example")
        site.to_renewal("b.example")
        site.clock.travel(days=5)
        assert site.actions("b.example") == {"b.example": "renewed"}
        assert sweeps.read_all(site.store) == [], "one name is no sweep"

    def test_name_that_is_none_is_refused_and_the_nearest_named(self, site: RenewalSite) -> None:
        site.issue("shop.example")
        with pytest.raises(NoSuchCertificate, match=r"did you mean shop\.example"):
            site.sweep("shopp.example")

    def test_force_renews_what_is_not_due(self, site: RenewalSite) -> None:
        site.issue("a.example")
        assert site.actions(force=True) == {"a.example": "renewed"}

    def test_store_that_is_not_there_is_no_store_without_certificates(self, site: RenewalSite, tmp_path: Path) -> None:
        with pytest.raises(Exception, match="there is no directory"):
            site.sweep(store=f"file:{tmp_path / 'mistyped'}")
        assert not (tmp_path / "mistyped").exists()


class TestStaysAsItIs:
    def test_undeclared_certificate_stays_with_its_ca_whatever_is_configured_now(self, site: RenewalSite) -> None:
        site.issue("a.example", profile="6-days", key_type="ec384")
        site.to_renewal("a.example")
        assert site.actions(ca="letsencrypt", key_type="rsa4096", profile="other") == {"a.example": "renewed"}
        record = site.record("a.example")
        assert (record.profile, record.options["key_type"]) == ("6-days", "ec384")

    def test_account_stays_the_same_without_its_mac_key(self, open_site: Open) -> None:
        site = open_site(eab={"customer-7": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I"})
        bound = {"eab_kid": "customer-7", "eab_hmac_key": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I"}
        site.issue("a.example", **bound)
        site.to_renewal("a.example")
        assert site.actions() == {"a.example": "renewed"}
        assert len(site.ca.state.accounts) == 1

    def test_new_key_each_time(self, site: RenewalSite) -> None:
        site.issue("a.example")
        before = leaf(site, "a.example").public_key()
        site.sweep(force=True)
        assert leaf(site, "a.example").public_key() != before

    def test_certificate_of_a_staging_ca_is_due_only_where_it_is_declared(self, site: RenewalSite) -> None:
        site.issue("a.example")
        replace(site.record("a.example"), trusted=False).write(site.store, renewal_key("a.example"))
        assert site.actions() == {"a.example": "not due"}
        result = site.sweep(certificates={"a.example": {}})["a.example"]
        assert (result.action, result.reason) == ("renewed", "the one in use is from a staging CA")


class TestAdvice:
    def test_is_asked_for_again_when_it_is_time_and_moves_the_renewal(self, site: RenewalSite) -> None:
        site.issue("a.example")
        before = asked(site)
        site.clock.travel(hours=5)
        site.sweep()
        assert asked(site) == before, "the CA said six hours"
        moved = site.clock.now() + timedelta(days=20)
        site.ca.set_renewal_window(leaf(site, "a.example"), moved, moved + timedelta(hours=1))
        site.clock.travel(hours=2)
        private = site.store.get(certificate_key("a.example"))
        assert site.actions() == {"a.example": "not due"}
        assert asked(site) == before + 1
        record = site.record("a.example")
        assert moved <= record.renew_after <= moved + timedelta(hours=1)
        assert record.ari is not None
        assert record.ask_after == record.ari.ask_again
        assert site.store.get(certificate_key("a.example")) == private

    def test_needs_no_account_and_no_private_record(self, site: RenewalSite) -> None:
        site.issue("a.example")
        site.clock.travel(hours=7)
        for kind in ("account", "certificate", "order"):
            shutil.rmtree(site.folder / "acme" / kind, ignore_errors=True)
        before = asked(site)
        assert site.actions() == {"a.example": "not due"}
        assert asked(site) == before + 1

    def test_draw_is_kept_while_the_window_stays(self, site: RenewalSite) -> None:
        drawn = site.issue("a.example").record.renew_after
        for _ in range(3):
            site.clock.travel(hours=7)
            site.sweep()
            assert site.record("a.example").renew_after == drawn

    def test_revoked_certificate_is_renewed_at_the_next_asking_with_the_explanation(self, site: RenewalSite) -> None:
        site.issue("a.example")
        site.clock.travel(days=3)
        now = site.clock.now()
        begin, end = now - timedelta(days=1), now - timedelta(hours=1)
        site.ca.set_renewal_window(leaf(site, "a.example"), begin, end, EXPLANATION)
        result = site.sweep()["a.example"]
        assert result.action == "renewed"
        assert "perhaps it is revoked" in result.reason
        assert EXPLANATION in result.reason

    @pytest.mark.parametrize(
        "fault", ["ari-inverted", "ari-not-json", "ari-without-offset", "ari-after-expiry", "no-document", "html-page"]
    )
    def test_failure_is_a_warning_and_is_not_asked_again_at_once(self, site: RenewalSite, fault: str) -> None:
        site.issue("a.example")
        drawn = site.record("a.example").renew_after
        site.clock.travel(hours=7)
        site.ca.fault(fault, times=None, where="renewal-info")
        assert site.actions() == {"a.example": "not due"}
        [warning] = site.said(events.Warned)
        assert "no renewal information" in warning.message
        before = asked(site)
        site.sweep()
        assert asked(site) == before
        assert site.record("a.example").renew_after == drawn
        site.clock.travel(hours=2, minutes=1)
        site.sweep()
        assert asked(site) > before

    def test_ca_that_fails_is_asked_about_three_certificates_and_no_more(self, site: RenewalSite) -> None:
        for number in range(8):
            site.issue(f"{number}.example")
        site.clock.travel(hours=7)
        site.ca.fault("no-document", times=None, where="renewal-info")
        before = asked(site)
        site.sweep(jobs=1)
        assert asked(site) - before == advice.FAILURES
        assert len(site.said(events.Warned)) == advice.FAILURES

    def test_of_several_hosts_one_asks(self, site: RenewalSite) -> None:
        site.issue("a.example")
        site.clock.travel(hours=7)
        site.ca.fault("slow", where="renewal-info", seconds=0.5)
        before = asked(site)
        hosts = [threading.Thread(target=site.sweep) for _ in range(5)]
        for host in hosts:
            host.start()
        for host in hosts:
            host.join()
        assert asked(site) - before == 1

    def test_is_never_asked_for_after_expiry(self, site: RenewalSite) -> None:
        site.issue("a.example")
        site.clock.travel(days=91)
        before = asked(site)
        site.ca.fault("names-refused", times=None, where="new-order")
        assert site.actions() == {"a.example": "failed"}
        assert asked(site) == before

    def test_record_of_before_gets_the_id_of_its_certificate_once(self, site: RenewalSite) -> None:
        known = site.issue("a.example").record
        replace(known, ari_id="", ask_after=None).write(site.store, renewal_key("a.example"))
        assert site.actions() == {"a.example": "not due"}
        assert site.record("a.example").ari_id == "", "it is not time to ask"
        site.clock.travel(hours=7)
        before = asked(site)
        site.sweep()
        assert site.record("a.example").ari_id == known.ari_id
        assert asked(site) == before + 1


class TestBadNames:
    def test_one_that_fails_stops_no_other_and_says_when_it_is_tried_again(self, site: RenewalSite) -> None:
        declared = {f"{number}.example": {} for number in range(5)}
        site.ca.resolve["2.example"] = "127.0.0.1:9"
        results = site.sweep(certificates=declared)
        assert {name: result.action for name, result in results.items()} == {
            name: "failed" if name == "2.example" else "issued" for name in declared
        }
        failed = results["2.example"]
        assert failed.error is not None
        assert failed.next_try is not None
        assert failed.next_try > site.clock.now()
        assert exit_code(list(results.values())) == 1

    def test_one_that_failed_must_wait_and_then_is_tried_again(self, site: RenewalSite) -> None:
        site.ca.resolve["a.example"] = "127.0.0.1:9"
        first = site.sweep(certificates={"a.example": {}})["a.example"]
        orders = site.orders()
        waiting = site.sweep(certificates={"a.example": {}})["a.example"]
        assert (waiting.action, waiting.next_try) == ("must wait", first.next_try)
        assert exit_code([waiting]) == 75
        assert site.orders() == orders
        assert not [event for event in site.said(events.Failed) if event.error is waiting.error]
        del site.ca.resolve["a.example"]
        site.clock.travel(minutes=2)
        assert site.actions(certificates={"a.example": {}}) == {"a.example": "issued"}

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"\xff\xfe{", id="no text"),
            pytest.param(b'{"schema": 99}', id="a schema that is not known"),
            pytest.param(b'{"schema": 1, "name": 3}', id="a field of another type"),
            pytest.param(b'{"schema": 1, "not_after": "yesterday"}', id="a time that is none"),
        ],
    )
    def test_damaged_record_is_reported_kept_and_not_issued_over(self, site: RenewalSite, value: bytes) -> None:
        site.issue("a.example")
        site.issue("b.example")
        site.to_renewal("a.example")
        site.store.put(renewal_key("b.example"), value)
        results = site.sweep(certificates={"b.example": {}})
        assert results["a.example"].action == "renewed"
        assert results["b.example"].action == "damaged"
        assert "renewal/b.example" in results["b.example"].reason
        assert site.store.get(renewal_key("b.example")).value == value  # type: ignore[union-attr]
        assert exit_code(list(results.values())) == 1

    def test_file_that_is_no_record_is_reported_and_stops_no_renewal(self, site: RenewalSite) -> None:
        site.issue("a.example")
        site.to_renewal("a.example")
        for kind in ("renewal", "certificate", "ledger", "budget", "lock", "sweep"):
            (site.store.path / kind).mkdir(exist_ok=True)
            (site.store.path / kind / "a.example.bak").touch()
        results = site.sweep()
        assert {name: result.action for name, result in results.items()} == {"a.example": "renewed", "a.example.bak": "damaged"}
        assert "renewal/a.example.bak" in results["a.example.bak"].reason
        assert (site.store.path / "renewal" / "a.example.bak").read_bytes() == b""

    def test_record_under_another_name_is_damaged(self, site: RenewalSite) -> None:
        site.issue("a.example")
        found = site.store.get(renewal_key("a.example"))
        assert found is not None
        site.store.put(renewal_key("b.example"), found.value)
        results = site.sweep()
        assert {name: result.action for name, result in results.items()} == {"a.example": "not due", "b.example": "damaged"}
        assert "it is about a.example" in results["b.example"].reason

    def test_record_that_cannot_be_is_damaged_and_one_with_a_ca_that_is_none_fails_alone(self, site: RenewalSite) -> None:
        for name in ("a.example", "b.example", "c.example", "d.example", "e.example"):
            site.issue(name)
        record = site.record("a.example")
        replace(record, not_after=record.not_before).write(site.store, renewal_key("a.example"))
        replace(site.record("b.example"), options=[1]).write(site.store, renewal_key("b.example"))  # type: ignore[arg-type]
        strange = {**record.options, "ca": "nobody"}
        replace(site.record("c.example"), options=strange).write(site.store, renewal_key("c.example"))
        damaged = {**record.options, "ca": 5}
        replace(site.record("e.example"), options=damaged).write(site.store, renewal_key("e.example"))
        site.clock.travel(days=62)
        expected = {"a.example": "damaged", "b.example": "damaged", "c.example": "failed", "d.example": "renewed"}
        assert site.actions() == {**expected, "e.example": "damaged"}
        assert site.actions() == {**expected, "d.example": "not due", "e.example": "damaged"}

    @pytest.mark.parametrize("changes", DAMAGES)
    def test_damaged_certificate_that_is_to_be_published_fails_alone_and_is_kept(
        self, site: RenewalSite, changes: dict[str, object]
    ) -> None:
        site.issue("a.example")
        site.issue("b.example")
        value = damage(site, "b.example", changes)
        shutil.rmtree(site.folder / "acme/live")
        assert site.actions() == {"a.example": "not due", "b.example": "failed"}
        assert (site.folder / "acme/live/a.example/current").exists()
        assert site.store.get(certificate_key("b.example")).value == value  # type: ignore[union-attr]

    @pytest.mark.parametrize("changes", DAMAGES[:2])
    def test_damaged_certificate_that_is_due_is_replaced(self, site: RenewalSite, changes: dict[str, object]) -> None:
        site.issue("a.example")
        damage(site, "a.example", changes)
        site.to_renewal("a.example")
        assert site.actions() == {"a.example": "renewed"}

    def test_certificate_of_a_newer_version_is_left_alone(self, site: RenewalSite) -> None:
        site.issue("a.example")
        value = damage(site, "a.example", {"schema": 99})
        site.to_renewal("a.example")
        result = site.sweep()["a.example"]
        assert result.action == "failed"
        assert "schema 99" in result.reason
        assert site.store.get(certificate_key("a.example")).value == value  # type: ignore[union-attr]

    def test_name_that_no_certificate_can_have_fails_alone(self, site: RenewalSite) -> None:
        results = site.sweep(certificates={"*.example.com": {}, "a.example": {}})
        assert {name: result.action for name, result in results.items()} == {"*.example.com": "failed", "a.example": "issued"}
        assert "wildcard" in results["*.example.com"].reason

    def test_listener_that_fails_costs_one_name_only(self, site: RenewalSite, caplog: pytest.LogCaptureFixture) -> None:
        def listener(event: events.Event) -> None:
            if isinstance(event, events.AccountReady) and event.name == "b.example":
                raise RuntimeError("the listener has a bug")

        options = site.options(certificates={"a.example": {}, "b.example": {}, "c.example": {}})
        with caplog.at_level(logging.CRITICAL):
            results = sweep(options, listener=listener)
        assert [result.action for result in results] == ["issued", "failed", "issued"]
        assert "the listener has a bug" in results[1].reason

    def test_expiring_is_said_when_the_last_twentieth_fails(self, site: RenewalSite) -> None:
        end = site.issue("a.example").record.not_after
        site.ca.fault("names-refused", times=None, where="new-order")
        site.to_renewal("a.example")
        assert site.actions() == {"a.example": "failed"}
        assert site.said(events.Expiring) == []
        site.clock.move_to(end - timedelta(days=4))
        site.sweep()
        [expiring] = site.said(events.Expiring)
        assert (expiring.name, expiring.not_after) == ("a.example", end)

    def test_expiring_is_an_error_in_the_log(self, caplog: pytest.LogCaptureFixture, site: RenewalSite) -> None:
        with caplog.at_level(logging.INFO):
            events.log(events.Expiring(name="a.example", not_after=site.clock.now(), reason="why"))
        assert [record.levelname for record in caplog.records] == ["ERROR"]


class TestClock:
    @pytest.mark.parametrize("days", [400, -400], ids=["ahead", "behind"])
    def test_that_jumps_places_no_order_and_asks_the_ca_once(
        self, open_site: Open, monkeypatch: pytest.MonkeyPatch, days: int
    ) -> None:
        site = open_site()
        for number in range(6):
            site.issue(f"{number}.example")
        orders, heard = site.orders(), len(site.ca.requests())
        with clock.replaced(lambda: site.clock.now() + timedelta(days=days)):
            results = site.sweep(jobs=1)
        if days > 0:
            assert {type(result.error).__name__ for result in results.values()} == {"ClockOff"}
            assert len(site.ca.requests()) - heard == 1
        else:
            assert {result.action for result in results.values()} == {"not due"}
            assert len(site.ca.requests()) - heard <= 1
        assert site.orders() == orders
        assert set(site.actions().values()) == {"not due"}, "the clock is right again, and nothing was spoilt"

    def test_that_was_ahead_for_a_while_leaves_the_times_to_ask_as_they_were(self, site: RenewalSite) -> None:
        site.issue("a.example")
        before = site.record("a.example").ask_after
        with clock.replaced(lambda: site.clock.now() + timedelta(days=5)):
            assert site.actions() == {"a.example": "not due"}
        assert "this machine's clock is 120.0 h ahead" in site.said(events.Warned)[0].message
        assert site.record("a.example").ask_after == before


class TestOthers:
    def test_name_that_another_process_renews_comes_last_and_is_reported(self, site: RenewalSite) -> None:
        site.issue("a.example")
        site.issue("b.example")
        site.to_renewal("b.example")
        site.clock.travel(days=3)
        renewed = threading.Event()

        def elsewhere() -> None:
            with lease(site.store, "a.example"):
                held.set()
                assert renewed.wait(30)
                # It has renewed it, as far as anybody can see.
                later = replace(site.record("a.example"), renew_after=site.clock.now() + timedelta(days=30))
                later.write(site.store, renewal_key("a.example"))

        def listener(event: events.Event) -> None:
            if isinstance(event, events.Waiting):
                renewed.set()
            site.events.append(event)

        held = threading.Event()
        other = threading.Thread(target=elsewhere)
        other.start()
        assert held.wait(10)
        results = {result.name: result for result in sweep(site.options(), listener=listener)}
        other.join()
        assert results["b.example"].action == "renewed"
        order = [type(event) for event in site.events if isinstance(event, events.Issued | events.Waiting)][-2:]
        assert order == [events.Issued, events.Waiting]
        assert exit_code(list(results.values())) == 0

    def test_name_that_is_not_given_back_in_time_is_in_progress(
        self, site: RenewalSite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("acme_middleware.issuance.sweep.LEASE_WAIT", 0.3)
        site.issue("a.example")
        site.to_renewal("a.example")
        with lease(site.store, "a.example"):
            [result] = site.sweep().values()
        assert result.action == "in progress"
        assert "is being worked on by process" in result.reason
        assert exit_code([result]) == 0
        assert site.said(events.Failed) == []

    def test_many_at_once_make_one_order_for_each_name(self, site: RenewalSite) -> None:
        for name in ("a.example", "b.example", "c.example"):
            site.issue(name)
        site.clock.travel(days=62)
        before = site.orders()
        ended: list[dict[str, Result]] = []
        hosts = [threading.Thread(target=lambda: ended.append(site.sweep())) for _ in range(5)]
        for host in hosts:
            host.start()
        for host in hosts:
            host.join()
        assert site.orders() - before == 3
        assert len(ended) == 5
        assert sum(result.action == "renewed" for results in ended for result in results.values()) == 3
        assert all(exit_code(list(results.values())) == 0 for results in ended)


class TestPublishing:
    def test_what_was_saved_and_not_published_is_published_without_an_order(self, site: RenewalSite) -> None:
        site.issue("a.example")
        live = site.folder / "acme/live/a.example"

        def listener(event: events.Event) -> None:
            if isinstance(event, events.Issued):  # saved, and the disk fails when it is to be published
                shutil.rmtree(live)
                live.write_text("in the way")

        site.to_renewal("a.example")
        [result] = sweep(site.options(), listener=listener)
        assert (result.action, type(result.error).__name__) == ("failed", "PublishFailed")
        orders = site.orders()
        live.unlink()
        assert site.actions() == {"a.example": "not due"}
        assert (live / "current/cert.pem").read_bytes() == leaf(site, "a.example").public_bytes(Encoding.PEM)
        assert site.orders() == orders

    def test_what_another_host_renewed_is_published_here(self, site: RenewalSite, tmp_path: Path) -> None:
        site.issue("a.example", publish_dir=tmp_path / "one")
        site.sweep(publish_dir=tmp_path / "two")
        site.sweep(publish_dir=tmp_path / "one", force=True)
        site.sweep(publish_dir=tmp_path / "two")
        one, two = (tmp_path / host / "a.example/current/cert.pem" for host in ("one", "two"))
        assert one.read_bytes() == two.read_bytes() == leaf(site, "a.example").public_bytes(Encoding.PEM)

    def test_no_private_record_is_read_for_what_is_published(self, site: RenewalSite, monkeypatch: pytest.MonkeyPatch) -> None:
        site.issue("a.example")
        shutil.rmtree(site.folder / "acme/certificate")
        assert site.actions() == {"a.example": "not due"}

    def test_that_fails_is_a_failure_of_that_name(self, site: RenewalSite) -> None:
        site.issue("a.example")
        site.issue("b.example")
        live = site.folder / "acme/live"
        shutil.rmtree(live / "a.example")
        (live / "a.example").write_text("in the way")
        results = site.sweep()
        assert results["b.example"].action == "not due"
        assert type(results["a.example"].error).__name__ == "PublishFailed"


class TestSweeps:
    def test_are_noted_with_what_they_did(self, site: RenewalSite) -> None:
        site.issue("a.example")
        site.sweep(every=3600)
        [noted] = sweeps.read_all(site.store)
        assert (noted.counts, noted.every, noted.previous) == ({"not due": 1}, 3600, None)
        site.clock.travel(hours=6)
        site.sweep()
        [noted] = sweeps.read_all(site.store)
        assert noted.pause is not None
        assert abs(noted.pause - timedelta(hours=6)) < timedelta(minutes=1)

    def test_that_are_stopped_begin_no_further_name(self, site: RenewalSite) -> None:
        stop = threading.Event()

        def listener(event: events.Event) -> None:
            if isinstance(event, events.Issued):
                stop.set()

        declared = {f"{number}.example": {} for number in range(4)}
        results = sweep(site.options(certificates=declared), jobs=1, listener=listener, stop=stop)
        assert [result.action for result in results] == ["issued", "must wait", "must wait", "must wait"]
        assert exit_code(results) == 75

    def test_what_is_deleted_meanwhile_stays_so(self, site: RenewalSite) -> None:
        site.issue("gone.example")
        site.clock.travel(days=62)
        orders = site.orders()

        def meanwhile(event: events.Event) -> None:
            if isinstance(event, events.SweepBegan):
                delete(site.options(), "gone.example")

        [result] = sweep(site.options(), listener=meanwhile)
        assert (result.action, "was deleted since" in result.reason) == ("in progress", True)
        assert site.store.get(renewal_key("gone.example")) is None
        assert site.orders() == orders

    def test_names_that_are_dropped_meanwhile_stay_so(self, site: RenewalSite) -> None:
        site.issue("shop.example", "www.shop.example")
        site.clock.travel(days=62)

        def meanwhile(event: events.Event) -> None:
            if isinstance(event, events.SweepBegan):
                Issuer(site.options()).issue(["shop.example"], drop_names=True)

        [result] = sweep(site.options(), listener=meanwhile)
        assert (result.action, "has got other names" in result.reason) == ("in progress", True)
        assert site.record("shop.example").names == ("shop.example",)
        assert site.actions() == {"shop.example": "not due"}

    def test_most_urgent_first(self, site: RenewalSite) -> None:
        site.issue("a.example")
        site.issue("b.example", profile="6-days")
        site.issue("c.example", profile="45-days")
        site.clock.travel(days=5.9)
        site.events.clear()
        site.sweep(jobs=1, force=True)
        assert [event.name for event in site.said(events.Issued)] == ["b.example", "c.example", "a.example"]

    def test_interrupted_removes_its_tokens_and_gives_its_leases_back(self, site: RenewalSite) -> None:
        class Interrupted(BaseException):
            pass

        def listener(event: events.Event) -> None:
            if isinstance(event, events.Presented):
                raise Interrupted

        declared = {f"{number}.example": {} for number in range(4)}
        with pytest.raises(Interrupted):
            sweep(site.options(certificates=declared), listener=listener)
        challenges = site.folder / "acme/challenges/.well-known/acme-challenge"
        assert [path.name for path in challenges.iterdir() if not path.name.startswith(".")] == []
        for name in declared:
            with lease(site.store, name):
                pass

    @pytest.mark.parametrize("jobs", [0, -1])
    def test_without_anybody_to_do_them_are_refused(self, site: RenewalSite, jobs: int) -> None:
        with pytest.raises(ConfigurationError, match="jobs"):
            site.sweep(jobs=jobs)
