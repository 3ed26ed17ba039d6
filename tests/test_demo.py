"""tools/demo.py, as `make demo` runs it: its last line is true, two at once get on, and nothing is left running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parent.parent / "tools" / "demo.py"
LIMIT = 180

SERIAL_BY_OPENSSL = (
    'openssl s_client -connect "$DEMO_ADDRESS" -servername "$DEMO_NAME" -CAfile "$DEMO_ROOT" -verify_return_error '
    '-verify_hostname "$DEMO_NAME" </dev/null 2>/dev/null | openssl x509 -noout -serial'
)


class Demo:
    """One run, every process of which carries a mark in its environment."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.mark = f"DEMO_RUN={uuid.uuid4()}"
        self.process = subprocess.Popen(
            [sys.executable, DEMO, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **variables, "DEMO_RUN": self.mark.partition("=")[2]},
        )

    def finish(self) -> list[str]:
        return self.process.communicate(timeout=LIMIT)[0].splitlines()

    def lines_until(self, words: str) -> list[str]:
        assert self.process.stdout
        lines: list[str] = []
        while not any(words in line for line in lines):
            line = self.process.stdout.readline()
            assert line, lines
            lines.append(line)
        return lines

    def processes(self) -> list[str]:
        """The command lines of what still runs, read from /proc or, without one, from ps."""
        if not Path("/proc/self/environ").exists():
            shown = subprocess.run(["ps", "-Axww", "-E", "-o", "command"], capture_output=True, text=True, check=True).stdout
            return [line for line in shown.splitlines() if self.mark in line]
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # it ended while we looked, or is another user's
        return found

    def nothing_is_left(self) -> bool:
        return eventually(lambda: not self.processes())


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_the_last_line_is_what_openssl_sees_and_two_at_once_get_on() -> None:
    demos = [Demo("--name", name, "sh", "-c", SERIAL_BY_OPENSSL) for name in ("one.example.com", "two.example.com")]
    outputs = [demo.finish() for demo in demos]
    serials = []
    for demo, lines, name in zip(demos, outputs, ("one.example.com", "two.example.com"), strict=True):
        assert demo.process.returncode == 0, "\n".join(lines)
        seen = re.fullmatch(r"serial=([0-9A-F]+)", lines[-2])
        assert seen, lines
        assert lines[-1] == f"OK {name} serial={seen[1]}"
        assert demo.nothing_is_left(), demo.processes()
        serials.append(seen[1])
    assert serials[0] != serials[1]


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGINT, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, id="terminated"),
        pytest.param(signal.SIGKILL, id="killed, so that only the kernel can stop the rest"),
    ],
)
def test_nothing_is_left_of_an_interrupted_demo(how: signal.Signals) -> None:
    demo = Demo("sleep", "300")
    demo.lines_until("fetching https://example.com/")
    assert eventually(lambda: any("sleep 300" in command for command in demo.processes()))
    running = demo.processes()
    assert any("acme_middleware ca" in command for command in running)
    assert any("gunicorn" in command for command in running)
    demo.process.send_signal(how)
    lines = demo.finish()
    assert demo.process.returncode == (130 if how != signal.SIGKILL else -signal.SIGKILL), lines
    assert not any(line.startswith("OK ") for line in lines)
    assert demo.nothing_is_left(), demo.processes()


def test_a_command_that_fails_fails_the_demo() -> None:
    demo = Demo("sh", "-c", "exit 3")
    lines = demo.finish()
    assert demo.process.returncode == 1
    assert lines[-1] == "demo failed: sh -c exit 3 ended with 3"
    assert demo.nothing_is_left(), demo.processes()
