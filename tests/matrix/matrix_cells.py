"""
The cells that there are, and those that docs/servers.md lists as not supported.
"""

from __future__ import annotations

from matrix_frameworks import PROJECT
from matrix_requests import ROWS
from matrix_surfaces import SURFACES

BURST_ROW = "128 connections at once are all answered"
LOG_ROW = "no traceback and no error is in the log afterwards"

SERVERS_PAGE = PROJECT / "docs" / "servers.md"


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading of docs/servers.md, without its head; none where there is no table."""
    sections = SERVERS_PAGE.read_text().split("\n## ")
    (section,) = (text for text in sections if text.startswith(f"{heading}\n"))
    lines = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


CELLS = [(surface.framework.id, surface.server.id, row) for surface in SURFACES.values() for row in (*ROWS, BURST_ROW, LOG_ROW)]

UNSUPPORTED = {(framework, server, row): reason for framework, server, row, reason in table("Not supported")}
