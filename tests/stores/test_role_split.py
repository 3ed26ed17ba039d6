"""Web workers as users of their own: they read tokens and log fetches, and have no right to a key."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from redis import Redis as Client
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from stored_certificates import command

from acme_middleware.errors import StoreMisconfigured
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.base import Fetch
from acme_middleware.stores.sql import SQLStore

DOCS = Path(__file__).resolve().parents[2] / "docs"
GRANTS = re.findall(r"```sql\n(.*?)```", (DOCS / "check.md").read_text(), re.DOTALL)
TOKEN, ANSWER = "a-token", "a-token.of-an-account"


def statements(kind: str) -> list[str]:
    """Those of the page, for an engine."""
    (found,) = [block for block in GRANTS if ("CREATE ROLE" in block) == (kind == "postgresql")]
    return found.strip().splitlines()


def administer(url: str, *lines: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for line in lines:
            connection.execute(text(line))
    engine.dispose()


@pytest.fixture(params=["postgresql", "mariadb"])
def users(request):
    """The URLs of a database for who issues and for who serves; the tables are made, and hold a key and a token."""
    server = request.getfixturevalue(request.param)
    url = make_url(server.new_database())
    role, password = f"web_{url.database}", "a-password-of-web"
    SQLStore(url.render_as_string(hide_password=False)).make_tables()
    grants = [
        line.replace("acme_web", role).replace("PASSWORD '", "password '").replace("PASSWORD", password)
        for line in statements(request.param)
    ]
    grants = [line.replace(" ON acme.", f" ON {url.database}.") for line in grants]
    administrator = make_url(server.admin_url).set(database=url.database)
    administer(administrator.render_as_string(hide_password=False), *grants)
    issuing, serving = (one.render_as_string(hide_password=False) for one in (url, url.set(username=role, password=password)))
    open_store(issuing).put("certificate/example.com", b"a private key")
    open_challenges(issuing).present(TOKEN, ANSWER, ttl=600)
    return issuing, serving


def check(folder: Path, *words: str, **env: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code of ``check``, and what it found, by what it is about."""
    ended = command(folder, "check", "--json", "--ca", "https://127.0.0.1:1/directory", *words, env=env)
    document = json.loads(ended.out)
    assert document["exit_code"] == ended.code
    return ended.code, {one["what"]: one for one in document["findings"]}


def test_a_web_worker_answers_and_logs_with_the_grants_of_the_page(users, tmp_path):
    _, serving = users
    challenges = open_challenges(serving)
    assert challenges.key_authorization(TOKEN) == ANSWER
    challenges.log_fetch(TOKEN, Fetch(1_700_000_000.0, "192.0.2.1", "a CA"))
    code, found = check(tmp_path, "--role", "serving", ACME_STORE=serving)
    assert code == 0
    assert {what: one["level"] for what, one in found.items()} == {
        "options": "ok",
        "challenge store": "ok",
        "log of fetches": "ok",
    }


def test_whoever_issues_sees_what_the_web_worker_logged(users):
    issuing, serving = users
    open_challenges(serving).log_fetch(TOKEN, Fetch(1_700_000_000.0, "192.0.2.1", "a CA"))
    assert [fetch.address for fetch in open_challenges(issuing).fetches(TOKEN)] == ["192.0.2.1"]


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(lambda url: open_store(url).get("certificate/example.com"), id="read a key"),
        pytest.param(lambda url: list(open_store(url).scan("")), id="list records"),
        pytest.param(lambda url: open_store(url).put("certificate/example.com", b"mine"), id="write a record"),
        pytest.param(lambda url: open_store(url).delete("certificate/example.com"), id="delete a record"),
        pytest.param(lambda url: open_challenges(url).present("mine", "mine.x", ttl=60), id="present a token"),
        pytest.param(lambda url: open_challenges(url).remove(TOKEN), id="remove a token"),
    ],
)
def test_a_web_worker_can_do_nothing_else(users, attempt):
    issuing, serving = users
    with pytest.raises(StoreMisconfigured, match="acme_middleware_"):
        attempt(serving)
    assert open_store(issuing).get("certificate/example.com").value == b"a private key"
    assert open_challenges(issuing).key_authorization(TOKEN) == ANSWER


