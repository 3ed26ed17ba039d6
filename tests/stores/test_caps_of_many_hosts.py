"""The caps of an app over the shared stores: four processes at once place exactly as many orders as a cap allows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from acme_middleware.issuance.gate import PLACE
from acme_middleware.stores import open_store
from acme_middleware.stores.sql import SQLStore

ENGINES = ["postgresql", "mariadb", "redis"]
PROCESSES, CAP, CAP_OF_DOMAIN = 4, 15, 3

ORDERING = """
import json, sys
from acme_middleware.errors import NotYet
from acme_middleware.issuance.gate import Gate
from acme_middleware.issuance.names import identifiers
from acme_middleware.stores import open_store

url, cap, of_domain = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store, placed = open_store(url), []
sys.stdin.readline()
for number in range(6):
    name = f"www.customer-{number}.com"
    try:
        Gate(hourly=cap, hourly_per_domain=of_domain).take(store, name, identifiers([name]))
        placed.append(name)
    except NotYet:
        continue
print(json.dumps(placed))
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_no_more_orders_get_through_than_a_cap_allows_and_no_fewer(engine: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(engine).new_database()
    if engine != "redis":
        SQLStore(url).make_tables()
    command = [sys.executable, "-c", ORDERING, url, str(CAP), str(CAP_OF_DOMAIN)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES
    placed = Counter(name for entry in said for name in json.loads(entry))
    assert placed.total() == CAP
    assert max(placed.values()) <= CAP_OF_DOMAIN
    assert len([entry for entry in said if json.loads(entry)]) > 1, "all were placed by one process: it was no race"
    assert {where.rpartition("/")[2] for where, _ in open_store(url).scan(PLACE)} >= {"all", "tidied"}
