"""The pages on Tornado and aiohttp, and the Tornado example's README, followed to the letter: a real server, a real CA."""

import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import local_ports
import pytest
from pebble_server import Pebble
from serving import PROJECT, get
from tornado_pages import OURS, Reader, is_our_installation, names_of, steps

PREFIX = "/.well-known/acme-challenge/"


@pytest.mark.parametrize("framework", ["tornado", "aiohttp"])
def test_the_page_of_the_framework_works_as_it_stands(framework, tmp_path):
    install, wrap, serve, issue, check = steps(f"docs/frameworks/{framework}.md")
    (program,) = wrap
    assert len(OURS.findall(program.text)) == 1
    assert [is_our_installation(command) for command, _ in install[0].commands] == [True]
    store = tmp_path / "store"
    with Pebble() as ca:
        swaps = {"8000": ca.http_port, "/var/lib/acme-middleware": store}
        options = {
            "ACME_STORE": f"file://{store}",
            "ACME_CA": ca.directory_url,
            "ACME_CA_BUNDLE": str(ca.ca_bundle),
            "ACME_SELF_CHECK_VIA": f"127.0.0.1:{ca.http_port}",
            "ACME_SELF_CHECK": "require",
        }
        with Reader(tmp_path, swaps, **options) as reader:
            reader.write("main.py", program)
            log = reader.start(serve[0].commands[0][0], ca.http_port)
            reader.follow(issue[0])
            assert names_of(store / "live" / "example.com" / "current" / "fullchain.pem") == {"example.com"}
            printed = reader.follow(check[0])
            assert "it-works" in printed
            page = get(ca.http_port, "/page")
            assert (page.status, page.header("Location")) == (
                {"tornado": 302, "aiohttp": 301}[framework],
                "https://example.com/page",
            )
            assert get(ca.http_port, PREFIX + "by-hand").status == page.status  # it was removed in the end
            assert "Traceback" not in log.read_text()


@pytest.fixture
def example(tmp_path):
    """The example in a folder of its own, with ports of its own; yields its reader and the ports of the app and the CA."""
    shutil.copytree(
        PROJECT / "example_projects" / "tornado_app", tmp_path / "tornado_app", ignore=shutil.ignore_patterns("state")
    )
    with local_ports.reserve(2) as (port, ca):
        root = tmp_path / "tornado_app" / ".local/state/acme-middleware/local-ca/root.pem"
        swaps = {
            "8000": port,
            "acme-middleware ca": f'acme-middleware ca --port {ca} --resolve "*=127.0.0.1:{port}"',
            "--ca local": f"--ca https://localhost:{ca}/directory --ca-bundle {root} --self-check-via 127.0.0.1:{port}",
        }
        with Reader(tmp_path / "tornado_app", swaps) as reader:
            yield reader, port, ca


def test_the_example_gets_a_certificate_as_its_readme_says(example):
    reader, port, ca = example
    install, run_ca, run_site, issue, look = steps("example_projects/tornado_app/README.md")
    assert [is_our_installation(command) for command, _ in install[0].commands] == [True]
    reader.start(run_ca[0].commands[0][0], ca)
    log = reader.start(run_site[0].commands[0][0], port)

    reader.follow(issue[0])

    status, certificate, unknown, page = reader.follow(look[0])
    assert re.search(r"^\s*example\.com +ok ", status, re.MULTILINE)
    assert "DNS:example.com, DNS:www.example.com" in certificate
    assert "301 Moved Permanently" in unknown
    assert f"Location: https://example.com{PREFIX}a-token-that-nobody-presented" in unknown
    assert re.fullmatch(r"The pages of example\.com, by process \d+\.\n", page)
    assert "Traceback" not in log.read_text()
    assert "not due" in reader.run(issue[0].commands[0][0])


def test_the_example_answers_by_two_processes_with_handlers_of_their_hosts(example):
    reader, port, _ = example
    *_, (run_site,), _issue, _look = steps("example_projects/tornado_app/README.md")
    reader.start(run_site.commands[0][0], port)
    https = {"X-Forwarded-Proto": "https"}
    processes, deadline = set(), time.monotonic() + 20
    while len(processes) < 2 and time.monotonic() < deadline:  # which of them takes a connection is the kernel's to say
        with ThreadPoolExecutor(10) as pool:
            processes |= set(pool.map(lambda _: get(port, "/", host="www.example.com", headers=https).body, range(50)))
    assert len(processes) == 2
    assert get(port, "/v1", host="api.example.com", headers=https).body == b'{"version": 1}'
    assert get(port, "/v1", host="www.example.com", headers=https).body == b"/v1 of www.example.com\n"
    assert get(port, "/v1", host="api.example.com").header("Location") == "https://api.example.com/v1"
    assert get(port, "/", host="other.example", headers=https).status == 404
    token = reader.folder / "state/challenges/.well-known/acme-challenge/by-hand"
    token.parent.mkdir(parents=True)
    token.write_text("by-hand.thumbprint")
    for host in ("www.example.com", "api.example.com", "other.example", "192.0.2.1", None):
        assert get(port, PREFIX + "by-hand", host=host).body == b"by-hand.thumbprint"
