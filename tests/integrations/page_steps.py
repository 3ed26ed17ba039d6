"""What a page of the documentation says to type, and what it takes to do so in a folder and on ports of one's own."""

import os
import re
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path

from background import Background, listens
from local_ports import reserve
from serving import PROJECT

LIMIT = 120


def blocks(page, kind):
    """The fenced blocks of a kind, of a page of the project, in order."""
    text = (PROJECT / page).read_text()
    return [textwrap.dedent(block) for block in re.findall(rf"^ *```{kind}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)]


def dialogues(page):
    """The commands of its console blocks, each with what the page says that it prints."""
    found = []
    for block in blocks(page, "console"):
        for entry in block.removeprefix("$ ").split("\n$ "):
            command, _, output = entry.partition("\n")
            found.append((command, output))
    return found


def commands(page):
    """The commands of its console blocks."""
    return [command for command, _ in dialogues(page)]


def steps(page):
    """The numbers of its steps."""
    return [int(number) for number in re.findall(r"^(\d+)\. \*\*", (PROJECT / page).read_text(), re.MULTILINE)]


class Folder:
    """
    A folder in which the commands of a page are typed.

    What a page says of port 8000, of the CA's own port and of the CA's folder in the home directory is replaced: two tests may
    run at the same time. So is the place of state that only root may write to.
    """

    def __init__(self, path, **variables):
        self.path = Path(path)
        self.things = ExitStack()
        self.port, self.ca_port = self.things.enter_context(reserve(2))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ACME_", "APP_"))}
        # The commands of a page are those of this Python's environment.
        self.env = {**kept, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]), **variables}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.things.close()

    def here(self, text):
        """A command or some code of a page, for this folder."""
        root = self.path / "ca" / "root.pem"
        for written, meant in {
            "8000": str(self.port),
            "acme-middleware ca": f"acme-middleware ca --port {self.ca_port} --state ca --resolve '*=127.0.0.1:{self.port}'",
            "--ca local": f"--ca https://localhost:{self.ca_port}/directory --ca-bundle {root}",
            "/var/lib/acme-middleware": f"{self.path}/state",
        }.items():
            text = text.replace(written, meant)
        return text

    def run(self, command, *, check=True):
        """Type a command, and read what it prints."""
        done = subprocess.run(
            ["sh", "-c", self.here(command)],
            cwd=self.path,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, command, port):
        """Type a command that stays, in a terminal of its own, and wait until something listens."""
        name = re.sub(r"\W+", "-", command)[:40]
        log = self.path / f"{name}.log"
        running = Background(["sh", "-c", self.here(command)], log=log, env=self.env, cwd=self.path)
        self.things.callback(running.stop)
        running.wait_until(lambda: listens(port), seconds=30)
        return log
