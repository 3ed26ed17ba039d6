"""
What the middleware costs a request that is not for it.

An ordinary request goes through a bare app, through ours around it, and through a well-known neighbour around it: WhiteNoise
for WSGI, Starlette's BaseHTTPMiddleware for ASGI. No server and no socket, whose noise would be a hundred times the cost that
is measured. The three take turns in short slices, so that a busy moment of the machine hits all of them, and of nine rounds
of slices the best counts.

Prints (ours - bare) / (neighbour - bare) for both, and ends with 1 where one is above its limit:

    python benchmarks/overhead.py

SCALE=ci makes fewer rounds and allows twice the limits; SCALE=full is the default.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

FULL = os.environ.get("SCALE", "full") != "ci"
ROUNDS = 9
REQUESTS = {"wsgi": 60_000 if FULL else 20_000, "asgi": 6_000 if FULL else 2_000}
SLICES = 20

WSGI_LIMIT = 0.75
ASGI_LIMIT = 1 / 200
ALLOWANCE = 1 if FULL else 2


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        # One after the other: what runs in between would throw the other's code out of the processor's caches.
        wsgi = _measure(_wsgi_rounds(folder), REQUESTS["wsgi"])
        asgi = _measure(_asgi_rounds(folder), REQUESTS["asgi"])
    fine = [
        _report("WSGI", "WhiteNoise", wsgi, WSGI_LIMIT),
        _report("ASGI", "BaseHTTPMiddleware", asgi, ASGI_LIMIT),
    ]
    return 0 if all(fine) else 1


def _measure(rounds: dict[str, Callable[[int], float]], requests: int) -> dict[str, float]:
    """Return each one's nanoseconds per request, in the best slice of all rounds."""
    best = dict.fromkeys(rounds, float("inf"))
    for run in rounds.values():
        run(requests // 10)
    gc.disable()
    try:
        for _ in range(ROUNDS):
            for _ in range(SLICES):
                for name, run in rounds.items():
                    best[name] = min(best[name], run(requests // SLICES) / (requests // SLICES))
            gc.collect()
    finally:
        gc.enable()
    return {name: seconds * 1e9 for name, seconds in best.items()}


def _report(kind: str, neighbour: str, cost: dict[str, float], limit: float) -> bool:
    bare, ours, theirs = cost["bare"], cost["ours"], cost["theirs"]
    ratio = (ours - bare) / (theirs - bare)
    print(f"{kind}: bare {bare:.0f} ns, ours +{ours - bare:.0f} ns, {neighbour} +{theirs - bare:.0f} ns a request")
    print(f"{kind}: (ours - bare) / ({neighbour} - bare) = {ratio:.4f}, limit {limit * ALLOWANCE:.4f}")
    if ratio > limit * ALLOWANCE:
        print(f"{kind}: above the limit", file=sys.stderr)
        return False
    return True


def _wsgi_rounds(folder: str) -> dict[str, Callable[[int], float]]:
    from whitenoise import WhiteNoise  # type: ignore[import-untyped]

    from acme_middleware.wsgi import AcmeMiddleware

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        pass

    static = Path(folder, "static")
    static.mkdir()
    Path(static, "site.css").write_text("body {}")
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/customers/4711/orders",
        "QUERY_STRING": "page=2",
        "SERVER_NAME": "example.com",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "example.com",
        "HTTP_USER_AGENT": "benchmark",
    }

    def rounds(application: Any) -> Callable[[int], float]:
        def run(requests: int) -> float:
            start = time.perf_counter()
            for _ in range(requests):
                application(environ, start_response)
            return time.perf_counter() - start

        return run

    return {
        "bare": rounds(app),
        "ours": rounds(AcmeMiddleware(app, store=f"file://{folder}")),
        "theirs": rounds(WhiteNoise(app, root=str(static), prefix="static/")),
    }


def _asgi_rounds(folder: str) -> dict[str, Callable[[int], float]]:
    import asyncio

    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.requests import Request
    from starlette.responses import Response

    from acme_middleware.asgi import AcmeMiddleware

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def passing(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    loop = asyncio.new_event_loop()

    def rounds(application: Any) -> Callable[[int], float]:
        async def requests_in_a_row(requests: int) -> float:
            start = time.perf_counter()
            for _ in range(requests):
                # Each request has a scope of its own, as from a server: Starlette writes into it.
                scope = {
                    "type": "http",
                    "asgi": {"version": "3.0"},
                    "http_version": "1.1",
                    "method": "GET",
                    "scheme": "http",
                    "path": "/customers/4711/orders",
                    "root_path": "",
                    "query_string": b"page=2",
                    "headers": [(b"host", b"example.com"), (b"user-agent", b"benchmark")],
                    "client": ("192.0.2.7", 1234),
                    "server": ("192.0.2.1", 80),
                }
                await application(scope, receive, send)
            return time.perf_counter() - start

        return lambda requests: loop.run_until_complete(requests_in_a_row(requests))

    return {
        "bare": rounds(app),
        "ours": rounds(AcmeMiddleware(app, store=f"file://{folder}")),
        "theirs": rounds(BaseHTTPMiddleware(app, dispatch=passing)),
    }


if __name__ == "__main__":
    sys.exit(main())
