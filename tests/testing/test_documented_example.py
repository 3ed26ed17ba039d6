"""The page about testing an app: its examples are run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "testing-your-app.md").read_text()
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)]
SITE = ROOT / "example_projects" / "django_site"


def run_pytest(folder: Path, *arguments: str, **environment: str) -> str:
    (folder / "conftest.py").write_text(BLOCKS[0])
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "DJANGO"))}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, "."],
        cwd=folder,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_example_for_any_app_passes_and_prints_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "test_app.py").write_text(BLOCKS[1])
    out = run_pytest(tmp_path, "-p", "no:django")
    assert "3 passed" in out
    assert "3 passed" in PAGE


def test_example_for_django_passes(tmp_path: Path) -> None:
    (tmp_path / "test_site.py").write_text(BLOCKS[2])
    (tmp_path / "pytest.ini").write_text("[pytest]\nDJANGO_SETTINGS_MODULE = mysite.settings\n")
    out = run_pytest(tmp_path, PYTHONPATH=str(SITE), MYSITE_DATA=str(tmp_path), MYSITE_ACME_AGREE_TOS="yes")
    assert "1 passed" in out
