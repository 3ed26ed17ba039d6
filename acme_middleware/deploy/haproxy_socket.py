"""
HAProxy's Runtime API: give it a certificate while it runs, by its stats socket or its master's (HAProxy's management guide,
section 9.3).

One transaction at a time is all that a HAProxy has, whoever began it. Debian's 2.6 puts a certificate that is set meanwhile
into the transaction of another file, and answers nothing at all to a payload beyond its buffer. So every answer is compared
with the one that means yes, and whatever was begun is taken back where another comes.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["RuntimeAPI", "RuntimeAPIError", "Shown"]

TIME_LIMIT = 10.0
PAUSE = 0.02
MOST_BYTES = 32 << 20
"""A HAProxy with a hundred thousand certificates lists them in less; a socket that never stops is none of its."""

DENIED = "Permission denied"


class RuntimeAPIError(Exception):
    """
    HAProxy does not answer, or says no.

    Attributes:
        step: What it was asked.
        why: What is wrong.
        hint: What to do about it.
        refused: It was HAProxy that answered, and it does not take this certificate.
    """

    def __init__(self, step: str, why: str, *, hint: str = "", refused: bool = False) -> None:
        super().__init__(step, why)
        self.step, self.why, self.hint, self.refused = step, why, hint, refused


@dataclass(frozen=True, slots=True)
class Shown:
    """What HAProxy has of a certificate's file: whether a ``bind`` uses it, and the SHA-1 of the certificate in hexadecimal."""

    used: bool
    fingerprint: str


