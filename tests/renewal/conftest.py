"""Sites whose certificates are renewed; their CAs share keys, which take longest to make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from renewal_site import RenewalSite, renewal_site


@pytest.fixture(scope="session")
def ca_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ca")


@pytest.fixture
def site(tmp_path: Path, ca_keys: Path) -> Iterator[RenewalSite]:
    """A site without certificates, whose clock can be moved."""
    with renewal_site(tmp_path, ca_keys) as running:
        yield running


@pytest.fixture
def open_site(tmp_path: Path, ca_keys: Path) -> Iterator[Callable[..., RenewalSite]]:
    """Run a site whose CA has other settings than usual."""
    with ExitStack() as stack:

        def start(**settings: Any) -> RenewalSite:
            return stack.enter_context(renewal_site(tmp_path, ca_keys, **settings))

        yield start
