"""The documentation: it builds without a warning, its links lead somewhere, its table of options is the code's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import options_page
import pytest

from acme_middleware.options import table

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
AT_THE_TOP = sorted(ROOT.glob("*.md")) + sorted((ROOT / "example_projects").glob("*/README.md"))


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-q",
            "-W",
            "--keep-going",
            "-n",
            "-d",
            tmp_path / "doctrees",
            ROOT / "docs",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, "")
    for page in PAGES:
        assert tmp_path.joinpath(page.relative_to(ROOT / "docs")).with_suffix(".html").exists()


def test_the_table_of_options_is_up_to_date() -> None:
    assert options_page.PAGE.read_text() == options_page.page(), "run python tools/options_page.py"


def test_the_table_has_every_option_under_all_its_names() -> None:
    rows = [line for line in options_page.PAGE.read_text().splitlines() if "| `ACME_" in line]
    assert len(rows) == len(list(table()))
    for row, option in zip(rows, table(), strict=True):
        flag = "--" + option.name.replace("_", "-")
        assert f"| `ACME_{option.name.upper()}` | `{option.name}` |" in row
        assert (f"| `{flag}` |" in row) != ("| none |" in row)


@pytest.mark.parametrize("page", [*AT_THE_TOP, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_as_a_code_host_shows_them(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", target)]
    for target in targets:
        assert (page.parent / target.partition("#")[0]).exists(), target


def test_every_page_is_reached_from_the_first() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    linked = set(re.findall(r"\]\(([^)]+\.md)\)", index))
    assert linked == {str(page.relative_to(ROOT / "docs")) for page in PAGES} - {"index.md"}
