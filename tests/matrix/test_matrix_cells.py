"""The tables of the matrix: how many cells there are, and that docs/servers.md says what is tried."""

import pytest
from matrix_cells import CELLS, SERVERS_PAGE, UNSUPPORTED, table
from matrix_frameworks import MAIN, OTHER, OTHERS
from matrix_requests import ROWS
from matrix_servers import SERVERS
from matrix_surfaces import PAIRS, SURFACES

NUMBER = 4408
APPS = {"wsgi": "WSGI", "asgi": "ASGI", "tornado": "Tornado", "aiohttp": "aiohttp"}


def test_the_number_of_cells_is_known(request):
    cells = [
        item
        for item in request.session.items
        if item.path.name == "test_matrix.py" and item.name.startswith(("test_cell", "test_burst", "test_log"))
    ]
    print(f"{len(CELLS):,} cells: {len(SURFACES)} frameworks on servers, {len(CELLS) // len(SURFACES)} requests")
    assert len(CELLS) == len(set(CELLS)) == NUMBER
    assert len(cells) in (0, NUMBER), "this file was run by itself, or with all of the matrix"


def test_of_the_cells_at_most_one_in_twenty_is_not_supported_and_none_of_the_main_servers():
    assert set(UNSUPPORTED) <= set(CELLS)
    assert len(UNSUPPORTED) <= NUMBER / 20
    assert not [
        server
        for _, server, _ in UNSUPPORTED
        if any(name in server for name in ("gunicorn", "uvicorn", "hypercorn", "Tornado"))
    ]
    assert all(len(reason) > 20 for reason in UNSUPPORTED.values())


def test_the_page_shows_the_command_lines_that_are_tried():
    assert table("Command lines") == [[server.id, f"`{server.shown}`", server.only or APPS[server.runs]] for server in SERVERS]


def test_the_page_lists_what_servers_refuse_by_themselves():
    refused = [[server.id, row] for server in SERVERS for row in sorted(server.refuses)]
    assert table("What a server refuses by itself") == refused
    assert all(ROWS[row].refusable for _, row in refused), "what a CA may send must reach us"


@pytest.mark.parametrize("framework", OTHER, ids=lambda framework: framework.id)
def test_other_frameworks_are_wrapped_by_one_import_and_one_line_and_tried_on_two_servers(framework):
    ours = [
        line
        for line in framework.code.splitlines()
        if "acme_middleware" in line.lower().replace("acmemiddleware", "acme_middleware")
    ]
    assert len(ours) == 2, "the import, and the line"
    assert len([surface for surface in SURFACES.values() if surface.framework is framework]) == len(PAIRS[framework.id]) == 2


@pytest.mark.parametrize("framework", [framework for framework in MAIN if framework.page], ids=lambda framework: framework.id)
def test_the_line_of_a_framework_with_a_page_of_its_own_is_the_one_that_stands_there(framework):
    name, *lines = framework.page
    for line in lines:
        assert line in framework.code
        assert line in (OTHERS.parent / name).read_text()


def test_every_framework_of_the_page_is_tried():
    shown = [line.removeprefix("## ") for line in OTHERS.read_text().splitlines() if line.startswith("## ")]
    assert sorted(shown) == sorted(framework.id for framework in OTHER)


def test_every_server_runs_something_and_is_on_the_page():
    assert {surface.server.id for surface in SURFACES.values()} == {server.id for server in SERVERS}
    assert all(server.id in SERVERS_PAGE.read_text() for server in SERVERS)
