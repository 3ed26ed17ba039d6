"""Pebble, and sites that take over what another client got from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import both_cas
import pytest
from both_cas import CA
from pebble_lab import Site, serving, site_app


@pytest.fixture(scope="session")
def ca() -> Iterator[CA]:
    """One Pebble for all: these clients cannot be told to trust the local CA's roots as easily."""
    with both_cas.pebble() as ca:
        yield ca


@pytest.fixture
def make_site(ca: CA, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Make a site that answers the CA until the next one is made."""
    with ExitStack() as stack:
        made: list[Site] = []

        def make(**given: Any) -> Site:
            stack.pop_all().close()
            folder = tmp_path / f"site-{len(made)}"
            folder.mkdir()
            site = Site(ca, folder, **given)
            made.append(site)
            stack.callback(site.end)
            stack.enter_context(serving(site_app(site.given["store"]), ca.http_port))
            return site

        yield make
