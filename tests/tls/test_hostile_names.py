"""Names that a client asks for are whatever an attacker likes: they cost no memory and never become a path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tls_lab import certificate, published

HERE = Path(__file__).resolve().parent
COUNT, WARM_UP = 100_000, 10_000
MOST = 5 * 1024 * 1024


def test_a_hundred_thousand_hostile_names_take_no_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live = tmp_path / "live"
    published(live, certificate())
    published(live, certificate("*.wild.example"), "*.wild.example")
    ended = subprocess.run(
        [sys.executable, HERE / "hello_names.py", live, str(COUNT), str(WARM_UP)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    said = json.loads(ended.stdout)
    with capsys.disabled():
        print(f"\n{COUNT - WARM_UP} hostile names: memory grew by {said['grown'] / 1024:.0f} KiB")
    assert said["grown"] < MOST
    assert ended.stderr == "", "no line in the log of a server, and no traceback"
    # A fifth look like a path, and of those with any characters some do, too.
    refused = said["outcomes"].pop("CALLBACK_FAILED")
    assert COUNT / 5 <= refused < COUNT * 4 / 10
    assert said["outcomes"] == {"a certificate was sent": COUNT - refused}
