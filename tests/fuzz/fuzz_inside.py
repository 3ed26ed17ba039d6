"""
Requests straight into an app, by WSGI or ASGI, as a server would hand them over; the result is a line of JSON.

    python -m fuzz_inside SURFACE SEED COUNT STATUS...
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Any

import fuzz_apps
from fuzz_grammar import Request, requests
from fuzz_oracle import Verdicts, resident


def _wsgi(app: Any) -> Callable[[Request], tuple[int, bytes]]:
    def call(request: Request) -> tuple[int, bytes]:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method.decode("latin-1"),
            "SCRIPT_NAME": request.root.encode().decode("latin-1"),
            "PATH_INFO": request.path.decode("latin-1"),
            "QUERY_STRING": request.target.partition(b"?")[2].decode("latin-1"),
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_LENGTH": str(len(request.body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        if not request.root:  # a server need not know it
            environ["REMOTE_ADDR"] = "192.0.2.7"
        if request.host is not None:
            environ["HTTP_HOST"] = request.host.decode("latin-1")
        for name, value in request.headers:
            environ["HTTP_" + name.decode().upper().replace("-", "_")] = value.decode("latin-1")
        started: list[tuple[str, list[tuple[str, str]]]] = []
        body = app(environ, lambda status, headers, exc_info=None: started.append((status, headers)))
        try:
            content = b"".join(body)
        finally:
            if hasattr(body, "close"):
                body.close()
        ((status, headers),) = started
        assert all(type(text) is str for pair in headers for text in pair), headers
        return int(status[:3]), content

    return call


def _asgi(app: Any) -> Callable[[Request], Awaitable[tuple[int, bytes]]]:
    async def call(request: Request) -> tuple[int, bytes]:
        path = request.path.decode(errors="replace")
        # Since ASGI 2.3 the root is in front of the path. Not every server has it there, which is clear while the path has
        # another beginning.
        in_front = len(request.headers) % 2 or path.startswith(request.root)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method.decode("latin-1"),
            "scheme": "http",
            "path": request.root + path if in_front else path,
            "raw_path": request.target.partition(b"?")[0],
            "root_path": request.root,
            "query_string": request.target.partition(b"?")[2],
            "headers": [(b"host", request.host)] * (request.host is not None)
            + [(name.lower(), value) for name, value in request.headers],
            "client": None if request.root else ("192.0.2.7", 1234),
            "server": ("192.0.2.1", 80),
        }
        sent: list[dict[str, Any]] = []
        received = iter([{"type": "http.request", "body": request.body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            message = next(received, None)
            if message is None:
                await asyncio.Event().wait()  # the client stays
            return message  # type: ignore[return-value]

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await app(scope, receive, send)
        start, *parts = sent
        assert start["type"] == "http.response.start", sent
        assert [part.get("more_body", False) for part in parts][-1] is False, sent
        return start["status"], b"".join(part.get("body", b"") for part in parts)

    return call


def _sendable(seed: str) -> Iterator[Request]:
    return (request for request in requests(seed) if not request.broken)


def _without_threads() -> None:
    """
    Django under ASGI closes each response in a thread that it starts for that: nine tenths of the time that a request takes.

    Here it does so where it is. The share of requests that goes over sockets has the threads.
    """
    from django.core.handlers import asgi

    def here(call: Callable[..., Any], **_: object) -> Callable[..., Awaitable[Any]]:
        async def called(*arguments: Any) -> Any:
            return call(*arguments)

        return called

    asgi.sync_to_async = here  # type: ignore[assignment]


def main(surface: str, seed: str, count: int, verdicts: Verdicts) -> dict[str, Any]:
    app = getattr(fuzz_apps, surface)()
    if surface == "django_asgi":
        _without_threads()
    sync = surface in ("plain_wsgi", "django_wsgi", "flask")
    loop = asyncio.new_event_loop()
    call: Any = _wsgi(app) if sync else _asgi(app)
    warm = 0

    async def all_of_it() -> None:
        nonlocal warm
        for number, request in enumerate(islice(_sendable(seed), count)):
            if number == count // 4:
                warm = resident()
            try:
                status, body = call(request) if sync else await call(request)
            except Exception as error:
                raise RuntimeError(f"request {number} of seed {seed!r}: {request!r}") from error
            verdicts.judge(request, status, body)

    if sync:
        with contextlib.suppress(StopIteration):  # no event loop, which Django would notice
            all_of_it().send(None)
    else:
        loop.run_until_complete(all_of_it())
    loop.close()
    return {"counts": verdicts.counts, "wrong": verdicts.wrong, "grown": resident() - warm}


if __name__ == "__main__":
    _, surface, seed, count, *statuses = sys.argv
    print(json.dumps(main(surface, seed, int(count), Verdicts(frozenset(map(int, statuses))))))
