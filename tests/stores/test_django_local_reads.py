"""Look-ups in an SQLite file: connections that a burst shares, that see every change, and that are gone soon after it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django_acme_middleware import local_reads
from django_acme_middleware.stores import DjangoChallengeStore

from acme_middleware.errors import StoreUnavailable

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN, ANSWER = "a-token", "a-token.thumbprint"


@pytest.fixture
def challenges() -> Iterator[DjangoChallengeStore]:
    store = DjangoChallengeStore()
    store.present(TOKEN, ANSWER, ttl=60)
    yield store
    connection.close()
    soon(lambda: not open_files())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every connection that is opened from now on."""
    found: list[object] = []
    ours = type(connections["default"])
    connect = ours.get_new_connection

    def counted(self: Any, parameters: Any) -> Any:
        found.append(self)
        return connect(self, parameters)

    monkeypatch.setattr(ours, "get_new_connection", counted)
    return found


def open_files() -> int:
    """How many descriptors this process has on the database."""
    links = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:  # the one that the listing itself had
            continue
    return links.count(str(connection.settings_dict["NAME"]))


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 6
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_sqlite_file_is_brief_and_a_database_in_memory_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DjangoChallengeStore().brief is True
    monkeypatch.setitem(connection.settings_dict, "NAME", ":memory:")
    assert DjangoChallengeStore().brief is False


def test_a_burst_shares_a_connection_which_is_closed_soon_after(challenges: DjangoChallengeStore, opened: list[object]) -> None:
    connection.close()
    soon(lambda: not open_files())  # those of a test before this one
    assert {challenges.key_authorization(TOKEN) for _ in range(200)} == {ANSWER}
    assert 1 <= len(opened) <= 3, "one, and one more for each second that it takes"
    assert connection.connection is None, "the thread's own was used"
    assert 1 <= open_files() <= 2, "one, and one that is about to be closed"
    soon(lambda: not open_files())
    assert challenges.key_authorization(TOKEN) == ANSWER, "nothing was opened after the first were closed"
    soon(lambda: not open_files())


def test_threads_at_once_have_connections_of_their_own(challenges: DjangoChallengeStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: challenges.key_authorization(TOKEN if number % 2 else "other"), range(400)))
    assert found == [None, ANSWER] * 200
    assert open_files() <= 9


def test_what_others_write_is_seen_at_once(challenges: DjangoChallengeStore) -> None:
    for number in range(20):
        assert challenges.key_authorization(f"new-{number}") is None
        DjangoChallengeStore().present(f"new-{number}", "answer", ttl=60)
        assert challenges.key_authorization(f"new-{number}") == "answer"
        DjangoChallengeStore().remove(f"new-{number}")
        assert challenges.key_authorization(f"new-{number}") is None


def test_what_a_transaction_has_written_is_seen_inside_of_it(challenges: DjangoChallengeStore) -> None:
    from django_acme_middleware.models import Token

    with transaction.atomic():
        Token.objects.filter(token=TOKEN).update(key_authorization="changed")
        assert challenges.key_authorization(TOKEN) == "changed"
        transaction.set_rollback(True)
    assert challenges.key_authorization(TOKEN) == ANSWER


def test_a_writer_is_waited_for_less_than_two_seconds(challenges: DjangoChallengeStore) -> None:
    assert challenges.key_authorization(TOKEN) == ANSWER
    locker = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match="locked"):
        challenges.key_authorization(TOKEN)
    assert 1 < time.monotonic() - start < 2
    locker.execute("ROLLBACK")
    locker.close()
    assert challenges.key_authorization(TOKEN) == ANSWER


def test_a_file_put_in_the_others_place_is_read_after_a_second(challenges: DjangoChallengeStore) -> None:
    path = Path(connection.settings_dict["NAME"])
    assert challenges.key_authorization(TOKEN) == ANSWER
    connection.close()
    restored = path.with_suffix(".restored")
    shutil.copy(path, restored)
    with sqlite3.connect(restored) as database:
        database.execute("UPDATE acme_middleware_token SET key_authorization = 'restored'")
    database.close()
    restored.replace(path)
    deadline = time.monotonic() + local_reads.KEPT + 1
    while challenges.key_authorization(TOKEN) != "restored":  # asked on and on, so that no connection is ever idle
        assert time.monotonic() < deadline


def test_where_no_thread_can_be_started_a_token_is_answered_and_the_next_one_closes(
    challenges: DjangoChallengeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    connection.close()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        assert [challenges.key_authorization(TOKEN) for _ in range(20)] == [ANSWER] * 20
        assert open_files() <= 2
    assert challenges.key_authorization(TOKEN) == ANSWER
    soon(lambda: not open_files())


def test_a_child_of_a_fork_opens_its_own_and_does_not_close_its_parents(tmp_path: Path) -> None:
    # In a process of its own: forking this one, with the threads of other tests, is what Python 3.12 warns about.
    script = f"""
import gc, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import django
from django.conf import settings
database = {str(tmp_path / "db.sqlite3")!r}
settings.configure(
    INSTALLED_APPS=["django_acme_middleware"], DATABASES={{"default": dict(ENGINE="django.db.backends.sqlite3", NAME=database)}}
)
django.setup()
from django.core.management import call_command
from django.db import connection
from django_acme_middleware.stores import DjangoChallengeStore

def opened():
    return [link for link in os.listdir("/proc/self/fd") if os.path.realpath("/proc/self/fd/" + link) == database]

call_command("migrate", verbosity=0)
store = DjangoChallengeStore()
store.present({TOKEN!r}, {ANSWER!r}, ttl=60)
connection.close()
assert store.key_authorization({TOKEN!r}) == {ANSWER!r}
inherited = opened()
assert len(inherited) == 1
# The worst moment: the lock is held.
store._reads._kept.lock.acquire()
child = os.fork()
if not child:
    answered = store.key_authorization({TOKEN!r}) == {ANSWER!r}
    gc.collect()
    os._exit(0 if answered and len(opened()) == 2 and inherited[0] in opened() else 1)
store._reads._kept.lock.release()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
