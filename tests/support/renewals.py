"""A renewal that is due, for tests of what goes wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from both_cas import LocalLab
from pebble_lab import Ended, Site

from acme_middleware.cli import main


@dataclass
class Renewal:
    """
    A certificate whose renewal is due.

    Attributes:
        before: All that is published and all records of certificates, byte by byte.
    """

    lab: LocalLab
    site: Site
    name: str
    before: dict[str, bytes | str]
    capture: pytest.CaptureFixture[str]

    def run(self, *words: str, **more: Any) -> Ended:
        """``acme-middleware issue``, in this process."""
        self.capture.readouterr()
        code = main(self.site.argv(self.name, *words, **more)[1:])
        return Ended(code, *self.capture.readouterr())
