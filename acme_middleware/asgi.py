"""
ACME challenges for any ASGI 3 app.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from acme_middleware.challenge import PREFIX
from acme_middleware.responder import Responder

if TYPE_CHECKING:
    from pathlib import Path

    from acme_middleware.stores.base import ChallengeSource

__all__ = ["AcmeMiddleware"]

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class AcmeMiddleware:
    """
    Wrap an ASGI app so that it answers ACME http-01 challenges, and is left alone otherwise.

        app = AcmeMiddleware(app, store="file:///var/lib/acme-middleware")

    Make it the outermost: outside of HTTPS redirects, host checks and login walls. Requests for anything but
    ``/.well-known/acme-challenge/<token>``, websockets and the lifespan go to the app untouched. A store that may wait for a
    network is asked in threads of our own: the event loop never waits. Works under asyncio and trio.

    Args:
        app: The app to wrap.
        store: Where the tokens are: a URL such as ``file:///var/lib/acme-middleware`` or ``webroot:///var/www/site``, a
            folder's Path, or a challenge store. The command that issues must use the same place.
        on_unknown: ``"pass"`` hands a request for a token that the store does not have to the app; ``"404"`` answers it.

    Raises:
        StoreMisconfigured: The URL's scheme is unknown, or its driver is missing.
        ConfigurationError: ``on_unknown`` is neither.
    """

    def __init__(self, app: App, *, store: str | Path | ChallengeSource, on_unknown: str = "pass") -> None:
        self.app = app
        self._responder = Responder(store, on_unknown=on_unknown, client=_client)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or PREFIX not in (path := scope["path"]):
            await self.app(scope, receive, send)
            return
        if root := scope.get("root_path"):
            path = _below_root(path, root)
        responder = self._responder
        if responder.waits:
            answer = await responder.respond_async(scope["method"], path, scope)
        else:
            answer = responder.respond(scope["method"], path, scope)
        if answer is None:
            await self.app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.raw_headers)})
        await send({"type": "http.response.body", "body": answer.body})


def _below_root(path: str, root: str) -> str:
    """``path`` has the root_path in front of it, since ASGI 2.3; some servers and proxies still leave it out."""
    if path.startswith(root) and path.startswith("/", len(root)):
        return path[len(root) :]
    return path


def _client(scope: Scope) -> tuple[str, str]:
    address, agent = scope.get("client") or ("",), b""
    for name, value in scope["headers"]:
        if name == b"user-agent":
            agent = value
            break
    return address[0], str(agent, "latin-1")
