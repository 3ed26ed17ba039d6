"""How many cells of the matrix there were, and how long they took, at the end of a run."""

import time

TOLD = {"passed": 0, "failed": 0}
BEGAN = []


def pytest_runtest_logreport(report):
    if "/matrix/" in report.nodeid and "test_matrix_cells" not in report.nodeid:
        BEGAN.append(time.monotonic() - report.duration)
        if report.when == "call":
            TOLD[report.outcome] = TOLD.get(report.outcome, 0) + 1
        del BEGAN[1:]
        TOLD["until"] = time.monotonic()


def pytest_terminal_summary(terminalreporter):
    if BEGAN:
        took = TOLD["until"] - BEGAN[0]
        terminalreporter.write_line(f"matrix: {TOLD['passed']:,} cells passed, {TOLD['failed']:,} failed, in {took:.0f} s")
