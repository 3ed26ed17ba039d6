"""
What goes wrong at a person's hands or around the machine. Each ends in one clear message and the documented exit code, with
no traceback, no token left, and the certificate in use untouched, byte by byte.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from both_cas import CA
from local_ports import reserve
from pebble_lab import Ended, Site, fresh, serving, site_app
from scripted_server import scripted

from acme_middleware.errors import ValidationFailed
from acme_middleware.stores.memory import MemoryChallengeStore
from acme_middleware.wsgi import AcmeMiddleware

# Root without its power over modes: what any other user is, who may not even read this Python where it is root's.
ORDINARY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown", "--inh-caps=-all", "--"]


@pytest.fixture
def name(site: Site) -> str:
    """A name that has a good certificate already."""
    name = fresh("inuse")
    site.issue(name)
    return name


@contextmanager
def refused(site: Site, *, orders: int = 0) -> Iterator[Callable[..., Ended]]:
    """Run a command that must be refused, and hold against it all that every refusal must be."""
    before, placed = site.snapshot(), len(site.orders())

    def run(*words: str, code: int, says: Iterable[str], prefix: Iterable[str] = (), **more: Any) -> Ended:
        ended = site.run(*words, prefix=prefix, **more)
        assert ended.code == code, ended.text
        errors = [line for line in ended.text.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, ended.text
        assert ended.err.startswith("error: "), ended.text
        assert len(ended.err.splitlines()) > 1, f"no advice: {ended.text}"
        shown = " ".join(ended.err.split())  # whatever the columns and line ends
        for words_wanted in says:
            assert words_wanted in shown, ended.text
        assert "Traceback" not in ended.text
        assert "bug in acme-middleware" not in ended.text
        return ended

    yield run
    assert site.tokens() == []
    assert site.snapshot() == before
    assert len(site.orders()) == placed + orders


def test_ca_that_nobody_is_at(site: Site, name: str) -> None:
    with reserve() as (port,), refused(site) as run:
        url = f"https://127.0.0.1:{port}/dir"
        run(name, "--force", ca=url, code=75, says=[url, "Connection refused", "run the same command again later"])


def test_ca_whose_name_does_not_resolve(site: Site, name: str) -> None:
    with refused(site) as run:
        run(name, "--force", ca="https://ca.invalid/dir", code=75, says=["no answer from https://ca.invalid/dir"])


def test_directory_url_with_a_wrong_path(site: Site, name: str) -> None:
    url = site.ca.directory_url + "ectory"
    with refused(site) as run:
        run(name, "--force", ca=url, code=2, says=[f"{url} is no ACME directory: it answered HTTP 404", "--ca takes"])


@pytest.mark.parametrize(
    ("page", "says"),
    [
        pytest.param(b"<!doctype html><title>Welcome</title>", "no JSON object", id="an HTML page"),
        pytest.param(b'{"hello": "world"}', "it has no newNonce, newAccount, newOrder", id="JSON of something else"),
        pytest.param(b'{"newNonce": "https://a/", "newAccount": "https://a/"}', "it has no newOrder", id="half a directory"),
        pytest.param(b'["newNonce"]', "no JSON object", id="a JSON list"),
        pytest.param(b"\x1f\x8b\xff\x00", "no JSON object", id="garbage"),
        pytest.param(b"", "no JSON object", id="nothing"),
    ],
)
def test_url_of_something_else(site: Site, name: str, page: bytes, says: str) -> None:
    with scripted(lambda method, path, before: (200, {"Content-Type": "text/html"}, page)) as server, refused(site) as run:
        run(
            name, "--force", ca=f"{server.url}/dir", code=2, says=[f"{server.url}/dir is no ACME directory", says, "--ca takes"]
        )
        assert server.requests == [("GET", "/dir")]


def test_ca_that_is_no_url(site: Site, name: str) -> None:
    with refused(site) as run:
        run(name, "--force", ca="letsencypt", code=2, says=["no CA called 'letsencypt'", "did you mean letsencrypt?"])


def test_https_of_a_private_ca_without_its_roots(site: Site, name: str) -> None:
    with refused(site) as run:
        run(name, "--force", ca_bundle=None, code=75, says=["certificate", "--ca-bundle", "ACME_CA_BUNDLE"])


def test_roots_that_are_no_file(site: Site, name: str) -> None:
    with refused(site) as run:
        run(name, "--force", ca_bundle="/nowhere/root.pem", code=2, says=["/nowhere/root.pem", "No such file", "--ca-bundle"])


def test_roots_that_are_no_pem(site: Site, name: str, tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_text("hello\n")
    with refused(site) as run:
        run(name, "--force", ca_bundle=tmp_path / "root.pem", code=2, says=["root.pem cannot be read", "--ca-bundle"])


def test_terms_that_were_not_agreed_to(site: Site, name: str) -> None:
    for key, _ in list(site.records().scan("account/")):
        site.records().delete(key)
    with refused(site) as run:
        run(name, "--force", agree_tos=None, code=2, says=[site.ca.terms, "--agree-tos"])
    assert site.requests("new-account") == ["new-account"]


def test_account_of_a_ca_whose_terms_were_agreed_to_needs_no_flag(site: Site, name: str) -> None:
    ended = site.run(name, "--force", agree_tos=None)
    assert ended.code == 0, ended.text


def test_name_that_the_ca_refuses(site: Site, name: str) -> None:
    with site.ca.refusing() as unwanted, refused(site) as run:
        run(name, unwanted, code=1, says=["rejectedIdentifier", unwanted])


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        pytest.param("*.example.com", "wildcard", id="a wildcard"),
        pytest.param("my_host.example.com", "underscore", id="an underscore"),
        pytest.param("https://example.com/", "no host name", id="a URL"),
        pytest.param("example.com:8443", "port", id="a port"),
        pytest.param("ops@example.com", "no host name", id="an email address"),
        pytest.param("a-.example.com", "'a-'", id="a hyphen at the end"),
        pytest.param("a..example.com", "''", id="an empty label"),
        pytest.param(f"{'a' * 64}.example.com", "letters, digits", id="a label of 64 characters"),
        pytest.param("a.example.123", "number", id="a number at the end"),
        pytest.param("ex ample.com", "'ex ample'", id="a space"),
        pytest.param("", "empty", id="nothing"),
    ],
)
def test_name_that_no_ca_would_take(site: Site, name: str, typed: str, says: str) -> None:
    asked = len(site.requests())
    with refused(site) as run:
        run(name, typed, code=2, says=[says])
    assert len(site.requests()) == asked


def into(name: str, unknown: str) -> list[str]:
    """
    The words that put a name which the CA has never validated in place of ``name``.

    A CA may take a validation of yesterday for a name that it knows, and then there is nothing to go wrong.
    """
    return [unknown, "--name", name, "--drop-names"]


def other_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello.world"]


def test_validation_that_fails_shows_all_that_the_ca_said(ca: CA, make_site: Callable[..., Site]) -> None:
    site = make_site(ca, answers=False)
    name, unknown = fresh("inuse"), fresh()
    with serving(site_app(site.given["store"]), ca.http_port):
        site.issue(name)
    with serving(other_app, ca.http_port), refused(site, orders=1) as run:
        run(
            *into(name, unknown),
            self_check="skip",
            code=1,
            says=[
                f"the CA could not validate {unknown}",
                *ca.says_wrong_body,
                "(unauthorized)",
                f"it asked http://{unknown}/.well-known/acme-challenge/",
                "the workers' log",
            ],
        )
    # The next run begins a new order by itself.
    with serving(site_app(site.given["store"]), ca.http_port):
        ended = site.run(*into(name, unknown))
    assert ended.code == 0, ended.text
    assert len(site.orders()) == 3


def test_validation_that_reaches_nobody(ca: CA, make_site: Callable[..., Site]) -> None:
    site = make_site(ca, answers=False)
    name, unknown = fresh("inuse"), fresh()
    with serving(site_app(site.given["store"]), ca.http_port):
        site.issue(name)
    with refused(site, orders=1) as run:
        says = [f"could not validate {unknown}", ca.says_unreachable, "(connection)"]
        run(*into(name, unknown), self_check="skip", code=1, says=says)


@pytest.mark.parametrize("reaches_us", [True, False], ids=["fetched from us, and spoilt on the way", "never fetched from us"])
def test_failed_validation_tells_every_fetch_that_the_store_saw(
    ca: CA, make_site: Callable[..., Site], reaches_us: bool
) -> None:
    store = MemoryChallengeStore()
    site = make_site(ca, answers=False, challenge_store=store, self_check="skip")
    ours, name = AcmeMiddleware(other_app, store=store), fresh()

    def spoiling(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return [body.upper() for body in ours(environ, start_response)]

    with serving(spoiling if reaches_us else other_app, ca.http_port), pytest.raises(ValidationFailed) as failed:
        site.issue(name)
    assert failed.value.name == name
    assert failed.value.problem.type == "unauthorized"
    # A CA asks several times, and may judge by the first answer.
    assert (len(failed.value.fetches) > 0) is reaches_us
    assert all(fetch.address == "127.0.0.1" and ca.agent in fetch.agent for fetch in failed.value.fetches)
    assert ("127.0.0.1 " in failed.value.hint) is reaches_us
    assert store.key_authorization(failed.value.token) is None


def page_404(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("404 Not Found", [("Content-Type", "text/html; charset=utf-8"), ("Server", "nginx/1.31")])
    return [b"<html><head><title>Welcome to nginx!</title></head></html>"]


def to_https(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("301 Moved Permanently", [("Location", f"https://{environ['HTTP_HOST']}{environ['PATH_INFO']}")])
    return [b""]


def in_circles(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("302 Found", [("Location", environ["PATH_INFO"])])
    return [b""]


def to_another_port(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("302 Found", [("Location", f"http://{environ['HTTP_HOST']}:8080/")])
    return [b""]


def other_token(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"somebody-elses.token"]


@pytest.mark.parametrize(
    ("app", "says"),
    [
        pytest.param(page_404, ["404, a page of 58 bytes", '"Welcome to nginx!"', "Server: nginx/1.31"], id="404 with a page"),
        pytest.param(to_https, ["301, a redirect to https://"], id="a redirect to https that SELF_CHECK_VIA cannot follow"),
        pytest.param(in_circles, ["redirects more than 10 times"], id="redirects in circles"),
        pytest.param(to_another_port, [":8080", "where a CA does not go"], id="a redirect to another port"),
        pytest.param(other_token, ["200, a page of 20 bytes (text/plain"], id="200 with another body"),
    ],
)
def test_wrong_answer_is_found_before_the_ca_is_told(
    ca: CA, make_site: Callable[..., Site], app: Callable[..., Iterable[bytes]], says: list[str]
) -> None:
    site = make_site(ca, answers=False)
    name, unknown = fresh("inuse"), fresh()
    with serving(site_app(site.given["store"]), ca.http_port):
        site.issue(name)
    told = len(site.requests("challenge"))
    with serving(app, ca.http_port), refused(site, orders=1) as run:
        says = [f"{unknown} does not serve our token", f"we asked http://{unknown}/.well-known/acme-challenge/", *says]
        run(*into(name, unknown), code=1, says=says)
    assert len(site.requests("challenge")) == told
    # The order was not lost: once the app answers, it goes on.
    with serving(site_app(site.given["store"]), ca.http_port):
        ended = site.run(*into(name, unknown))
    assert ended.code == 0, ended.text
    assert "begun by an earlier run" in ended.out
    assert len(site.orders()) == 2


@pytest.mark.parametrize(
    ("mode", "code"), [pytest.param("require", 1, id="stops under require"), pytest.param("warn", 0, id="warns under warn")]
)
def test_no_answer_to_the_self_check(site: Site, name: str, mode: str, code: int) -> None:
    with reserve() as (port,):
        ended = site.run(*into(name, fresh()), self_check=mode, self_check_via=f"127.0.0.1:{port}")
    assert ended.code == code, ended.text
    assert f"no answer from 127.0.0.1 port {port}" in " ".join(ended.text.split())
    assert site.tokens() == []


def only_readable(folder: Path) -> list[str]:
    """Take the right to write from a folder, and from root the power not to care."""
    folder.chmod(0o555)
    return ORDINARY if os.geteuid() == 0 else []


def test_store_that_cannot_be_made(site: Site) -> None:
    prefix = only_readable(site.folder)
    with refused(site) as run:
        run(fresh(), prefix=prefix, code=2, says=["Permission denied", str(site.store), "--store"])
    assert site.requests() == []


def test_store_that_cannot_be_written(site: Site, name: str) -> None:
    asked = len(site.requests())
    prefix = only_readable(site.store / "lock")
    with refused(site) as run:
        run(name, "--force", prefix=prefix, code=2, says=["Permission denied"])
    assert len(site.requests()) == asked


def test_store_below_a_file(site: Site) -> None:
    with refused(site) as run:
        run(fresh(), store="file:///dev/null/store", code=2, says=["/dev/null", "Not a directory"])
    assert site.requests() == []


def test_challenge_store_that_cannot_be_written(site: Site, name: str, tmp_path: Path) -> None:
    asked = len(site.requests())
    root = tmp_path / "webroot"
    root.mkdir()
    prefix = only_readable(root)
    with refused(site) as run:
        run(name, "--force", challenge_store=f"webroot:{root}", prefix=prefix, code=2, says=["Permission denied", str(root)])
    assert len(site.requests()) == asked


def test_challenge_store_that_is_not_there(site: Site, name: str, tmp_path: Path) -> None:
    asked = len(site.requests())
    with refused(site) as run:
        run(name, "--force", challenge_store=f"webroot:{tmp_path / 'typo'}", code=2, says=["there is no folder", "typo"])
    assert len(site.requests()) == asked


def test_publish_dir_that_cannot_be_written(site: Site, name: str, tmp_path: Path) -> None:
    asked = len(site.requests())
    live = tmp_path / "live"
    live.mkdir()
    prefix = only_readable(live)
    with refused(site) as run:
        run(name, "--force", publish_dir=live, prefix=prefix, code=2, says=["Permission denied", str(live), "--publish-dir"])
    assert len(site.requests()) == asked
    assert list(live.iterdir()) == []


@pytest.mark.parametrize("option", ["owner", "group"])
def test_owner_that_nobody_knows(site: Site, name: str, option: str) -> None:
    asked = len(site.requests())
    with refused(site) as run:
        run(name, "--force", **{option: "nobody-of-that-name"}, code=2, says=["nobody-of-that-name"])
    assert len(site.requests()) == asked


def test_owner_that_one_may_not_give_files_to(site: Site, name: str) -> None:
    asked = len(site.requests())
    prefix = ORDINARY if os.geteuid() == 0 else []
    with refused(site) as run:
        run(name, "--force", owner="daemon", prefix=prefix, code=2, says=["Operation not permitted", "--owner"])
    assert len(site.requests()) == asked


@pytest.mark.parametrize(
    ("shift", "says"),
    [
        pytest.param("+2h", "2.0 h ahead of the CA's", id="two hours ahead"),
        pytest.param("-2h", "2.0 h behind the CA's", id="two hours behind"),
    ],
)
def test_clock_that_is_off(site: Site, name: str, shift: str, says: str) -> None:
    with refused(site) as run:
        run(name, "--force", prefix=["faketime", "-f", shift], code=2, says=[says, "set the clock", "nothing was ordered"])


@pytest.mark.parametrize(
    ("shift", "says"),
    [
        pytest.param("-3d", "not yet valid", id="three days behind"),
        pytest.param("+40y", "expired", id="forty years ahead"),
    ],
)
def test_clock_that_is_so_far_off_that_https_fails(site: Site, name: str, shift: str, says: str) -> None:
    with refused(site) as run:
        run(name, "--force", prefix=["faketime", "-f", shift], code=75, says=[says, "is this machine's clock right"])


def test_clock_that_is_a_little_off(site: Site, name: str) -> None:
    ended = site.run(name, "--force", prefix=["faketime", "-f", "-50m"])
    assert ended.code == 0, ended.text


def test_damaged_record_is_named(site: Site, name: str) -> None:
    site.records().put(f"order/{name}", b"{")
    with refused(site) as run:
        run(name, "--force", code=2, says=[f"order/{name} is damaged", "delete it"])
    site.records().delete(f"order/{name}")


def test_error_as_json_has_all_that_the_ca_said(site: Site) -> None:
    with site.ca.refusing() as unwanted:
        ended = site.run(unwanted, "--json")
    assert (ended.code, ended.err) == (1, "")
    error = json.loads(ended.out)["error"]
    # Of the problem, or of its part that is about this name.
    said = [error["problem"], *error["problem"]["subproblems"]]
    assert "rejectedIdentifier" in [problem["type"] for problem in said]
    assert any(unwanted in problem["detail"] for problem in said)
    assert error["status"] == 400
    assert error["exit_code"] == 1


def test_traceback_comes_only_when_asked_for(site: Site) -> None:
    with site.ca.refusing() as unwanted:
        ended = site.run(unwanted, "--traceback")
    assert ended.code == 1
    assert "Traceback (most recent call last)" in ended.err
    assert "PRIVATE KEY" not in ended.text


def test_ordinary_users_are_ordinary_here(tmp_path: Path) -> None:
    """The tests above would pass for nothing where root keeps its powers."""
    prefix = only_readable(tmp_path)
    made = subprocess.run([*prefix, "touch", str(tmp_path / "file")], capture_output=True, text=True, check=False)
    assert made.returncode != 0
    assert "Permission denied" in made.stderr
