"""Servers that listen on IPv6 only."""

import pytest
from matrix_requests import ROWS
from matrix_surfaces import IPV6, SURFACES, Fleet

ASKED = [
    "a token over http is answered exactly",
    "a token is answered under an IPv6 address with a port",
    "a token is answered over HTTP/1.0 without Host",
    "any other page over http redirects to https",
    "an unknown token is the app's",
]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    fleet = Fleet(tmp_path_factory.mktemp("ipv6"), [SURFACES[name] for name in IPV6], address="::1")
    yield fleet
    fleet.close()


@pytest.fixture(scope="module", params=IPV6)
def running(request, fleet):
    surface = SURFACES[request.param]
    yield fleet.running(surface)
    fleet.stop(surface)


@pytest.mark.parametrize("row", ASKED)
def test_cell(running, row):
    assert running.servers[0].address == "::1"
    assert running.ask(ROWS[row]) in ROWS[row].expect
