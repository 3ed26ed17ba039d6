"""The contract suites by URL: what they try, what they refuse to touch, and that they can fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from acme_middleware.stores import open_challenges, open_store

THUMBPRINT = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
QUIETLY = ("-q", "-rs", "-p", "no:cacheprovider", "-p", "no:django")
SUITES = ("-p", "acme_middleware.testing.plugin", "--pyargs", "acme_middleware.testing")


def run_suites(folder: Path, *arguments: str, path: Path | None = None) -> tuple[int, str]:
    """Pytest's exit code and output, in a folder where it finds no configuration."""
    # Not as in CI: our own conftest.py, which would fail what is skipped, is above the package in an editable installation.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "DJANGO")) and name != "CI"}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *QUIETLY, *SUITES, *arguments],
        cwd=folder,
        env={**env, **({"PYTHONPATH": str(path)} if path else {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


def passed(out: str) -> int:
    return int(re.search(r"(\d+) passed", out)[1])


def test_both_kinds_are_tried_by_one_line_and_the_log_of_fetches_too(tmp_path: Path) -> None:
    code, out = run_suites(tmp_path, "--acme-store=memory:", "--acme-challenge-store=memory:")
    assert code == 0, out
    assert passed(out) >= 70
    assert "deselected" not in out
    assert "this store has no tokens()" in out


def test_one_kind_alone_is_tried_and_the_store_is_empty_afterwards(tmp_path: Path) -> None:
    code, out = run_suites(tmp_path, "--acme-challenge-store=file:state")
    assert code == 0, out
    assert 10 <= passed(out) <= 30
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert [path for path in files if not path.name.startswith(".")] == []


def test_a_store_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    url = f"file:{tmp_path}/state"
    open_store(url).put("certificate/example.com", b"somebody's")
    code, out = run_suites(tmp_path, f"--acme-store={url}")
    assert code == 4, out
    assert "the store is not empty, and these tests empty it: it has 1 records, such as certificate/example.com" in out
    assert open_store(url).get("certificate/example.com").value == b"somebody's"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param([], "nothing to try: pass --acme-store=URL", id="no URL"),
        pytest.param(["--acme-store=nothing:"], "there is no store for nothing:", id="a scheme that nobody knows"),
        pytest.param([f"--acme-challenge-store=thumbprint:{THUMBPRINT}"], "keeps no tokens", id="a source that keeps nothing"),
        pytest.param(["--acme-challenge-store=webroot:/not/there"], "there is no folder /not/there", id="no such folder"),
    ],
)
def test_what_cannot_be_tried_says_why(tmp_path: Path, arguments: list[str], said: str) -> None:
    code, out = run_suites(tmp_path, *arguments)
    assert code == 4
    assert said in out
    assert "Traceback" not in out


BROKEN = """
from acme_middleware.stores.memory import MemoryChallengeStore, MemoryStore

_records, _tokens = MemoryStore(), MemoryChallengeStore()


class Careless:
    blocking = False

    def __init__(self, url):
        pass

    def get(self, key):
        return _records.get(key)

    def put(self, key, value, *, expect=None):
        return _records.put(key, value)  # whatever is expected

    def delete(self, key, *, expect=None):
        return _records.delete(key)

    def scan(self, prefix):
        return _records.scan(prefix)

    def check(self, *, writable):
        pass

    def key_authorization(self, token):
        return _tokens.key_authorization(token)

    def present(self, token, key_authorization, *, ttl):
        _tokens.present(token, key_authorization, ttl=3600)  # whatever the ttl

    def remove(self, token):
        _tokens.remove(token)
"""


def test_a_careless_store_fails(tmp_path: Path) -> None:
    (tmp_path / "careless.py").write_text(BROKEN)
    metadata = tmp_path / "careless-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: careless\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "".join(f"[acme_middleware.{group}]\ncareless = careless:Careless\n" for group in ("stores", "challenge_stores"))
    )
    picked = "older_version or create_at_once or past_its_time"
    code, out = run_suites(
        tmp_path, "--acme-store=careless:", "--acme-challenge-store=careless:", "-k", picked, "--tb=line", path=tmp_path
    )
    assert code == 1
    assert int(re.search(r"(\d+) failed", out)[1]) >= 4, out
    assert "passed" not in out


def test_passwords_are_not_printed(tmp_path: Path) -> None:
    _, out = run_suites(tmp_path, "-v", "--acme-store=redis://acme:secret@127.0.0.1:1/0?password=secret")
    assert "secret" not in out


def test_challenges_of_others_are_left_alone(tmp_path: Path) -> None:
    url = f"file:{tmp_path}/state"
    open_challenges(url).present("somebodys", "somebodys.answer", ttl=600)
    code, out = run_suites(tmp_path, f"--acme-challenge-store={url}", "-k", "presented or unknown")
    assert code == 0, out
    assert open_challenges(url).key_authorization("somebodys") == "somebodys.answer"
