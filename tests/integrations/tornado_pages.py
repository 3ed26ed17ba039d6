"""Follow a page of the documentation: its numbered steps, their files and commands, in a folder and with ports of one's own."""

import os
import re
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from background import Background, listens
from serving import PROJECT

OURS = re.compile(r"^(?:from|import) \w*acme_middleware", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its kind (``python``, ``console``, ``nginx``) and its text."""

    kind: str
    text: str

    @property
    def commands(self):
        """The lines behind a ``$``, each with the lines that it is said to print."""
        found = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
        return found


def steps(page):
    """The blocks of each numbered step, in order."""
    text = (PROJECT / page).read_text()
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)), f"{page} numbers its steps {numbers}"
    parts = re.split(r"^\d+\. ", text, flags=re.MULTILINE)[1:]
    return [
        [
            Block(kind, textwrap.dedent(body))
            for kind, body in re.findall(r"^ *```(\w+)\n(.*?)^ *```", part, re.MULTILINE | re.DOTALL)
        ]
        for part in parts
    ]


class Reader:
    """
    Somebody who follows a page.

    Args:
        folder: Where they type. It is their home as well.
        swaps: What is another text for them: ports, folders.
        env: Their environment, on top of this process's own without its ACME_*.
    """

    def __init__(self, folder, swaps, **env):
        self.folder, self.swaps = Path(folder), swaps
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ACME_", "XDG_"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        sources = os.pathsep.join([str(PROJECT), str(PROJECT / "integrations")])
        self.env = {**kept, "PATH": path, "PYTHONPATH": sources, "HOME": str(folder), **env}
        self._things = ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._things.close()

    def own(self, text):
        """The text with what differs for this reader."""
        for old, new in self.swaps.items():
            text = text.replace(old, str(new))
        return text

    def write(self, name, block):
        (self.folder / name).write_text(self.own(block.text))

    def run(self, command):
        """Type a command, and wait until it ends well; returns what it printed."""
        done = subprocess.run(
            ["bash", "-c", self.own(command)],
            cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def follow(self, block):
        """Type a block's commands; each prints what the page says, where it says something. Returns all that was printed."""
        printed = []
        for command, expected in block.commands:
            printed.append(self.run(command))
            if expected:
                assert printed[-1].splitlines() == expected
        return printed

    def start(self, command, port):
        """Type a command that keeps its terminal, and wait until it listens at the port."""
        log = self.folder / f"log-of-{port}"
        server = Background(["bash", "-c", self.own(command)], log=log, env=self.env, cwd=self.folder)
        self._things.callback(server.stop)
        # Both: another server may have the port, and this one may have failed for it.
        server.wait_until(lambda: listens(port))
        return log


def is_our_installation(command):
    """Whether it installs us with extras that there are."""
    import tomllib

    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found = re.fullmatch(r'pip install "acme-middleware\[([\w,-]+)\]"', command)
    return bool(found) and set(found[1].split(",")) <= extras.keys()


def names_of(certificate):
    """The names of a certificate's file, by openssl."""
    shown = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-ext", "subjectAltName"],
        check=True, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    return set(re.findall(r"DNS:([\w.-]+)", shown.stdout))
