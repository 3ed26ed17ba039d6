"""CAs of our own, one for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ca_lab import Lab


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "clause(place, name): the test tries a clause; `name` switches it off in the CA")


@pytest.fixture(scope="session")
def ca_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of all CAs of a run."""
    return tmp_path_factory.mktemp("local-ca") / "state"


@pytest.fixture
def lab(ca_state: Path) -> Iterator[Lab]:
    with Lab(ca_state) as lab:
        yield lab
