"""``renew`` and ``status`` as they are typed: what they print, their JSON, their exit codes, and what they cost."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from renewal_site import RenewalSite

from acme_middleware.cli import main
from acme_middleware.errors import CARefused
from acme_middleware.issuance.ledger import LedgerRecord, ledger_key
from acme_middleware.issuance.records import RenewalRecord, RenewalWindow, renewal_key
from acme_middleware.issuance.sweeps import SweepRecord, sweep_key
from acme_middleware.stores.directory import DirectoryStore

FOREIGN = ("acme", "josepy", "requests", "urllib3", "cryptography", "rich")


class Typed:
    """Runs verbs in this process, by the clock of the site."""

    def __init__(self, site: RenewalSite, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.site, self.capture, self.patch = site, capture, patch

    def __call__(self, verb: str, *words: str, certificates: Any = None) -> tuple[int, str, str]:
        usual = {name: value for name, value in self.site.usual.items() if verb != "status" or name in ("store", "ca")}
        flags = [word for name, value in usual.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        self.patch.setenv("ACME_CERTIFICATES", json.dumps(certificates or {}))
        self.capture.readouterr()
        code = main([verb, *flags, *words])
        return code, *self.capture.readouterr()

    def lines(self, verb: str, *words: str, certificates: Any = None) -> tuple[int, list[Any]]:
        code, out, _ = self(verb, *words, "--json", certificates=certificates)
        return code, [json.loads(line) for line in out.splitlines()]

    def status(self, certificates: Any = None) -> tuple[int, dict[str, Any]]:
        code, [document] = self.lines("status", certificates=certificates)
        return code, document


@pytest.fixture
def typed(site: RenewalSite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typed:
    for name in [name for name in os.environ if name.startswith("ACME_")]:
        monkeypatch.delenv(name)
    return Typed(site, capsys, monkeypatch)


class TestRenew:
    def test_summary_says_how_it_went_and_what_is_next(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example")
        site.issue("b.example", profile="6-days")
        site.to_renewal("b.example")
        code, out, err = typed("renew")
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert lines[0].split() == ["NAME", "RESULT", "VALID", "UNTIL", "RENEWS", "ABOUT"]
        assert lines[1].split()[:2] == ["b.example", "renewed"]
        assert "due for renewal" in lines[2]
        assert lines[3].startswith("  2 certificates: ")
        assert "1 renewed" in lines[3]
        assert "the next is due about" in lines[3]
        assert "a.example" not in "\n".join(lines[:3]), "who is not due is counted only"
        assert all(len(line) <= 80 for line in lines[:3])

    def test_nothing_due_is_one_line(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example")
        code, out, _ = typed("renew")
        assert code == 0
        [line] = out.splitlines()
        assert line.startswith("  1 certificate: 1 not due; the next is due about ")
        assert line.endswith("(a.example)")

    def test_named_one_is_shown_though_it_is_not_due(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example")
        assert "a.example  not due" in typed("renew", "a.example")[1]

    def test_json_is_a_line_for_each_name_and_a_summary(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example", "www.a.example")
        site.ca.resolve["bad.example"] = "127.0.0.1:9"
        code, lines = typed.lines("renew", certificates={"bad.example": {}, "new.example": {}})
        assert code == 1
        *each, last = lines
        assert [(line["name"], line["action"]) for line in each] == [
            ("a.example", "not due"),
            ("bad.example", "failed"),
            ("new.example", "issued"),
        ]
        known, bad, _ = each
        record = site.record("a.example")
        assert (known["names"], known["serial"]) == (["a.example", "www.a.example"], record.serial)
        assert (known["error"], known["next_try"]) == (None, None)
        assert (bad["error"]["type"], bad["error"]["exit_code"], bad["names"]) == ("ValidationFailed", 1, None)
        assert bad["error"]["hint"]
        assert datetime.fromisoformat(bad["next_try"]) > site.clock.now()
        assert last["summary"]["counts"] == {"not due": 1, "failed": 1, "issued": 1}
        assert (last["summary"]["certificates"], last["summary"]["exit_code"]) == (3, 1)
        assert last["summary"]["next"]["name"] in ("a.example", "new.example")

    def test_help_documents_every_key_of_the_json(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example")
        _, [line, last] = typed.lines("renew")
        shown = " ".join(typed("renew", "--help")[1].split())
        assert [key for key in [*line, *last["summary"]] if key not in shown] == []
        _, document = typed.status()
        shown = " ".join(typed("status", "--help")[1].split())
        assert [key for key in [*document, *document["certificates"][0]] if key not in shown] == []

    def test_failure_shows_the_reason_the_remedy_and_the_next_try(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example")
        site.to_renewal("a.example")
        site.ca.fault("names-refused", times=None, where="new-order")
        code, out, _ = typed("renew")
        assert code == 1
        assert "a.example  failed" in out
        assert "next try" in out
        assert "rejectedIdentifier" in out
        code, out, _ = typed("renew")
        assert code == 75
        assert "must wait" in out

    def test_expiring_is_shouted(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example")
        site.clock.travel(days=91)
        site.ca.fault("names-refused", times=None, where="new-order")
        assert "EXPIRING    a.example" in typed("renew")[1]

    def test_dry_run_tries_all_and_changes_nothing(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example")
        before = {path: path.read_bytes() for path in (site.folder / "acme").rglob("*") if path.is_file() and not _lock(path)}
        orders = site.orders()
        code, [good, new, bad, last] = typed.lines("renew", "--dry-run", certificates={"b.example": {}, "c.example": ["c_d"]})
        assert (code, last["summary"]["counts"]) == (1, {"tried": 2, "failed": 1})
        assert [line["action"] for line in (good, new, bad)] == ["tried", "tried", "failed"]
        assert "no staging twin" in good["reason"] or "up to the certificate" in good["reason"]
        assert "underscore" in bad["reason"]
        after = {path: path.read_bytes() for path in (site.folder / "acme").rglob("*") if path.is_file() and not _lock(path)}
        assert after == before
        assert site.orders() == orders

    def test_unknown_name_is_exit_2(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example")
        code, out, err = typed("renew", "b.example")
        assert (code, out) == (2, "")
        assert err.startswith("error: there is no certificate 'b.example'")

    def test_store_without_certificates_says_how_to_get_one(self, site: RenewalSite, typed: Typed) -> None:
        site.store.check(writable=True)
        code, out, _ = typed("renew")
        assert (code, out) == (0, "  no certificate yet: `acme-middleware issue example.com` gets one\n")

    @pytest.mark.parametrize("words", [("--jobs", "0"), ("--jobs", "many"), ("--profile", "x")])
    def test_wrong_flag_is_exit_2(self, typed: Typed, words: tuple[str, str]) -> None:
        assert typed("renew", *words)[0] == 2

    def test_unknown_key_of_a_certificate_names_the_valid_ones(self, site: RenewalSite, typed: Typed) -> None:
        code, _, err = typed("renew", certificates={"a.example": {"domains": ["a.example"]}})
        assert code == 2
        assert "only names, profile, key_type, deploy are known" in err


def _lock(path: Path) -> bool:
    return path.name == ".lock"


class TestStatus:
    def test_shows_state_dates_ca_and_profile(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example", profile="45-days")
        code, document = typed.status(certificates={"new.example": {}})
        assert code == 0
        ours, missing = document["certificates"]
        assert (ours["state"], ours["renews_by"], ours["profile"], ours["declared"]) == ("ok", "ARI", "45-days", False)
        assert (missing["state"], missing["why"], missing["serial"]) == ("missing", "never issued", None)
        assert (missing["names"], missing["declared"]) == (["new.example"], True)
        _, out, _ = typed("status", certificates={"new.example": {}})
        assert "(ARI)" in out
        assert "(45-days)" in out
        assert "not in CERTIFICATES: renewed as it was issued" in out

    def test_without_advice_the_lifetime_says_when(self, site: RenewalSite, typed: Typed) -> None:
        record = site.issue("a.example").record
        replace(record, ari=None, renew_after=record.not_before + timedelta(days=60)).write(
            site.store, renewal_key("a.example")
        )
        assert typed.status()[1]["certificates"][0]["renews_by"] == "lifetime"
        assert "(ARI)" not in typed("status")[1]

    def test_shows_the_last_error_and_when_it_is_tried_again(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example")
        site.to_renewal("a.example")
        site.ca.fault("names-refused", times=None, where="new-order")
        typed("renew")
        code, document = typed.status()
        assert code == 0, "it is failing, and there is time"
        [one] = document["certificates"]
        assert (one["state"], one["last_error"]["failures"]) == ("failing", 1)
        assert datetime.fromisoformat(one["last_error"]["next_try"]) > site.clock.now()
        out = typed("status")[1]
        assert "last error: " in out
        assert "next try " in out

    def test_never_issued_and_failing_needs_somebody(self, site: RenewalSite, typed: Typed) -> None:
        site.ca.resolve["a.example"] = "127.0.0.1:9"
        typed("renew", certificates={"a.example": {}})
        code, document = typed.status(certificates={"a.example": {}})
        assert (code, document["certificates"][0]["state"]) == (3, "failing")

    def test_first_issue_that_failed_is_shown_though_nobody_declares_it(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("b.example")
        site.ca.fault("names-refused", times=None, where="new-order")
        for names in (["a.example", "www.a.example"], ["c.example"]):
            with pytest.raises(CARefused):
                site.issue(*names)
        code, document = typed.status()
        assert [one["name"] for one in document["certificates"]] == ["a.example", "b.example", "c.example"]
        assert code == 0, "nobody declares it, so it is no alarm that a mistyped name was refused once"
        [ours, issued, _] = document["certificates"]
        assert (ours["state"], ours["names"], ours["declared"]) == ("failing", ["a.example", "www.a.example"], False)
        assert ours["last_error"]["error"] == "the CA refused: some identifiers are refused (compound)"
        assert datetime.fromisoformat(ours["last_error"]["next_try"]) > site.clock.now()
        assert (issued["state"], issued["last_error"]) == ("ok", None)
        lines = typed("status", certificates={"b.example": {}})[1].splitlines()
        assert (lines[1].split()[:2], "next try " in lines[1]) == (["a.example", "failing"], True)
        assert "`renew` leaves it out" in lines[2]
        assert "last error: " in lines[3]
        assert "not in CERTIFICATES" not in "\n".join(lines)
        assert main(["delete", "a.example", "--yes", "--store", str(site.usual["store"])]) == 0
        assert [one["name"] for one in typed.status()[1]["certificates"]] == ["b.example", "c.example"]

    def test_however_many_have_failed_the_store_is_asked_as_often(
        self, site: RenewalSite, typed: Typed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        for method in ("get", "scan"):
            real = getattr(DirectoryStore, method)

            def noted(store: DirectoryStore, where: str, real: Callable[..., Any] = real) -> Any:
                asked.append(where)
                return real(store, where)

            monkeypatch.setattr(DirectoryStore, method, noted)
        site.ca.fault("names-refused", times=None, where="new-order")
        counts = []
        for name in ("a.example", "b.example", "c.example"):
            with pytest.raises(CARefused):
                site.issue(name)
            asked.clear()
            typed.status()
            counts.append(len(asked))
        assert len(set(counts)) == 1, asked

    def test_declared_name_that_no_certificate_can_have_is_failing(self, site: RenewalSite, typed: Typed) -> None:
        site.store.check(writable=True)
        code, document = typed.status(certificates={"*.a.example": {}})
        assert (code, document["certificates"][0]["state"]) == (3, "failing")
        assert "wildcard" in document["certificates"][0]["problem"]

    def test_emergency_is_overdue(self, site: RenewalSite, typed: Typed) -> None:
        end = site.issue("a.example").record.not_after
        site.clock.move_to(end - timedelta(days=4))
        code, document = typed.status()
        assert (code, document["certificates"][0]["state"]) == (3, "overdue")

    def test_explanation_of_the_ca_is_shown(self, site: RenewalSite, typed: Typed) -> None:
        record = site.issue("a.example").record
        assert record.ari is not None
        told = replace(record, ari=replace(record.ari, explanation="https://ca.test/incident"))
        told.write(site.store, renewal_key("a.example"))
        assert "https://ca.test/incident" in typed("status")[1]
        assert typed.status()[1]["certificates"][0]["explanation"] == "https://ca.test/incident"

    def test_last_sweep_is_shown_with_its_host(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example")
        site.sweep()
        site.clock.travel(hours=6)
        site.sweep()
        site.clock.travel(minutes=2)
        site.sweep()  # by hand
        site.clock.travel(minutes=11)
        out = typed("status")[1]
        assert f"last sweep 11 min ago on {os.uname().nodename}, every 6 h expected" in out
        [swept] = typed.status()[1]["sweeps"]
        assert swept["counts"] == {"not due": 1}
        assert abs(swept["every"] - 6 * 3600) < 180

    @pytest.mark.parametrize(
        ("profile", "every", "said"),
        [
            pytest.param("6-days", 12, "the sweeps come every 12 h, which is too rare for certificates of 6 d", id="6 days"),
            pytest.param("6-days", 2, None, id="6 days, often"),
            pytest.param("45-days", 12, None, id="45 days"),
            pytest.param("45-days", 24, "too rare for certificates of 45 d", id="45 days, daily"),
            pytest.param("90-days", 24, None, id="90 days, daily"),
        ],
    )
    def test_sweeps_that_come_too_rarely_for_the_shortest_lifetime_are_told(
        self, site: RenewalSite, typed: Typed, profile: str, every: int, said: str | None
    ) -> None:
        site.issue("a.example", profile=profile)
        now = site.clock.now()
        SweepRecord(
            host="web-2", began=now - timedelta(minutes=9), ended=now - timedelta(minutes=8), every=every * 3600.0, counts={}
        ).write(site.store, sweep_key("web-2"))
        warnings = typed.status()[1]["warnings"]
        if said is None:
            assert warnings == []
        else:
            assert said in warnings[0]
            assert f"warning: {warnings[0]}" in typed("status")[1]

    def test_sweeps_that_stopped_are_told(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example")
        site.sweep(every=6 * 3600)
        site.clock.travel(days=4)
        [warning] = typed.status()[1]["warnings"]
        assert f"the last sweep was 4 d ago, on {os.uname().nodename}" in warning

    def test_damaged_sweep_record_is_no_obstacle(self, site: RenewalSite, typed: Typed) -> None:
        site.issue("a.example")
        site.store.put(sweep_key("web-2"), b"{")
        assert typed.status()[0] == 0


def test_what_a_person_reads_fits_into_80_columns(site: RenewalSite, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    live = site.folder / ("a-long-name-" * 5) / "live"
    _, issued, _ = typed("issue", "a.example", "--publish-dir", str(live))
    site.to_renewal("a.example")
    site.ca.fault("unavailable", times=None, where="new-order")
    _, failed, _ = typed("renew")
    _, status, _ = typed("status")
    wide = [line for line in (issued + failed + status).splitlines() if len(line) > 80]
    assert [line for line in wide if f"{live}/" not in line and "  localhost_" not in line] == [], "neither a path nor a table"
    assert re.search(rf"^  published   {live}/a.example/current/\n {{14}}bundle cert ", issued, re.MULTILINE)
    assert re.search(r"^  issued      valid until .*\n {14}\S", issued, re.MULTILINE)
    assert re.search(r"^      last error: .*\n        \S.* UTC\)$", status, re.MULTILINE)


def renewals(store: Path, count: int, *, age: float = 10) -> None:
    """Many certificates of 90 days, of such an age and published; of which no CA is to be asked."""
    now = datetime.now(UTC)
    start = now - timedelta(days=age)
    window = RenewalWindow(
        start=start + timedelta(days=60), end=start + timedelta(days=62), drawn=start + timedelta(days=61), ask_again=now
    )
    for number in range(count):
        name = f"copy-{number}.example"
        RenewalRecord(
            name=name,
            names=(name,),
            ca="letsencrypt",
            trusted=True,
            profile="",
            not_before=start,
            not_after=start + timedelta(days=90),
            serial="1",
            fingerprint=hashlib.sha256(bytes(3)).hexdigest(),
            issued_at=start,
            renew_after=window.drawn,
            ari=window,
            ari_id="a.b",
            ask_after=now + timedelta(hours=6),
        ).write(DirectoryStore(store), renewal_key(name))
        folder = store / "live" / name / "1"
        folder.mkdir(parents=True)
        (folder.parent / "current").symlink_to("1")
        (folder / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


RUN = (
    "import sys, socket; socket.socket.connect = None\n"
    "from acme_middleware.cli import main\n"
    "code = main(['renew', '--store', 'file:store'])\n"
    f"print(code, [name for name in {FOREIGN} if name in sys.modules])"
)
"""Runs `renew` where nothing can be connected to, and says what it loaded."""


def alone(folder: Path) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ACME_")}
    ended = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, cwd=folder, env=clean, check=True)
    return ended.stdout.splitlines()


def test_nothing_due_loads_no_acme_client_and_asks_no_ca(tmp_path: Path) -> None:
    renewals(tmp_path / "store", 20)
    *_, summary, loaded = alone(tmp_path)
    assert loaded == "0 []"
    assert summary.startswith("  20 certificates: 20 not due; ")


def test_names_that_must_wait_load_no_acme_client_either(tmp_path: Path) -> None:
    renewals(tmp_path / "store", 3, age=75)
    now = datetime.now(UTC)
    for name in (f"copy-{number}.example" for number in range(3)):
        LedgerRecord(
            name=name,
            ca="letsencrypt",
            account="default",
            names=(name,),
            failures=4,
            kind="silent",
            error="no answer",
            failed_at=now,
            next_try=now + timedelta(hours=2),
        ).write(DirectoryStore(tmp_path / "store"), ledger_key("letsencrypt", "default", [name]))
    *_, summary, loaded = alone(tmp_path)
    assert loaded == "75 []"
    assert summary == "  3 certificates: 3 must wait"


def test_terminated_half_way_gives_back_leases_and_leaves_no_token(site: RenewalSite, tmp_path: Path) -> None:
    declared = {f"{number}.example": {} for number in range(6)}
    site.ca.fault("slow", times=None, where="challenge", seconds=0.5)
    flags = [word for name, value in site.usual.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    process = subprocess.Popen(
        [sys.executable, "-m", "acme_middleware", "renew", *flags],
        env={**os.environ, "ACME_CERTIFICATES": json.dumps(declared)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = site.folder / "acme/challenges/.well-known/acme-challenge"
    wait_for(lambda: folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, out + err
    assert "interrupted" in err
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == []
    site.ca.faults.clear()
    assert set(site.actions(certificates=declared).values()) <= {"issued", "not due"}


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_published_files_are_looked_at_without_the_key(site: RenewalSite, typed: Typed) -> None:
    site.issue("a.example")
    (site.folder / "acme/live/a.example/current/privkey.pem").unlink()
    shutil.rmtree(site.folder / "acme/certificate")
    assert typed("renew")[0] == 0
