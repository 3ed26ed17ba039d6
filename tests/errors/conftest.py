"""A site at a local CA of its own, with a certificate that is due for renewal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import both_cas
import pytest
from killing import make_due
from pebble_lab import Site, fresh, serving, site_app
from renewals import Renewal


@pytest.fixture
def due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Renewal]]:
    """Start a CA with habits of its own, get a certificate there, and let the time of its renewal come."""
    for variable in [variable for variable in os.environ if variable.startswith("ACME_")]:
        monkeypatch.delenv(variable)
    with ExitStack() as stack:

        def start(**habits: Any) -> Renewal:
            lab = stack.enter_context(both_cas.local(**habits))
            site, name = Site(lab, tmp_path), fresh("inuse")
            stack.callback(site.end)
            stack.enter_context(serving(site_app(site.given["store"]), lab.http_port))
            site.issue(name)
            make_due(site.records(), name)
            site.watch = lab.watch()
            return Renewal(lab, site, name, site.snapshot(), capsys)

        yield start
