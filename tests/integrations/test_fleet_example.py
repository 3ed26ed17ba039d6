"""example_projects/fleet: as its README says, with a PostgreSQL of our own, and as `make fleet` runs it."""

import os
import re
import shutil
import signal
import subprocess
import sys

import local_ports
import pytest
from background import listens
from pebble_lab import wait_until
from postgresql_server import PostgreSQL
from serving import PROJECT, get
from tornado_pages import Reader, is_our_installation, names_of, steps

PAGE = "example_projects/fleet/README.md"
PREFIX = "/.well-known/acme-challenge/"


@pytest.fixture(scope="module")
def database():
    with PostgreSQL() as server:
        yield server


def test_it_runs_as_its_readme_says(database, tmp_path):
    folder = tmp_path / "fleet"
    shutil.copytree((PROJECT / PAGE).parent, folder, ignore=shutil.ignore_patterns("run", "tls", "__pycache__"))
    install, prepare, run, renew, look = steps(PAGE)
    with local_ports.reserve(5) as (http, tls, one, two, ca):
        ports = {"8080": http, "8443": tls, "8001": one, "8002": two, "5432": database.port}
        root = folder / ".local/state/acme-middleware/local-ca/root.pem"
        swaps = {
            **ports,
            "postgresql://postgres@": f"postgresql://postgres:{database.password}@",
            "acme-middleware ca": f"acme-middleware ca --port {ca}",
            "--ca local": f"--ca https://localhost:{ca}/directory --ca-bundle {root} --self-check-via 127.0.0.1:{http}",
        }
        with Reader(folder, swaps, ACME_SELF_CHECK="require") as reader:
            for file in [*folder.glob("*.cfg"), folder / "fleet.toml"]:
                file.write_text(reader.own(file.read_text()).replace("acme:change-me@", f"acme:{database.password}@"))
            (pip, _), (mkdir, _) = install[0].commands
            assert is_our_installation(pip.removesuffix(" gunicorn"))
            reader.run(mkdir)
            for command, _ in prepare[0].commands:
                reader.run(command)
            (run_ca, _), *hosts, (haproxy, _) = run[0].commands
            reader.start(run_ca, ca)
            logs = [reader.start(command, port) for (command, _), port in zip(hosts, (one, two), strict=True)]
            reader.start(haproxy, http)
            wait_until(lambda: get(http, f"{PREFIX}unknown").status == 404, "a host answers")

            reader.follow(renew[0])

            (link, _), (reload, _), (status, _), (page, _), (kill, _), (again, _) = look[0].commands
            reader.run(link)
            reader.run(reload)
            wait_until(lambda: listens(tls), "HAProxy serves the site over TLS")
            assert re.search(r"shop\.example +ok ", reader.run(status))
            assert names_of(folder / "run/live/shop.example/current/cert.pem") == {"shop.example", "www.shop.example"}
            # In turn, once HAProxy has seen both.
            seen = set()
            wait_until(lambda: seen.add(reader.run(page)) or len(seen) == 2, "both hosts serve")
            assert seen == {"It is host1 that serves you.\n", "It is host2 that serves you.\n"}
            elsewhere = f"https://shop.example:{tls}/some/page?x=1"
            assert get(http, "/some/page?x=1", host="shop.example").header("Location") == elsewhere

            reader.run(kill)
            assert {reader.run(again) for _ in range(6)} == {"It is host2 that serves you.\n"}
            assert "1 not due" in reader.run(renew[0].commands[0][0])
    assert not any(re.search("Traceback|ERROR", log.read_text()) for log in logs)


def test_the_fleet_gets_its_certificate_though_a_host_dies_while_it_issues():
    done = subprocess.run(
        [sys.executable, PROJECT / "tools/fleet.py"], capture_output=True, text=True, timeout=180, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    *before, last = done.stdout.splitlines()
    assert re.fullmatch(r"OK shop\.example serial=[0-9A-F]+ orders=1", last)
    assert any("host 1 dies" in line for line in before)
    assert any(re.match(r" +shop\.example +issued ", line) for line in before)


def test_make_fleet_runs_it():
    make = ["make", "-n", "--no-print-directory", "fleet"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name not in ("ARGS", "MFLAGS")}
    shown = subprocess.run(make, cwd=PROJECT, env=env, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1].split() == [".venv/bin/python", "tools/fleet.py"]


def test_when_it_is_interrupted_nothing_is_left_running(tmp_path):
    process = subprocess.Popen(
        [sys.executable, PROJECT / "tools/fleet.py", "--store", f"file:{tmp_path}/store"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        for line in iter(process.stdout.readline, ""):
            if "host 1 dies" in line:
                break
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, rest
    assert rest.splitlines()[-1] == "fleet interrupted"
    assert list(tmp_path.glob("fleet-*")) == []
    wait_until(lambda: not _running_in(tmp_path), "all has ended")


def _running_in(folder):
    """The processes whose working folder is below it, or was."""
    found = []
    for process in os.listdir("/proc"):
        try:
            where = os.readlink(f"/proc/{process}/cwd")
        except OSError:  # no process, or it ended meanwhile
            continue
        if where.startswith(str(folder)):
            found.append(process)
    return found
