"""
Fixtures for the tests of an app that gets its certificates by acme-middleware: a CA, a clock, and issuing.

Load them with ``pytest -p acme_middleware.testing.plugin``, or by ``pytest_plugins = ["acme_middleware.testing.plugin"]`` in
the top conftest.py. They need the extra ``[local-ca]``.

With ``--pyargs acme_middleware.testing`` the same plugin tries the contracts of stores: ``--acme-store=URL``,
``--acme-challenge-store=URL`` (:mod:`acme_middleware.testing.test_stores_by_url`). That needs pytest alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from acme_middleware import clock as clocks
from acme_middleware import events, options
from acme_middleware.issuance.issuer import Issuer, Outcome
from acme_middleware.testing.by_url import pytest_addoption, pytest_collection_modifyitems, pytest_report_header
from acme_middleware.testing.clock import Clock

if TYPE_CHECKING:
    from acme_middleware.local_ca import LocalCA

__all__ = [
    "acme_ca",
    "acme_clock",
    "acme_issue",
    "acme_serve",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_report_header",
]


@pytest.fixture
def acme_clock() -> Iterator[Clock]:
    """
    The time of day for the CA, its certificates, and all that decides about renewals, in this process.

    ``acme_clock.travel(days=60)`` moves it.
    """
    clock = Clock()
    with clocks.replaced(clock.now):
        yield clock


@pytest.fixture(scope="session")
def _acme_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of the CAs of a whole run: making them is the slowest part."""
    return tmp_path_factory.mktemp("acme-ca")


@pytest.fixture
def acme_ca(acme_clock: Clock, _acme_keys: Path) -> Iterator[LocalCA]:
    """
    A real CA on this machine, that follows ``acme_clock``. It validates against what you say is there::

        acme_ca.resolve["*"] = application          # a WSGI app, called in this process
        acme_ca.resolve["example.com"] = "127.0.0.1:8000"

    ``acme_ca.fault("rate-limited", ...)`` scripts what goes wrong; a fault that no request has met fails the test at its end.
    """
    from acme_middleware.local_ca import LocalCA  # who tries a store needs no CA, nor the extra that it needs

    with LocalCA(state=_acme_keys, clock=acme_clock.now, terms=False) as ca:
        yield ca


@pytest.fixture
def acme_issue(acme_ca: LocalCA, tmp_path: Path) -> Callable[..., Outcome]:
    """
    Issue from ``acme_ca``: ``acme_issue("example.com")``.

    Keyword arguments are options as in the table (``store=``, ``key_type=``); those of
    :meth:`acme_middleware.issuance.issuer.Issuer.issue` (``force=``, ``name=``, ``drop_names=``); and ``listener=``. Without a
    store, one below ``tmp_path`` keeps the state, and tokens are in ``memory:``, which the app in this process reads as well.
    """
    defaults = {
        "store": f"file:{tmp_path / 'acme'}",
        "challenge_store": "memory:",
        "ca": acme_ca.directory_url,
        "ca_bundle": acme_ca.ca_bundle,
        "self_check": "skip",
    }

    def issue(
        *names: str,
        name: str | None = None,
        force: bool = False,
        drop_names: bool = False,
        listener: events.Listener = events.log,
        **given: Any,
    ) -> Outcome:
        if "store" in given:
            given.setdefault("challenge_store", given["store"])
        issuer = Issuer(options.read(("argument", given), ("default", defaults)), listener=listener)
        return issuer.issue(names, name=name, force=force, drop_names=drop_names)

    return issue


@pytest.fixture
def acme_serve() -> Iterator[Callable[[Any], str]]:
    """
    Serve a WSGI app on a free port of this machine until the test ends: ``acme_ca.resolve["*"] = acme_serve(app)``.

    For apps that must be reached over a socket; an ASGI or Tornado app brings a server of its own.
    """
    running: list[tuple[WSGIServer, threading.Thread]] = []

    def serve(app: Any) -> str:
        server = make_server("127.0.0.1", 0, app, server_class=_Server, handler_class=_Quiet)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        running.append((server, thread))
        return f"127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128  # a CA opens several connections for each name at once


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """A line per request would bury what a failing test prints."""
