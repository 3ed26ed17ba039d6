"""The judge of the chaos tests, judged: what is a violation, and what is counted apart and why."""

from __future__ import annotations

from typing import Any, cast

import pytest
from chaos_invariants import Verdict, judge_leases, judge_order_records, judge_orders
from chaos_journal import Line, Placed

TTL = 1.5


class Order:
    """An order of the CA, as far as the judge looks at it."""

    def __init__(self, identifier: str) -> None:
        self.id = identifier


def placed(identifier: str, at: float, *alive: str) -> Placed:
    return Placed(cast("Any", Order(identifier)), at, list(alive))


def line(at: float, pid: int, point: str, **facts: Any) -> Line:
    return {"at": at, "pid": pid, "point": point, "name": "n.example", **facts}


def ordered(at: float, pid: int, identifier: str, *, sign: float, saved: float | None) -> list[Line]:
    """What a process notes that places an order, its last sign of life, and when the order was saved, if it was."""
    url = f"https://ca/order/{identifier}"
    lines = [
        line(sign, pid, "rewritten", started=sign, lease=str(pid)),
        line(at - 0.01, pid, "placing"),
        line(at + 0.01, pid, "placed", url=url),
    ]
    return lines if saved is None else [*lines, line(saved, pid, "order saved", url=url)]


def judged(orders: list[Placed], *lines: list[Line]) -> Verdict:
    verdict = Verdict()
    judge_orders(orders, [entry for group in lines for entry in group], ttl=TTL, verdict=verdict)
    return verdict


def test_one_order_is_right() -> None:
    verdict = judged([placed("a", 1.0)], ordered(1.0, 1, "a", sign=0.9, saved=1.1))
    assert verdict == Verdict(orders=1)


def test_two_orders_that_could_both_bring_a_certificate_are_wrong() -> None:
    lines = ordered(1.0, 1, "a", sign=0.9, saved=1.1), ordered(2.0, 2, "b", sign=1.9, saved=2.1)
    verdict = judged([placed("a", 1.0), placed("b", 2.0, "a")], *lines)
    assert len(verdict.wrong) == 1


def test_an_order_that_the_ca_had_ended_is_counted_apart() -> None:
    lines = ordered(1.0, 1, "a", sign=0.9, saved=1.1), ordered(2.0, 2, "b", sign=1.9, saved=2.1)
    verdict = judged([placed("a", 1.0), placed("b", 2.0)], *lines)
    assert (verdict.wrong, verdict.refused) == ([], 1)


@pytest.mark.parametrize("which", [pytest.param(1, id="the later one"), pytest.param(0, id="the earlier one")])
def test_an_order_of_a_holder_whose_lease_had_run_out_is_counted_apart(which: int) -> None:
    signs = [0.9, 1.9]
    signs[which] -= TTL + 0.2
    lines = ordered(1.0, 1, "a", sign=signs[0], saved=1.1), ordered(2.0, 2, "b", sign=signs[1], saved=2.1)
    verdict = judged([placed("a", 1.0), placed("b", 2.0, "a")], *lines)
    assert (verdict.wrong, verdict.late) == ([], 1)


def test_an_order_whose_process_never_came_to_save_it_is_counted_apart() -> None:
    lines = ordered(1.0, 1, "a", sign=0.9, saved=None), ordered(2.0, 2, "b", sign=1.9, saved=2.1)
    verdict = judged([placed("a", 1.0), placed("b", 2.0, "a")], *lines)
    assert (verdict.wrong, verdict.unknown) == ([], 1)


def test_an_order_that_nobody_asked_for_and_nobody_saved_is_wrong() -> None:
    verdict = judged([placed("a", 1.0), placed("b", 2.0, "a")], ordered(2.0, 2, "b", sign=1.9, saved=2.1))
    assert len(verdict.wrong) == 1


def rewritten(*who: tuple[int, float]) -> list[str]:
    verdict = Verdict()
    judge_leases([line(at + 0.01, pid, "rewritten", started=at, lease=str(pid)) for pid, at in who], verdict)
    return verdict.wrong


def test_leases_that_follow_one_another_are_right() -> None:
    assert rewritten((1, 1.0), (1, 1.5), (2, 2.0), (2, 2.5), (3, 3.0)) == []


def test_a_lease_that_is_rewritten_after_it_was_taken_over_is_wrong() -> None:
    assert len(rewritten((1, 1.0), (2, 2.0), (1, 2.5))) == 1


def test_rewriting_at_the_same_time_as_it_is_taken_over_shows_nothing() -> None:
    assert rewritten((1, 1.0), (2, 2.0), (1, 2.005)) == []


def written_over(late_sign: float, *, done: bool) -> list[str]:
    lines = [*ordered(1.0, 1, "a", sign=late_sign, saved=4.0), *ordered(3.0, 2, "b", sign=2.9, saved=3.1)]
    lines += [line(3.5, 2, "certificate saved")] if done else []
    verdict = Verdict()
    judge_order_records(sorted(lines, key=lambda one: float(one["at"])), ttl=TTL, verdict=verdict)
    return verdict.wrong


def test_an_order_written_over_that_of_a_successor_at_work_is_wrong() -> None:
    assert len(written_over(0.9, done=False)) == 1


def test_an_order_written_by_who_holds_the_lease_is_right() -> None:
    assert written_over(3.9, done=False) == []


def test_an_order_written_when_the_successor_has_its_certificate_is_over_nothing() -> None:
    assert written_over(0.9, done=True) == []
