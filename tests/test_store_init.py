"""``acme-middleware store init``: what it makes, prints and refuses."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from acme_middleware.cli import main
from acme_middleware.stores import open_challenges, open_store

TABLES = [f"acme_middleware_{name}" for name in ("fetch", "record", "token")]


@pytest.fixture(autouse=True)
def no_options_of_this_machine(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("ACME_CONFIG", str(tmp_path / "options.toml"))
    (tmp_path / "options.toml").write_text("")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/acme.sqlite3"


def test_it_makes_the_tables_once_and_may_be_run_again(url: str, capsys: Any) -> None:
    assert main(["store", "init", "--store", url]) == 0
    said = capsys.readouterr().out
    assert said.startswith("  made ")
    assert all(table in said for table in TABLES)
    open_store(url).put("order/x", b"kept")
    assert main(["store", "init", "--store", url]) == 0
    assert capsys.readouterr().out.startswith("  there       all tables, in database ")
    assert open_store(url).get("order/x").value == b"kept"


def test_both_stores_get_their_tables(url: str, tmp_path: Path, capsys: Any) -> None:
    other = f"sqlite:///{tmp_path}/tokens.sqlite3"
    assert main(["store", "init", "--store", url, "--challenge-store", other, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["stores"]
    assert [entry["made"] for entry in made] == [TABLES, TABLES]
    open_store(url).check(writable=True)
    assert open_challenges(other).key_authorization("token") is None


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql+pymysql", "mariadb+pymysql"])
def test_sql_prints_the_statements_and_connects_to_nothing(scheme: str, capsys: Any) -> None:
    url = f"{scheme}://acme:s3cret@127.0.0.1:1/acme"
    assert main(["store", "init", "--sql", "--store", url]) == 0
    printed = capsys.readouterr().out
    assert [f"CREATE TABLE IF NOT EXISTS {table} (" in printed for table in TABLES] == [True] * 3
    assert printed.endswith(";\n")
    assert "s3cret" not in printed
    assert main(["store", "init", "--sql", "--json", "--store", url]) == 0
    assert ";\n\n".join(json.loads(capsys.readouterr().out)["statements"]) + ";\n" == printed


def test_the_printed_statements_are_those_that_make_it(url: str, tmp_path: Path, capsys: Any) -> None:
    assert main(["store", "init", "--store", url]) == 0
    capsys.readouterr()
    assert main(["store", "init", "--sql", "--store", url]) == 0
    schemas = []
    by_hand = sqlite3.connect(tmp_path / "by-hand.sqlite3")
    by_hand.executescript(capsys.readouterr().out)
    for database in (by_hand, sqlite3.connect(tmp_path / "acme.sqlite3")):
        rows = database.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
        schemas.append([(kind, name, " ".join(sql.split())) for kind, name, sql in rows])
        database.close()
    assert schemas[0] == schemas[1]
    assert len(schemas[0]) >= 5


@pytest.mark.parametrize(
    ("store", "exit_code", "said"),
    [
        pytest.param("file:state", 0, "keeps no tables", id="a folder needs none"),
        pytest.param("django:", 2, "manage.py migrate", id="Django makes its own"),
        pytest.param("postgresql://acme:s3cret@127.0.0.1:1/acme", 75, "its server is up", id="no server"),
        pytest.param("sqlite:////no/such/folder/acme.sqlite3", 2, "write to the file and its folder", id="no folder"),
        pytest.param("oracle://acme:s3cret@127.0.0.1/acme", 2, "known schemes", id="an engine that is none of ours"),
    ],
)
def test_what_cannot_be_made_is_said_with_the_fix(store: str, exit_code: int, said: str, capsys: Any) -> None:
    assert main(["store", "init", "--store", store]) == exit_code
    printed = capsys.readouterr()
    assert said in printed.out + printed.err
    assert "s3cret" not in printed.out + printed.err


def test_there_is_no_sql_for_a_store_without_tables(capsys: Any) -> None:
    assert main(["store", "init", "--sql", "--store", "file:state"]) == 2
    assert "postgresql" in capsys.readouterr().err