class RuntimeAPI:
    """
    A socket of HAProxy's.

    Args:
        address: The path of a stats socket of level admin or of the master's socket, or HOST:PORT of either.
        timeout: Seconds that an answer may take.
    """

    def __init__(self, address: str, *, timeout: float = TIME_LIMIT) -> None:
        self.address, self.timeout = address, timeout
        self._prefix = ""

    def ask(self, command: str, payload: bytes = b"", *, step: str = "") -> str:
        """One command over a connection of its own, and its whole answer. Raises RuntimeAPIError where none comes."""
        step, deadline = step or f"`{command}`", time.monotonic() + self.timeout
        message = f"{self._prefix}{command}".encode() + (b" <<\n" + payload if payload else b"") + b"\n"
        answer = bytearray()
        try:
            with self._connect() as connection:
                connection.sendall(message)
                # The master's socket keeps a connection for the next command unless nothing more can come.
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(1 << 16):
                    answer += part
                    connection.settimeout(max(0.001, deadline - time.monotonic()))
                    if len(answer) > MOST_BYTES:
                        raise RuntimeAPIError(step, f"what answers at {self.address} does not stop")
        except TimeoutError:
            raise RuntimeAPIError(
                step, f"no answer from {self.address} within {self.timeout:g} s", hint="is it a socket of HAProxy's?"
            ) from None
        except OSError as error:
            if payload and isinstance(error, BrokenPipeError | ConnectionResetError):
                return ""  # it has read as much as it takes, and hung up
            raise RuntimeAPIError(
                step,
                f"{self.address}: {error.strerror or error}",
                hint="does HAProxy run, and has its `global` section a line `stats socket PATH level admin`?",
            ) from error
        return answer.decode(errors="replace").strip()

    def transactions(self) -> list[str]:
        """
        The files whose certificates somebody is about to change.

        Also finds out what kind of socket it is, so it comes first.

        Raises:
            RuntimeAPIError: it is not HAProxy's.
        """
        step = f"ask HAProxy at {self.address}"
        for self._prefix in ("", "@1 "):  # the second is how the master's socket passes a command on to the worker
            listed = self._settled(lambda: self.ask("show ssl cert", step=step)).splitlines()
            if listed and listed[0] in ("# transaction", "# filename"):
                return [line[1:] for line in listed[: listed.index("# filename")] if line.startswith("*")]
            if not listed or not listed[0].startswith("Unknown command"):
                break
        said = "\n".join(listed)
        if DENIED in said:
            raise _no(step, said)
        raise RuntimeAPIError(
            step,
            f"what answers there is not HAProxy{_quoted(said)}",
            hint="socket= takes what HAProxy's `stats socket` line names, or its master's socket (`haproxy -W -S PATH`)",
        )

    def shown(self, file: str) -> Shown | None:
        """What HAProxy has of a file, which may be nothing."""
        answer = self._settled(lambda: self.ask(f"show ssl cert {_word(file)}", step="`show ssl cert`"))
        facts = dict(line.split(": ", 1) for line in answer.splitlines() if ": " in line)
        if facts.get("Filename") != file:
            return None
        return Shown(facts.get("Status") == "Used", facts.get("SHA1 FingerPrint", "").lower())

    def replace(self, file: str, bundle: bytes, fingerprint: str) -> None:
        """Let new connections get another certificate from ``file``; those that there are stay. Raises RuntimeAPIError."""
        path = _word(file)
        try:
            said = self._settled(lambda: self.ask(f"set ssl cert {path}", bundle, step="`set ssl cert`"))
            if f"Transaction created for certificate {file}!" not in said:
                raise _no("`set ssl cert`", said, _too_long(bundle) if not said else "")
            # A certificate and a key that do not belong together are "created" too, and so is half of a file.
            set_ = self.shown(f"*{file}")
            if set_ is None or set_.fingerprint != fingerprint:
                raise _no("`set ssl cert`", "it has read another certificate than the one it was sent")
            said = self._settled(lambda: self.ask(f"commit ssl cert {path}", step="`commit ssl cert`"))
            if "Success!" not in said:
                raise _no("`commit ssl cert`", said)
        except RuntimeAPIError:
            self.abort(file)
            raise

    def add(self, folder: str, file: str, bundle: bytes, fingerprint: str) -> None:
        """Let HAProxy have a certificate more, of a file that was not in ``folder`` when it started. Raises RuntimeAPIError."""
        path = _word(file)
        try:
            if (there := self.shown(file)) is None:
                said = self._settled(lambda: self.ask(f"new ssl cert {path}", step="`new ssl cert`"))
                if "New empty certificate store" not in said:
                    raise _no("`new ssl cert`", said)
            if there is None or there.fingerprint != fingerprint:
                self.replace(file, bundle, fingerprint)
            # 2.6 knows the list of a folder by its name with a slash.
            said = self._settled(lambda: self.ask(f"add ssl crt-list {_word(folder)}/ {path}", step="`add ssl crt-list`"))
            if "Success!" not in said:
                hint = f"HAProxy takes new files only of a folder that it was started with: `bind :443 ssl crt {folder}/`"
                raise _no("`add ssl crt-list`", said, hint)
        except RuntimeAPIError:
            with suppress(RuntimeAPIError):  # what is raised is what went wrong first
                self.ask(f"del ssl cert {path}")
            raise

    def abort(self, file: str) -> None:
        """Take back what was set and not committed."""
        with suppress(RuntimeAPIError):  # the same: a HAProxy that has died has no transaction either
            self.ask(f"abort ssl cert {_word(file)}")

    def reload(self) -> None:
        """Let the master start a worker anew, and wait until it has. Raises RuntimeAPIError where the old one goes on."""
        step = "reload HAProxy by its master's socket"
        before, _ = self._reloads(step)
        said = ""
        with suppress(RuntimeAPIError):  # its answer may be cut by what was asked for; what counts is what comes of it
            said = self.ask("reload", step=step)
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                count, failures = self._reloads(step)
            except RuntimeAPIError:  # its master begins anew too, and does not listen for a moment
                count, failures = before, 0
            if count > before and not failures and "Success=0" not in said:
                return
            if count > before or time.monotonic() > deadline:
                raise RuntimeAPIError(
                    step, "it goes on with what it has", hint="its log says why, and `haproxy -c -f FILE` does", refused=True
                )
            time.sleep(PAUSE)

    def _reloads(self, step: str) -> tuple[int, int]:
        """How often the master has reloaded, and how often in a row without success."""
        found = re.search(r"^\d+\s+master\s+(\d+)(?:\s+\[failed: (\d+)\])?", self.ask("show proc", step=step), re.MULTILINE)
        if found is None:
            raise RuntimeAPIError(step, f"{self.address} is not that of a master", hint="start HAProxy as `haproxy -W -S PATH`")
        return int(found[1]), int(found[2] or 0)

    def _connect(self) -> socket.socket:
        if not self.address.startswith("/"):
            host, _, port = self.address.rpartition(":")
            return socket.create_connection((host.strip("[]"), int(port)), timeout=self.timeout)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.timeout)
            connection.connect(self.address)
        except BaseException:
            connection.close()
            raise
        return connection

    def _settled(self, ask: Callable[[], str]) -> str:
        """An answer of a HAProxy that is not just doing something with certificates for somebody else."""
        deadline = time.monotonic() + self.timeout
        while "currently locked" in (said := ask()) and time.monotonic() < deadline:
            time.sleep(PAUSE)
        return said


def _no(step: str, said: str, hint: str = "") -> RuntimeAPIError:
    denied = DENIED in said
    if denied:
        hint = "that line of `stats socket` needs `level admin`"
    return RuntimeAPIError(step, f"HAProxy does not take it{_quoted(said)}", hint=hint, refused=not denied)


def _too_long(bundle: bytes) -> str:
    return (
        f"it does not answer to more than tune.bufsize, 16384 bytes unless set, and this certificate has {len(bundle)}; set it "
        "higher in the `global` section, or say reload= as well"
    )


def _quoted(said: str) -> str:
    """What was answered, on one line; nothing of an answer that has a key in it."""
    line = " ".join(said.split())[:200]
    return f": {line}" if line and "PRIVATE" not in said else ""


def _word(text: str) -> str:
    """A word of a command: a space would end it, and a semicolon the command."""
    return re.sub(r"([\\ ;])", r"\\\1", text)
