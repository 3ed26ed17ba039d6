"""example_projects/fastapi_app, run as its README says."""

import shutil

import pytest
from page_steps import Folder, commands, steps
from serving import PROJECT, get

README = "example_projects/fastapi_app/README.md"
HTTPS = {"X-Forwarded-Proto": "https"}
SIGNED_IN = {**HTTPS, "Authorization": "Basic YW5uOnN3b3JkZmlzaA=="}
PREFIX = "/.well-known/acme-challenge/"


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """All of the README's commands but pip's, typed in a copy of the folder; and what the short ones printed."""
    _, ca, serve, *rest = commands(README)
    path = tmp_path_factory.mktemp("example") / "fastapi_app"
    shutil.copytree((PROJECT / README).parent, path, ignore=shutil.ignore_patterns("__pycache__", "state"))
    with Folder(path) as folder:
        folder.start(ca, folder.ca_port)
        log = folder.start(serve, folder.port)
        yield folder, [folder.run(command) for command in rest], log


def test_it_has_five_steps():
    assert steps(README) == [1, 2, 3, 4, 5]


def test_it_gets_a_certificate_and_the_rest_is_as_the_readme_says(typed):
    _, (issued, status, certificate, unknown, page), _ = typed
    assert "issued" in issued
    assert "example.com" in status
    assert "DNS:example.com, DNS:www.example.com" in certificate
    assert unknown.startswith("HTTP/1.1 307 ")
    assert f"location: https://example.com{PREFIX}a-token-that-nobody-presented" in unknown
    assert page == '{"hello":"ann"}'


def test_its_walls_stand(typed):
    folder = typed[0]
    assert get(folder.port, "/").header("Location") == "https://example.com/"
    assert get(folder.port, "/", headers=SIGNED_IN, host="other.example").status == 400
    assert get(folder.port, "/", headers=HTTPS).status == 401
    assert get(folder.port, "/", headers={**HTTPS, "Authorization": "Basic YW5uOnh4eA=="}).status == 401
    assert get(folder.port, "/", headers=SIGNED_IN).status == 200


def test_both_workers_answer_for_a_token_that_was_presented_after_their_start(typed):
    folder = typed[0]
    (folder.path / "state/challenges" / PREFIX[1:] / "by-hand").write_text("by-hand.thumbprint")
    workers, replies = set(), set()
    for number in range(200):
        workers.add(get(folder.port, "/healthz", headers=HTTPS).body)
        replies.add(get(folder.port, PREFIX + "by-hand", host="other.example").body)
        if number >= 50 and len(workers) == 2:
            break
    assert replies == {b"by-hand.thumbprint"}
    assert len(workers) == 2


def test_it_says_nothing_of_a_wrong_place_and_has_no_errors(typed):
    log = typed[2].read_text()
    assert log.count("Application startup complete") == 2
    for word in ("outermost", "Traceback", "ERROR", "WARNING"):
        assert word not in log
