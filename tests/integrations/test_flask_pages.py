"""example_projects/flask_app and the page about Flask, followed to the letter."""

import re
import shutil

import pytest
from flask_sites import PREFIX, TypedIn
from page_steps import blocks, commands, steps
from serving import PROJECT, get

EXAMPLE = "example_projects/flask_app/README.md"
PAGE = "docs/frameworks/flask.md"
HTTPS = {"X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """All commands of the README's steps but pip's, typed in a copy of the folder; and what the short ones printed."""
    _, ca, serve, *rest, on_a_server = commands(EXAMPLE)
    assert "--ca local" not in on_a_server
    path = tmp_path_factory.mktemp("example") / "flask_app"
    shutil.copytree((PROJECT / EXAMPLE).parent, path, ignore=shutil.ignore_patterns("__pycache__", "instance"))
    with TypedIn(path) as folder:
        folder.env["FLASK_PASSWORD"] = "swordfish"
        folder.start(ca, folder.ca_port)
        log = folder.start(serve, folder.port)
        yield folder, [folder.run(command) for command in rest], log


@pytest.mark.parametrize("page", [EXAMPLE, PAGE])
def test_there_are_five_steps(page):
    assert steps(page) == [1, 2, 3, 4, 5]


def test_the_example_runs_under_two_workers():
    assert "-w 2" in commands(EXAMPLE)[2]


def test_the_example_gets_a_certificate_and_the_rest_is_as_its_readme_says(example):
    _, (issued, status, names, verified, redirect), _ = example
    assert "issued" in issued
    assert re.search(r"^  example\.com +ok ", status, re.MULTILINE)
    assert "DNS:example.com, DNS:www.example.com" in names
    assert verified == "instance/acme/live/example.com/current/cert.pem: OK\n"
    assert redirect.startswith("HTTP/1.1 302 ")
    assert "\nLocation: https://example.com/\n" in redirect


def test_the_walls_of_the_example_stand_and_its_password_opens_them(example):
    folder = example[0]
    assert get(folder.port, "/").header("Location") == "https://example.com/"
    for target in ("/", "/no-such-page", PREFIX + "unknown"):
        assert get(folder.port, target, headers=HTTPS).header("Location") == "/login"
    assert get(folder.port, "/healthz", headers=HTTPS).body == b"ok\n"
    assert folder.log_in("wrong").status == 403
    assert folder.log_in("").status == 403
    welcome = folder.log_in("swordfish")
    assert (welcome.status, welcome.header("Location")) == (302, "/")
    cookie = welcome.header("Set-Cookie").partition(";")[0]
    # Any of the workers takes it: they share the key that the first one made.
    pages = [get(folder.port, "/", headers={**HTTPS, "Cookie": cookie}) for _ in range(20)]
    assert {page.status for page in pages} == {200}
    assert (folder.path / "instance/secret-key").stat().st_mode & 0o777 == 0o600


def test_every_worker_of_the_example_answers_for_any_host(example):
    folder = example[0]
    (folder.path / "instance/acme/challenges" / PREFIX[1:] / "by-hand").write_text("by-hand.thumbprint")
    replies = {get(folder.port, PREFIX + "by-hand", host=host).body for host in ("other.example", None) for _ in range(20)}
    assert replies == {b"by-hand.thumbprint"}
    assert "Traceback" not in example[2].read_text()


def test_the_page_is_true_to_the_letter(tmp_path):
    """Its app, its server, its command and its check; only the CA is another one, and runs on this machine."""
    _, serve, issue, *check = commands(PAGE)
    code, *_ = blocks(PAGE, "python")
    assert code.count("acme_middleware import") == code.count("acme_middleware") == 1
    printed = re.findall(r"^ *\$ curl .*\n *(\S+)$", (PROJECT / PAGE).read_text(), re.MULTILINE)
    with TypedIn(tmp_path) as folder:
        (tmp_path / "app.py").write_text(code)
        folder.start("flask acme ca", folder.ca_port)
        folder.start(serve, folder.port)
        assert "issued" in folder.run(f"{issue} --ca local")
        assert (tmp_path / "instance/acme/live/example.com/current/fullchain.pem").exists()
        assert "ok" in folder.run("flask acme status")
        assert [text for text in map(folder.run, check) if text] == printed == ["it-works"]
        assert get(folder.port, PREFIX + "by-hand").status == 404
