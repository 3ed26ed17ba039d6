"""Click's runner for tests, with standard error apart from the rest: before click 8.2 that has to be asked for."""

from __future__ import annotations

import inspect
from typing import Any

from click.testing import CliRunner

APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


def runner() -> CliRunner:
    return CliRunner(**APART)
