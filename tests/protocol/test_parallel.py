"""Many processes that want the same certificate at the same moment."""

from __future__ import annotations

import json

from pebble_lab import Site, finish, fresh

CROWD = 10


def test_ten_processes_place_one_order(site: Site) -> None:
    name = fresh()
    processes = [site.start(name) for _ in range(CROWD)]
    ended = list(map(finish, processes))
    assert [one.code for one in ended] == [0] * CROWD, [one.text for one in ended]
    assert len(site.orders()) == 1
    assert site.requests("new-order") == ["new-order"]
    issued = [one for one in ended if "  issued  " in one.out and "another process" not in one.out]
    waited = [one for one in ended if "another process has issued it" in one.out]
    late = [one for one in ended if "  not due  " in one.out]
    assert len(issued) == 1
    assert len(waited) + len(late) == CROWD - 1
    assert waited, "all nine began after the first had ended"
    assert site.tokens() == []
    assert site.accounts() == 1


def test_ten_processes_report_the_same_certificate(site: Site) -> None:
    name = fresh()
    ended = list(map(finish, [site.start(name, "--json") for _ in range(CROWD)]))
    found = [json.loads(one.out) for one in ended]
    assert {one["serial"] for one in found} == {f"{site.leaf(name).serial_number:x}"}
    actions = [one["action"] for one in found]
    assert actions.count("issued") == 1
    assert set(actions) <= {"issued", "issued by another process", "not due"}


def test_who_may_not_wait_is_told_to_try_later(site: Site) -> None:
    name = fresh()
    ended = list(map(finish, [site.start(name, wait=0) for _ in range(4)]))
    codes = sorted(one.code for one in ended)
    assert codes[0] == 0
    assert set(codes) == {0, 75}, [one.text for one in ended]
    for one in ended:
        if one.code == 75:
            assert "is being worked on by process" in one.err
            assert "--wait" in one.err
    assert len(site.orders()) == 1


def test_processes_with_different_names_do_not_wait_for_each_other(site: Site) -> None:
    names = [fresh() for _ in range(4)]
    ended = list(map(finish, [site.start(name) for name in names]))
    for name, one in zip(names, ended, strict=True):
        assert one.code == 0, one.text
        assert "waiting" not in one.out
        assert site.current(name).exists()
    assert len(site.orders()) == 4
    assert site.tokens() == []


def test_forced_renewals_at_once_are_one_renewal(site: Site) -> None:
    name = fresh()
    site.issue(name)
    ended = list(map(finish, [site.start(name, "--force") for _ in range(4)]))
    assert [one.code for one in ended] == [0] * 4, [one.text for one in ended]
    # Who waited for another's renewal has what it wanted; who came after it forces one more.
    assert len(site.orders()) == 1 + sum("another process has issued it" not in one.out for one in ended)
