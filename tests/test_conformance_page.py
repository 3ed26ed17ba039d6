"""The table of clauses in the documentation is what the tests' marks say."""

from __future__ import annotations

import conformance


def test_page_is_up_to_date() -> None:
    assert conformance.PAGE.read_text() == conformance.page(), "run python tools/conformance.py"


def test_every_clause_has_one_test() -> None:
    names = [name for name, _ in conformance.marked()]
    assert sorted(names) == sorted(conformance.CLAUSES)
