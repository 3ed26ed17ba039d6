"""
A site that gets its certificates from a CA of both_cas: a store of its own, a server that answers the CA, and the two ways to
issue, in this process and as the command that a person types.
"""

from __future__ import annotations

import os
import secrets
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from both_cas import CA
from cryptography import x509

from acme_middleware import events, options
from acme_middleware.issuance.issuer import Issuer, Outcome
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.wsgi import AcmeMiddleware

COMMAND = [str(Path(sys.executable).with_name("acme-middleware"))]
"""The console script beside this Python."""

LIMIT = 120.0
"""Seconds that any command may take: Pebble is known to hang once in some thousand issuances."""

FULL = os.environ.get("SCALE", "ci") == "full"

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def fresh(word: str = "site") -> str:
    """A name that no order has been for yet: CAs remember validations."""
    return f"{word}-{secrets.token_hex(5)}.example"


def app_404(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The site behind the middleware: it has no page at all."""
    page = b"<!doctype html><title>Nothing of that name</title><p>404"
    start_response(
        "404 Not Found", [("Content-Type", "text/html"), ("Server", "frontdoor/7"), ("Content-Length", str(len(page)))]
    )
    return [page]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # A CA opens many connections at once; those beyond a short backlog would wait a second for their SYN to be sent again.
    request_queue_size = 256


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """A line per request would bury what a failing test prints."""


@contextmanager
def serving(app: App, port: int) -> Iterator[None]:
    """Serve a WSGI app on a port of 127.0.0.1 until the end of the block, a thread per request."""
    with make_server("127.0.0.1", port, app, server_class=_Server, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Site:
    """
    One site: options of its own over one CA.

    Attributes:
        store: The folder of its directory store.
        events: What issuing in this process has told, in order.
        watch: What the CA was asked, and has done, since this site is there.
    """

    def __init__(self, ca: CA, folder: Path, **given: Any) -> None:
        self.ca, self.folder, self.store = ca, folder, folder / "store"
        self.given: dict[str, Any] = {
            "store": f"file:{self.store}",
            "ca": ca.directory_url,
            "ca_bundle": str(ca.ca_bundle),
            "agree_tos": True,
            "email": "ops@example.com",
            "profile": "default",
            "self_check_via": f"127.0.0.1:{ca.http_port}",
            **given,
        }
        self.events: list[events.Event] = []
        self._started: list[subprocess.Popen[str]] = []
        self.watch = ca.watch()

    def issue(
        self, *names: str, name: str | None = None, force: bool = False, drop_names: bool = False, **more: Any
    ) -> Outcome:
        """Issue in this process."""
        issuer = Issuer(options.read(("test", {**self.given, **more})), listener=self.events.append)
        return issuer.issue(names, name=name, force=force, drop_names=drop_names)

    def argv(self, *words: str, **more: Any) -> list[str]:
        """The command line of ``acme-middleware issue``; None leaves an option out."""
        given = {option: value for option, value in {**self.given, **more}.items() if value is not None and value is not False}
        flags = [
            word
            for option, value in given.items()
            for word in [f"--{option.replace('_', '-')}", *([] if value is True else [str(value)])]
        ]
        return [*COMMAND, "issue", *flags, *words]

    def start(
        self, *words: str, prefix: Iterable[str] = (), env: Mapping[str, str] | None = None, umask: int = -1, **more: Any
    ) -> subprocess.Popen[str]:
        """Start ``acme-middleware issue``; it does not outlive the test."""
        process = subprocess.Popen(
            [*prefix, *self.argv(*words, **more)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=environment(env),
            umask=umask,
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        """Kill what a failed test has left running."""
        for process in self._started:
            if process.returncode is None:
                process.kill()
                process.communicate()

    def run(self, *words: str, **more: Any) -> Ended:
        """Run ``acme-middleware issue`` to its end."""
        return finish(self.start(*words, **more))

    def requests(self, kind: str = "") -> list[str]:
        """The kinds of the requests to the CA so far, of all or of one kind such as ``new-order``."""
        return [asked for asked in self.watch.requests() if not kind or asked == kind]

    def orders(self) -> list[str]:
        """The orders that the CA has opened."""
        return self.watch.orders()

    def accounts(self) -> int:
        """How many accounts the CA has made."""
        return self.watch.accounts()

    def tokens(self) -> list[str]:
        """Every file in the folder of tokens, theirs and those of their expiry."""
        folder = self.store / "challenges/.well-known/acme-challenge"
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []

    def records(self) -> DirectoryStore:
        return DirectoryStore(self.store)

    def current(self, name: str) -> Path:
        return self.store / "live" / name / "current"

    def leaf(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.current(name) / "cert.pem").read_bytes())

    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, events.Warned)]

    def snapshot(self) -> dict[str, bytes | str]:
        """All published files and all certificates, byte by byte; links as where they lead."""
        found: dict[str, bytes | str] = {}
        for top in ("live", "certificate", "renewal"):
            for path in sorted((self.store / top).rglob("*")):
                if path.is_symlink():
                    found[str(path)] = os.readlink(path)
                elif path.is_file() and path.name != ".lock":
                    found[str(path)] = path.read_bytes()
        return found


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without options, and what commands that are not installed need to find the project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ACME_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(more or {})}


def finish(process: subprocess.Popen[str], *, limit: float = LIMIT) -> Ended:
    """Wait for a command to end."""
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"{process.args!r} has not ended after {limit:.0f} s:\n{out}{err}") from None
    return Ended(process.returncode, out, err)


def wait_until(ready: Callable[[], object], what: str, *, limit: float = 30.0) -> None:
    """Wait for something that another process or thread is about to do."""
    deadline = time.monotonic() + limit
    while not ready():
        assert time.monotonic() < deadline, f"after {limit:.0f} s still not: {what}"
        time.sleep(0.005)


def names_of(certificate: x509.Certificate) -> set[str]:
    """What a certificate is for."""
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in found}


def load_pair(current: Path) -> None:
    """Load certificate and key as a server does. Raises ssl.SSLError for two that do not match."""
    # Resolved once, as a server must: between two look-ups of the link another version may have become current.
    version = current.resolve()
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(version / "fullchain.pem", version / "privkey.pem")


def verify(current: Path, root_pem: str, *, tmp: Path) -> str:
    """``openssl verify`` of a published certificate, by its own chain, up to this root alone: what openssl says."""
    root = tmp / f"root-{secrets.token_hex(4)}.pem"
    root.write_text(root_pem)
    command = ["openssl", "verify", "-purpose", "sslserver", "-no-CApath", "-no-CAstore", "-CAfile", str(root)]
    command += ["-untrusted", str(current / "chain.pem"), str(current / "cert.pem")]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False).stdout.strip()


def site_app(site_store: str) -> App:
    """The site itself: our middleware over an app that knows no page."""
    return AcmeMiddleware(app_404, store=site_store)
