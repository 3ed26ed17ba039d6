"""
What runs on a host of the chaos tests: ``commands`` runs command lines, ``serve`` answers the CA.

``commands`` has everything imported and forks a process for each command line, so that a run of a tenth of a second is not
preceded by a second of imports. A request is a line of JSON on standard input; that it began and how it ended are lines on
standard output. It connects to nothing itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, NoReturn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

PRELOADED = (
    "acme_middleware.cli.issue",
    "acme_middleware.cli.renew",
    "acme_middleware.deploy.publish",
    "acme_middleware.issuance.conversation",
    "acme_middleware.issuance.issuer",
    "acme_middleware.issuance.ordering",
    "acme_middleware.issuance.sweep",
    "acme_middleware.stores.directory",
)


def commands(told: dict[str, Any]) -> None:
    """Fork a process for each request, until standard input ends."""
    for module in (*PRELOADED, *told["preload"]):
        importlib.import_module(module)
    from chaos_broken import BREAKS
    from chaos_instruments import Journal, instrument

    if "FAKETIME" in os.environ:
        # It leaves the monotonic clock alone, but not the sleep until a moment of that clock, which then fails.
        time.sleep = lambda seconds: _sleep(float(seconds))
    if told["broken"]:
        # Beneath the instruments: the journal tells what a broken product does, not what it was asked to do.
        BREAKS[told["broken"]]()
    instrument(Journal(Path(told["journal"]), Path(told["strikes"]), told["host"]), ttl=told["ttl"])
    _say({"ready": True})
    running: dict[int, int] = {}
    rest = b""
    while True:
        if select.select([0], [], [], 0.01)[0]:
            read = os.read(0, 65536)
            if not read:
                break
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                asked = json.loads(line)
                pid = _begin(asked)
                running[pid] = asked["id"]
                _say({"id": asked["id"], "pid": pid})
        for pid in list(running):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                _say({"id": running.pop(pid), "code": os.waitstatus_to_exitcode(status)})
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


def _say(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _begin(asked: dict[str, Any]) -> int:
    pid = os.fork()
    if not pid:
        _be_command(asked)
    return pid


def _be_command(asked: dict[str, Any]) -> NoReturn:
    output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    empty = os.open(os.devnull, os.O_RDONLY)
    for file, number in ((empty, 0), (output, 1), (output, 2)):
        os.dup2(file, number)
    sys.argv = ["acme-middleware", *asked["words"]]
    from acme_middleware.cli import main

    _exit_with((lambda: _forked(asked["name"])) if asked.get("forked") else main)


def _exit_with(work: Callable[[], int]) -> NoReturn:
    """Run something in a forked process and end that, without what the parent has registered for its own end."""
    code = 99
    try:
        code = work()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _forked(name: str) -> int:
    """A server that has connected to its stores already, and then forks two workers, which use the same objects."""
    from acme_middleware import options
    from acme_middleware.errors import StoreUnavailable
    from acme_middleware.stores import open_challenges, open_store

    store, challenges = open_store(os.environ["ACME_STORE"]), open_challenges(os.environ["ACME_STORE"])
    with contextlib.suppress(StoreUnavailable):  # it may be down just now: then this has tried to connect
        store.get(f"renewal/{name}")
        challenges.key_authorization("a" * 43)
    others = json.loads(os.environ["CHAOS_OPTIONS"])
    given = options.read(("environment", {"store": store, "challenge_store": challenges, **others}))
    workers = []
    for _ in range(2):
        pid = os.fork()
        if not pid:
            _exit_with(lambda: _issue(given, name))
        workers.append(pid)
    # Its own connection is used meanwhile: were it the children's too, answers would get mixed up.
    codes: list[int] = []
    while workers:
        with contextlib.suppress(StoreUnavailable):
            record = store.get(f"renewal/{name}")
            if record is not None and json.loads(record.value)["name"] != name:
                print("Traceback: another connection's answer", flush=True)
        for pid in list(workers):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                workers.remove(pid)
                codes.append(os.waitstatus_to_exitcode(status))
        select.select([], [], [], 0.02)
    return max(codes)


def _issue(given: Any, name: str) -> int:
    from acme_middleware.errors import AcmeMiddlewareError
    from acme_middleware.issuance.issuer import Issuer

    try:
        print(Issuer(given).issue([name]).action)
    except AcmeMiddlewareError as error:
        print(type(error).__name__, error)
        return error.exit_code
    return 0


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def serve(told: dict[str, Any]) -> None:
    """Answer the CA from the store, for ever, through restarts and outages of the store's server."""
    from acme_middleware.wsgi import AcmeMiddleware

    def nothing(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("404 Not Found", [("Content-Length", "0")])
        return [b""]

    app: Any = AcmeMiddleware(nothing, store=os.environ["ACME_STORE"])
    with make_server(told["address"], 80, app, server_class=_Server, handler_class=_Quiet) as server:
        _say({"ready": True})
        server.serve_forever()


if __name__ == "__main__":
    {"commands": commands, "serve": serve}[sys.argv[1]](json.loads(os.environ["CHAOS_HOST"]))
