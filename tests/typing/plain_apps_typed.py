"""Plain WSGI and ASGI apps, as people type them."""

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acme_middleware import asgi, wsgi

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def pages(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


async def asgi_pages(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    await send({"type": "http.response.start", "status": 200})


def wrapped() -> "WSGIApplication":
    return wsgi.AcmeMiddleware(pages, store="file:///var/lib/acme-middleware")


def wrapped_twice() -> wsgi.AcmeMiddleware:
    inner = wsgi.AcmeMiddleware(pages, store=Path("/var/lib/acme-middleware"), on_unknown="404")
    return wsgi.AcmeMiddleware(inner, store="webroot:///var/www/acme")


def wrapped_asgi() -> asgi.AcmeMiddleware:
    inner = asgi.AcmeMiddleware(asgi_pages, store="memory:")
    return asgi.AcmeMiddleware(inner, store="webroot:///var/www/acme")


wsgi.AcmeMiddleware(pages, store=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
wsgi.AcmeMiddleware(pages)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
wsgi.AcmeMiddleware(asgi_pages, store="memory:")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
asgi.AcmeMiddleware(pages, store="memory:")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
asgi.AcmeMiddleware(asgi_pages, "memory:")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
