"""
How long a hundred certificates take from the local CA, and from Pebble, side by side.

    python benchmarks/local_ca.py     SCALE=ci: 100 certificates from each, once; full (the default): three times

One client, ours, in this process: the directory store, a new name each time, one account. The CAs take turns every ten
certificates, so that a slow moment of the machine hits both. Both fetch each token three times, over real sockets, from the
same server, and neither waits or refuses a nonce.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from pebble_server import Pebble
from werkzeug.serving import make_server

from acme_middleware import options
from acme_middleware.issuance.issuer import Issuer
from acme_middleware.local_ca import LocalCA
from acme_middleware.wsgi import AcmeMiddleware

FULL = os.environ.get("SCALE", "full") != "ci"
TIMES = 3 if FULL else 1
CERTIFICATES, BLOCK = 100, 10
LIMIT = 3.0 if FULL else 6.0
"""The local CA's time may be this many times Pebble's. A CI machine with other work to do gets twice that."""


def page(environ: Any, start_response: Any) -> Iterable[bytes]:
    """The site behind the middleware."""
    start_response("404 Not Found", [("Content-Length", "0")])
    return [b""]


def issue(ca: Pebble | LocalCA, folder: Path, names: Iterable[str]) -> float:
    """Issue for each name; returns the seconds."""
    given = {
        "store": f"file:{folder}",
        "challenge_store": "memory:",
        "ca": ca.directory_url,
        "ca_bundle": ca.ca_bundle,
        "agree_tos": True,
        "self_check": "skip",
    }
    issuer = Issuer(options.read(("benchmark", given)), listener=lambda event: None)
    began = time.monotonic()
    for name in names:
        issuer.issue([name])
    return time.monotonic() - began


def main() -> int:
    """Measure, print, and return 1 if the limit is passed."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = AcmeMiddleware(page, store="memory:")
    totals: dict[str, list[float]] = {"Pebble": [], "the local CA": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="local-ca-")))
        pebble = stack.enter_context(Pebble())
        server = make_server("127.0.0.1", pebble.http_port, app, threaded=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        stack.callback(server.shutdown)
        local = stack.enter_context(LocalCA(resolve={"*": f"127.0.0.1:{pebble.http_port}"}))
        cas: dict[str, Pebble | LocalCA] = {"Pebble": pebble, "the local CA": local}
        for title, ca in cas.items():
            issue(ca, folder / title, ["first.example.com"])  # makes the account, and fills what is filled once
        for turn in range(TIMES):
            seconds = dict.fromkeys(cas, 0.0)
            for block in range(CERTIFICATES // BLOCK):
                for title in sorted(cas, reverse=bool(block % 2)):
                    names = [f"n{turn}-{block}-{number}.example.com" for number in range(BLOCK)]
                    seconds[title] += issue(cas[title], folder / title, names)
            for title, took in seconds.items():
                totals[title].append(took)
    middle = {title: statistics.median(times) for title, times in totals.items()}
    for title, took in middle.items():
        print(f"{title:<14} {took:6.2f} s for {CERTIFICATES} certificates (median of {TIMES})")
    ratio = middle["the local CA"] / middle["Pebble"]
    print(f"ratio          {ratio:6.2f}   (limit {LIMIT:g})")
    return 1 if ratio > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
