"""What the lab stands on: ports that nobody else is given, servers that do not outlive us, scripts that say what is missing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import local_ports
import pytest
from background import Background, listens
from pebble_server import Pebble

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"
PACKAGES = "acme-tiny certbot curl faketime git haproxy lego nginx openssl redis-server wrk "
PACKAGES += "apache2-bin iproute2 mariadb-server postgresql"


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env, cwd=cwd)


@pytest.mark.parametrize(
    ("sources", "mirror"),
    [
        pytest.param("deb http://mirror.example/debian bookworm main\n", "http://mirror.example/debian", id="one line"),
        pytest.param(
            "deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] https://mirror.example/debian/ bookworm main\n",
            "https://mirror.example/debian/",
            id="one line with options",
        ),
        pytest.param("Types: deb\nURIs: http://mirror.example/pub/debian\n", "http://mirror.example/pub/debian", id="deb822"),
        pytest.param(
            "URIs: http://other.example/x http://mirror.example/debian\n",
            "http://mirror.example/debian",
            id="second of two URIs",
        ),
        pytest.param("deb\thttp://mirror.example/debian\tbookworm\tmain\n", "http://mirror.example/debian", id="tabs"),
        pytest.param(
            "deb http://security.example/debian-security bookworm-security main\n"
            "URIs: http://mirror.example/debian-security\nURIs: https://vendor.example/node_20.x\n"
            "deb https://vendor.example/apt cloud main\n",
            None,
            id="security and vendors only",
        ),
        pytest.param(
            "# deb http://mirror.example/debian x main\ndeb-src http://mirror.example/debian x main\n", None, id="not in use"
        ),
    ],
)
def test_the_mirror_is_found_in_apts_sources(tmp_path: Path, sources: str, mirror: str | None) -> None:
    (tmp_path / "sources").write_text(sources)
    found = run(TOOLS / "debian-mirror", tmp_path / "sources", tmp_path / "absent")
    assert (found.returncode == 0, found.stdout) == ((True, f"{mirror}\n") if mirror else (False, ""))


class TestSetup:
    """tools/setup where it may not install, or cannot."""

    @pytest.fixture
    def checkout(self, tmp_path: Path) -> Path:
        """What setup needs of a checkout, and a PATH with nothing but a shell's basics."""
        checkout, programs = tmp_path / "checkout", tmp_path / "bin"
        (checkout / "tools").mkdir(parents=True)
        shutil.copy(TOOLS / "setup", checkout / "tools" / "setup")
        programs.mkdir()
        for name in ("sh", "dirname", "cat", "id"):
            (programs / name).symlink_to(shutil.which(name) or "")
        return checkout

    def setup(self, checkout: Path, what: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(checkout.parent / "bin"), "PYTHON": sys.executable, **variables}
        return run(checkout / "tools" / "setup", what, env=env)

    def provide(self, checkout: Path, name: str, script: str) -> None:
        program = checkout.parent / "bin" / name
        program.unlink(missing_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def test_without_root_the_one_line_is_printed(self, checkout: Path) -> None:
        self.provide(checkout, "apt-get", "echo must not run; exit 1")
        self.provide(checkout, "id", "echo 1000")
        refused = self.setup(checkout, "test")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.splitlines() == [
            f"setup: missing: {PACKAGES}. Run as root: apt-get install --no-install-recommends -y {PACKAGES}"
        ]

    def test_elsewhere_than_on_debian_the_programs_are_named(self, checkout: Path) -> None:
        refused = self.setup(checkout, "test")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr == f"setup: missing (by their Debian names): {PACKAGES}. Install them and try again\n"

    def test_an_old_python_is_refused(self, checkout: Path) -> None:
        self.provide(checkout, "openssl", "exit 0")
        self.provide(checkout, "old", 'case "$2" in *version_info*) exit 1 ;; esac; [ "$1" != -V ] || echo Python 3.9.2')
        refused = self.setup(checkout, "demo", PYTHON=str(checkout.parent / "bin" / "old"))
        assert refused.returncode == 2
        assert "Python 3.11 or newer is needed" in refused.stderr
        assert "is Python 3.9.2" in refused.stderr

    def test_an_unknown_word_is_refused(self, checkout: Path) -> None:
        refused = self.setup(checkout, "everything")
        assert refused.returncode == 2
        assert refused.stderr == "setup: everything is none of demo, test, lowest\n"


def test_ports_are_given_to_one_at_a_time() -> None:
    with local_ports.reserve(3) as mine, local_ports.reserve(3) as others:
        assert not set(mine) & set(others)
        assert all(port < 32768 for port in (*mine, *others))
        for port in mine:
            with socket.socket() as server:
                server.bind(("127.0.0.1", port))


def test_a_server_dies_with_the_program_that_started_it(tmp_path: Path) -> None:
    starter = (
        "import os, sys, pathlib, signal; sys.path.insert(0, sys.argv[1]); from background import Background\n"
        "server = Background(['sleep', '300'], log=pathlib.Path(sys.argv[2]))\n"
        "print(server.process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    started = run(sys.executable, "-c", starter, TOOLS, tmp_path / "log")
    assert started.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 5
    while _runs(int(started.stdout)):
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # "Z": dead, and not waited for by its new parent. Only Linux has /proc, and only there is a server tied to us.
        return sys.platform != "linux" or Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        Background(["sh", "-c", "echo no such thing; exit 7"], log=tmp_path / "log") as server,
        pytest.raises(RuntimeError, match=r"(?s)sh ended with 7; its log:\nno such thing"),
    ):
        server.wait_until(lambda: False)


def test_two_pebbles_at_once_and_none_afterwards() -> None:
    with Pebble() as one, Pebble(alternate_roots=2, strict=True) as two:
        assert one.directory_url != two.directory_url
        assert one.requests() == []
        assert len(set(two.roots())) == 3
        assert "BEGIN CERTIFICATE" in two.intermediate(1)
        ports = [int(re.search(r":(\d+)/", url)[1]) for url in (one.directory_url, two.directory_url)]  # type: ignore[index]
        assert all(map(listens, ports))
        folder = one.log.parent
    assert not any(map(listens, ports))
    assert not folder.exists()


def test_pebble_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PEBBLE", str(tmp_path / "pebble"))
    with pytest.raises(RuntimeError, match="is no executable: set PEBBLE="):
        Pebble().start()


def test_the_lowest_versions_are_the_bounds_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    lowest = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert {name: as_release(version) for name, version in lowest.items()} == {
        name.partition("[")[0]: as_release(version) for name, version in (requirement.split(">=") for requirement in wanted)
    }


def as_release(version: str) -> tuple[int, ...]:
    """2.0 and 2.0.0 are the same release."""
    numbers = [int(number) for number in version.split(".")]
    return tuple(numbers + [0] * (3 - len(numbers)))


def test_nothing_kept_names_a_machine_or_an_index() -> None:
    listed = run("git", "ls-files", cwd=ROOT).stdout.split()
    assert listed
    for name in listed:
        assert not re.search(r"(^|/)(poetry\.lock|uv\.lock|Pipfile\.lock|pdm\.lock|pylock.*\.toml)$", name)
        if name.endswith((".txt", ".toml", ".cfg")):
            assert not re.search(r"--(extra-)?index-url|--hash|://files\.", (ROOT / name).read_text()), name


@pytest.mark.parametrize("script", ["setup", "fresh", "get-pebble", "debian-mirror"])
def test_scripts_are_posix_shell(script: str) -> None:
    assert (TOOLS / script).read_text().startswith("#!/bin/sh\n")
    assert os.access(TOOLS / script, os.X_OK)
    checked = run("sh", "-n", TOOLS / script)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("ci", "outcome"), [pytest.param("true", "1 failed", id="in CI"), pytest.param("", "1 skipped", id="elsewhere")]
)
def test_a_skipped_test_is_a_failed_one_in_ci(tmp_path: Path, ci: str, outcome: str) -> None:
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "test_server.py").write_text("import pytest\n\ndef test_it():\n    pytest.skip('no server here')\n")
    env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"} | {"CI": ci}
    ran = run(sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", tmp_path, tmp_path, env=env, cwd=tmp_path)
    assert outcome in ran.stdout
    assert (ran.returncode == 0) == (not ci)
    assert ("skipped, which CI does not allow" in ran.stdout) == bool(ci)
