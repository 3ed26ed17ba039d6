"""
Ordinary visitors of a site, at work for as long as a block lasts: what they were answered, when, and by which process.
"""

import http.client
import os
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

EVERY = 20
"""Of so many requests, one is looked at closely: which process has accepted its connection."""

LIMIT = 20.0


@dataclass(frozen=True)
class Page:
    """A page, and how a visitor knows that the answer is right."""

    target: str
    status: int
    has: str = ""
    host: str = "example.com"
    https: bool = True

    def headers(self):
        return {"Host": self.host, "X-Forwarded-Proto": "https" if self.https else "http"}


@dataclass(frozen=True)
class Visit:
    """One request: ``wrong`` says what was wrong with the answer, and is empty where nothing was."""

    began: float
    ended: float
    kept: bool
    wrong: str
    worker: str | None


@dataclass
class Visitors:
    """
    The visitors of one server, and their visits so far.

    They come while ``welcome`` is set, and leave when it is not: two cores have enough to do between.
    """

    port: int
    server: int
    pages: list[Page]
    visits: list[Visit] = field(default_factory=list)
    welcome: threading.Event = field(default_factory=threading.Event)
    _workers: list[str] = field(default_factory=list)

    @contextmanager
    def at_work(self):
        """Four of them: two with a new connection for each request, two who keep theirs."""
        end = threading.Event()
        threads = [threading.Thread(target=self._come, args=(end, kept)) for kept in (False, True, False, True)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            end.set()
            self.welcome.set()
            for thread in threads:
                thread.join()

    def _come(self, end, kept):
        number = 0
        while self.welcome.wait() and not end.is_set():
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)) as connection:
                while self.welcome.is_set() and not end.is_set():
                    self._visit(connection, self.pages[number % len(self.pages)], kept, number % EVERY == 0)
                    number += 1
                    if not kept:
                        break

    def _visit(self, connection, page, kept, closely):
        began, worker = time.monotonic(), None
        try:
            if connection.sock is None:  # or the server closed it in its last answer, as gunicorn's sync workers do
                connection.connect()
            if closely:
                worker = self._who_accepted(connection.sock)
            wrong = _ask(connection, page)
        except (OSError, http.client.HTTPException) as error:
            wrong = f"{page.target}: {type(error).__name__}: {error}"
        self.visits.append(Visit(began, time.monotonic(), kept, wrong, worker))

    def _who_accepted(self, sock):
        """
        The process whose connection this is. Waits until one has accepted it, as it must to answer.

        Asked of the kernel, since no framework says by itself which process answers. Linux only, as uvicorn's and gunicorn's
        workers have nothing else in common.
        """
        ours, theirs = (f"0100007F:{port:04X}" for port in (sock.getsockname()[1], self.port))
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
                words = line.split()
                if words[1:3] == [theirs, ours] and words[9] != "0":
                    holders = [process for process in self._workers if _holds(process, f"socket:[{words[9]}]")]
                    if holders:
                        return holders[0]
                    self._workers = list(_group(self.server))
            time.sleep(0.001)
        raise TimeoutError("no process has accepted the connection")


def _ask(connection, page):
    connection.request("GET", page.target, headers=page.headers())
    reply = connection.getresponse()
    body = reply.read().decode(errors="replace") + (reply.getheader("Location") or "")
    if reply.status != page.status or page.has not in body:
        return f"{page.target}: {reply.status}, not {page.status} with {page.has!r}: {body[:200]}"
    return ""


def _group(leader):
    """The processes of a process group."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[2]) == leader:
                yield folder.name
        except OSError:
            continue  # it has ended since it was listed


def _holds(process, name):
    try:
        with os.scandir(f"/proc/{process}/fd") as entries:
            return any(os.readlink(entry.path) == name for entry in entries)
    except OSError:
        return False  # it has ended, or has closed a file meanwhile