def test_issuing_as_the_web_worker_is_refused_with_the_grant_to_give(users, tmp_path):
    _, serving = users
    code, found = check(tmp_path, ACME_STORE=serving)
    assert code == 2
    for what, table in (("challenge store", "acme_middleware_token"), ("store", "acme_middleware_record")):
        assert found[what]["level"] == "wrong"
        assert re.search(rf"GRANT SELECT, INSERT, UPDATE, DELETE ON (\w+\.)?{table} TO", found[what]["hint"])
        assert "a-password-of-web" not in json.dumps(found[what])


def test_who_may_not_log_fetches_still_answers(postgresql, tmp_path):
    url = make_url(postgresql.new_database())
    issuing = url.render_as_string(hide_password=False)
    SQLStore(issuing).make_tables()
    role = f"reader_{url.database}"
    admin = make_url(postgresql.admin_url).set(database=url.database).render_as_string(hide_password=False)
    administer(admin, f"CREATE ROLE {role} LOGIN PASSWORD 'secret'", f"GRANT SELECT ON acme_middleware_token TO {role}")
    reading = url.set(username=role, password="secret").render_as_string(hide_password=False)
    code, found = check(tmp_path, "--role", "serving", ACME_STORE="nothing:", ACME_CHALLENGE_STORE=reading)
    assert code == 0
    assert found["challenge store"]["level"] == "ok"
    assert found["log of fetches"]["level"] == "warning"
    assert "acme_middleware_fetch" in found["log of fetches"]["hint"]


def test_redis_users_of_the_page_pass_the_check_of_their_role(own_server, tmp_path):
    from redis_server import Redis

    server = own_server(Redis)
    admin = Client.from_url(server.admin_url)
    for user in ("acme-issuer", "acme-web"):
        (line,) = re.findall(rf"^ACL (SETUSER {user} .*)$", (DOCS / "redis.md").read_text(), re.MULTILINE)
        admin.execute_command("ACL", *line.replace("PASSWORD", "secret").split())
    admin.close()
    issuing, serving = (f"redis://{user}:secret@{server.host}:{server.port}/0" for user in ("acme-issuer", "acme-web"))

    code, found = check(tmp_path, ACME_STORE=issuing)
    assert code == 75  # the CA that is not there, and nothing else
    levels = {what: one["level"] for what, one in found.items() if not what.startswith("CA ")}
    assert levels == {
        "options": "ok",
        "challenge store": "ok",
        "store": "ok",
        "durability": "ok",
        "encryption": "warning",
        "leases": "ok",
        "files": "ok",
    }
    code, found = check(tmp_path, "--role", "serving", ACME_CHALLENGE_STORE=serving)
    assert code == 0
    assert {one["level"] for one in found.values()} == {"ok"}
    code, found = check(tmp_path, ACME_STORE=serving)
    assert code == 2
    assert found["store"]["level"] == "wrong"


def test_a_redis_that_forgets_is_warned_of(own_server, tmp_path):
    from redis_server import Redis

    server = own_server(Redis)
    admin = Client.from_url(server.admin_url)
    for name, value in (("appendonly", "no"), ("save", ""), ("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")):
        admin.config_set(name, value)
    admin.close()
    ended = command(tmp_path, "check", env={"ACME_STORE": server.admin_url, "ACME_CA": "https://127.0.0.1:1/directory"})
    assert ended.code == 75
    assert "! durability: maxmemory-policy is allkeys-lru" in ended.out
    assert "! durability: nothing is written to the disk" in ended.out
    assert urlsecret(server.admin_url) not in ended.out + ended.err


def urlsecret(url: str) -> str:
    return make_url(url).password
