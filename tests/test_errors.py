"""Errors: their facts, their exit codes, and that they survive a trip between processes."""

from __future__ import annotations

import pickle

import pytest

from acme_middleware import errors
from acme_middleware.errors import CARefused, LeaseHeld, Problem

LEAVES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.AcmeMiddlewareError)]


def test_facts_are_attributes_and_others_are_not() -> None:
    error = LeaseHeld("held", hint="wait", name="example.com", holder="web-1")
    assert (error.name, error.holder, error.hint) == ("example.com", "web-1", "wait")
    with pytest.raises(AttributeError, match="other"):
        _ = error.other


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_error_survives_pickling(leaf: type[errors.AcmeMiddlewareError]) -> None:
    problem = Problem("dns", "no such name", subproblems=(Problem("caa", "x", "a.example"),))
    error = leaf("what", hint="do", problem=problem, status=400, retry_after=None)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.hint, again.problem, again.exit_code) == (
        leaf,
        "what",
        "do",
        problem,
        error.exit_code,
    )


@pytest.mark.parametrize(
    ("kind", "status", "retry_after", "code"),
    [
        pytest.param("unauthorized", 403, None, 1, id="a refusal"),
        pytest.param("rateLimited", 429, 60.0, 75, id="a rate limit"),
        pytest.param("rateLimited", 429, None, 75, id="a paused account, which has no Retry-After"),
        pytest.param("serverInternal", 500, None, 75, id="a fault of the CA"),
        pytest.param("unauthorized", 403, 5.0, 75, id="a refusal that names a time"),
    ],
)
def test_refusals_that_time_heals_say_try_later(kind: str, status: int, retry_after: float | None, code: int) -> None:
    assert CARefused("no", problem=Problem(kind, "x"), status=status, retry_after=retry_after, url="u").exit_code == code


def test_problem_lists_all_that_the_ca_said() -> None:
    problem = Problem(
        "compound", "two names", subproblems=(Problem("dns", "none", "a.example"), Problem("caa", "no", "b.example"))
    )
    assert problem.lines() == ["two names (compound)", "a.example: none (dns)", "b.example: no (caa)"]
