"""The example of a store of one's own: installed and tried as its README says, then issued from, and used after a fork."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from acme_middleware.errors import StoreMisconfigured
from acme_middleware.issuance.issuer import Action
from acme_middleware.stores import open_challenges, open_store
from acme_middleware.wsgi import AcmeMiddleware

pytest_plugins = ["acme_middleware.testing.plugin"]

PROJECT = Path(__file__).resolve().parents[2] / "example_projects" / "own_store"
README = (PROJECT / "README.md").read_text()
PAGE = (PROJECT.parents[1] / "docs" / "your-own-store.md").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the package, installed by pip with its entry points."""
    folder = tmp_path_factory.mktemp("own-store")
    shutil.copytree(PROJECT, folder / "source")
    assert "pip install . pytest" in README
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder / "site", "."]
    done = subprocess.run(pip, cwd=folder / "source", capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture
def on_path(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder that need not wait for a disk: ten thousand commits do."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder)


def python(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "DJANGO", "ACME"))}
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**env, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_it_keeps_the_contract_by_the_line_of_the_readme(installed: Path, in_memory: Path) -> None:
    line = re.search(r"^ *\$ (pytest .*acme_middleware\.testing .*)$", README, re.MULTILINE)[1]
    done = python(installed, in_memory, *shlex.split(line), "-p", "no:django", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)[0] == re.search(r"\d+ passed", README)[0]
    assert "skipped" not in done.stdout


def test_the_suites_of_the_page_pass_as_classes(installed: Path, in_memory: Path) -> None:
    example = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "class TestMyStore" in block)
    (in_memory / "test_mine.py").write_text(example)
    words = ["-q", "-p", "no:django", "-p", "no:cacheprovider", "-k", "version or expectation", "test_mine.py"]
    done = python(installed, in_memory, "pytest", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 5


def test_an_app_answers_from_it_and_a_certificate_is_kept_in_it(on_path, acme_ca, acme_issue, tmp_path) -> None:
    url = f"lmdb:{tmp_path}/acme"
    acme_ca.resolve["*"] = AcmeMiddleware(lambda environ, start_response: start_response("404 Not Found", []) or [], store=url)
    assert acme_issue("example.com", store=url).action is Action.ISSUED
    assert acme_issue("example.com", store=url).action is Action.NOT_DUE
    assert open_store(url).get("certificate/example.com") is not None
    assert (tmp_path / "acme" / "state").stat().st_mode & 0o777 == 0o700


def test_the_commands_of_the_readme_find_it_by_its_url(installed: Path, tmp_path: Path, acme_ca) -> None:
    lines = re.findall(r"^ *\$ acme-middleware (.*)$", README, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["check", "issue"]
    at_ca = ["--ca", acme_ca.directory_url, "--ca-bundle", str(acme_ca.ca_bundle)]
    words = [word.replace("/var/lib/acme", f"{tmp_path}/acme") for word in lines[0].split()]
    done = python(installed, tmp_path, "acme_middleware", *words, *at_ca, "--json")
    findings = {one["what"]: one["level"] for one in json.loads(done.stdout)["findings"]}
    assert (done.returncode, findings["store"], findings["challenge store"]) == (0, "ok", "ok")
    # Nobody answers for the name here: the command gets as far as the CA, with a store that it could write to.
    words = [word.replace("/var/lib/acme", f"{tmp_path}/acme") for word in lines[1].split()]
    acme_ca.resolve["*"] = "127.0.0.1:1"
    done = python(installed, tmp_path, "acme_middleware", *words, *at_ca, "--self-check", "skip", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["type"]) == (1, "ValidationFailed")


def test_a_child_of_a_fork_uses_it_as_its_parent_does(on_path, tmp_path) -> None:
    url = f"lmdb:{tmp_path}/acme"
    store, challenges = open_store(url), open_challenges(url)
    version = store.put("renewal/a", b"of the parent")
    challenges.present("token", "token.answer", ttl=600)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert challenges.key_authorization("token") == "token.answer"
            assert store.get("renewal/a").value == b"of the parent"
            store.put("renewal/a", b"of the child", expect=version)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.get("renewal/a").value == b"of the child"
    store.put("renewal/a", b"of the parent again")
    assert challenges.key_authorization("token") == "token.answer"


@pytest.mark.parametrize(
    ("spoil", "url", "said"),
    [
        pytest.param(lambda at: None, "lmdb:", "the URL names no folder", id="no folder"),
        pytest.param(
            lambda at: (at / "file").write_text("x"), "lmdb:{}/file", "Not a directory|File exists", id="a file there"
        ),
        pytest.param(
            lambda at: [(at / "state").mkdir(), (at / "state" / "data.mdb").write_bytes(b"no database" * 1000)],
            "lmdb:{}",
            "not an LMDB file|INVALID",
            id="no database there",
        ),
    ],
)
def test_what_cannot_be_used_is_misconfigured(on_path, tmp_path, spoil, url, said) -> None:
    spoil(tmp_path)
    with pytest.raises(StoreMisconfigured, match=said) as caught:
        open_store(url.format(tmp_path)).check(writable=True)
    assert caught.value.hint
