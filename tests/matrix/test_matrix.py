"""
Every framework on every server that people run it with: each answers the CA, and leaves every other request to its app.

A cell is a request, a framework and a server, and a test of its own.
"""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from matrix_cells import BURST_ROW, LOG_ROW, UNSUPPORTED
from matrix_requests import OURS, REFUSED, ROWS, outcome
from matrix_surfaces import SURFACES, Fleet
from serving import connect, read_reply

BURST = 128
TROUBLE = re.compile(r"Traceback|\b(ERROR|CRITICAL)\b|\[(error|crit|alert|emerg)\]")


@pytest.fixture(scope="module")
def fleet(request, tmp_path_factory):
    # In the order in which pytest has them, which is by surface, and only those that were chosen.
    ours = [item for item in request.session.items if item.path == request.path]
    asked = dict.fromkeys(item.callspec.params["running"] for item in ours)
    fleet = Fleet(tmp_path_factory.mktemp("matrix"), [SURFACES[name] for name in asked])
    yield fleet
    fleet.close()


@pytest.fixture(scope="module", params=SURFACES)
def running(request, fleet):
    surface = SURFACES[request.param]
    yield fleet.running(surface)
    fleet.stop(surface)


@pytest.mark.parametrize("row", ROWS)
def test_cell(running, row):
    row = ROWS[row]
    right = {REFUSED} if row.id in running.surface.server.refuses else row.expect
    for _ in range(row.times):
        came = running.ask(row)
        assert_cell(running, row.id, came in right, f"{came}, and not {' or '.join(sorted(right))}")


def test_burst(running):
    replies = burst(running, BURST)
    came = Counter(outcome(reply, running.answer) for reply in replies)
    assert_cell(running, BURST_ROW, came == {OURS: BURST}, came)


def test_log(running):
    for row in ROWS.values():
        if row.refusable:  # what an error is most likely made of
            running.ask(row)
    lines = [line for line in running.log().splitlines() if TROUBLE.search(line)]
    assert_cell(running, LOG_ROW, not lines, running.log())


def assert_cell(running, row, right, told):
    """A cell that docs/servers.md lists as not supported must fail: else the list says too much."""
    reason = UNSUPPORTED.get((running.surface.framework.id, running.surface.server.id, row))
    assert right == (reason is None), told if reason is None else f"listed as not supported, and passes: {reason}"


def burst(running, count):
    """The token, asked for over this many connections that are all open before the first request is sent."""
    sent = ROWS["a token over http is answered exactly"].bytes(running.base, running.token)
    connections = [connect(running.servers[0], limit=20) for _ in range(count)]
    for connection in connections:
        connection.sendall(sent)
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(read_and_close, connections))


def read_and_close(connection):
    # gunicorn's sync workers wait for up to 2 s until the client closes, before they take the next.
    with connection:
        return read_reply(connection)
