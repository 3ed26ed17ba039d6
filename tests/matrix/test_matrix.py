"""
Every framework on every server that people run it with: each answers the CA, and leaves every other request to its app.

A cell is a request, a framework and a server, and a test of its own.
"""


import pytest
from matrix_requests import REFUSED, ROWS, outcome
from matrix_surfaces import SURFACES, Fleet
from serving import raw_request

BURST = 128


@pytest.fixture(scope="module")
def fleet(request, tmp_path_factory):
    asked = dict.fromkeys(
        item.callspec.params["running"]
        for item in request.session.items
        if item.module is request.module and "running" in getattr(item, "callspec", request.node.__class__).params
    )
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
    expected = {REFUSED} if row.id in running.surface.server.refuses else row.expect
    for _ in range(row.times):
        came = asked(running, row)
        assert came in expected


def asked(running, row):
    sent = row.bytes(running.base, running.token)
    try:
        reply = raw_request(running.servers[0], sent)
    except ConnectionError:
        reply = None
    return outcome(reply, running.answer, method=row.method)
