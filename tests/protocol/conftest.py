"""Pebbles, and sites that get their certificates there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pebble_lab import Site, serving, site_app
from pebble_server import NINETY_DAYS, Pebble

SIX_DAYS = 6 * 24 * 3600


@pytest.fixture(scope="session")
def ca() -> Iterator[Pebble]:
    """The CA of most tests: two profiles, three roots, and a name that it never issues for."""
    profiles = {"default": NINETY_DAYS, "shortlived": SIX_DAYS}
    with Pebble(profiles=profiles, alternate_roots=2, domain_blocklist=("blocked.example",)) as pebble:
        yield pebble


@pytest.fixture
def pebble() -> Iterator[Callable[..., Pebble]]:
    """Start further CAs, with other habits, for the length of a test."""
    with ExitStack() as stack:
        yield lambda **habits: stack.enter_context(Pebble(**habits))


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Make a site that answers the CA; ``answers=False`` leaves the port at which the CA asks to the test."""
    with ExitStack() as stack:
        made: list[Site] = []

        def make(ca: Pebble, *, answers: bool = True, **given: Any) -> Site:
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
def site(ca: Pebble, make_site: Callable[..., Site]) -> Site:
    """A site at the CA of most tests."""
    return make_site(ca)
