"""CAs, and sites that get their certificates there. What asks for ``ca`` runs over Pebble, and then over the local CA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import both_cas
import pytest
from both_cas import CA, PebbleCA
from pebble_lab import Site, serving, site_app


@pytest.fixture(scope="session", params=both_cas.KINDS)
def which_ca(request: pytest.FixtureRequest) -> str:
    """Which CA a test runs over."""
    return str(request.param)


@pytest.fixture(scope="session")
def ca(which_ca: str) -> Iterator[CA]:
    """The CA of most tests: two profiles, three roots, and a name that it does not issue for."""
    with both_cas.start(which_ca, alternates=2) as ca:
        yield ca


@pytest.fixture
def start_ca(which_ca: str) -> Iterator[Callable[..., CA]]:
    """Start further CAs of the same kind, with other habits, for the length of a test."""
    with ExitStack() as stack:
        yield lambda **habits: stack.enter_context(both_cas.start(which_ca, **habits))


@pytest.fixture
def pebble() -> Iterator[Callable[..., PebbleCA]]:
    """Start Pebbles, for what is about them alone."""
    with ExitStack() as stack:
        yield lambda **habits: stack.enter_context(both_cas.pebble(**habits))


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Make a site that answers the CA; ``answers=False`` leaves the port at which the CA asks to the test."""
    with ExitStack() as stack:
        made: list[Site] = []

        def make(ca: CA, *, answers: bool = True, **given: Any) -> Site:
            folder = tmp_path / f"site-{len(made)}"
            folder.mkdir()
            site = Site(ca, folder, **given)
            made.append(site)
            stack.callback(site.end)
            if answers:
                stack.enter_context(serving(site_app(site.given["store"]), ca.http_port))
            return site

        yield make


@pytest.fixture
def site(ca: CA, make_site: Callable[..., Site]) -> Site:
    """A site at the CA of most tests."""
    return make_site(ca)
