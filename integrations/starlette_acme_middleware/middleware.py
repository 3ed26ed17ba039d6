"""The middleware: ASGI's, and two things that only Starlette makes necessary, both at the start of the server."""

from __future__ import annotations

import logging
import weakref
from inspect import signature
from typing import TYPE_CHECKING, Any

from acme_middleware import asgi
from acme_middleware.asgi import App, Receive, Scope, Send
from acme_middleware.errors import AcmeMiddlewareError, ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from acme_middleware.stores.base import ChallengeSource

__all__ = ["AcmeMiddleware"]

logger = logging.getLogger("acme_middleware.starlette")

_warned: weakref.WeakSet[Any] = weakref.WeakSet()
"""The apps of which it was said: one may have us twice, for two stores."""


class AcmeMiddleware:
    """
    Answer ACME http-01 challenges before anything else of a Starlette or FastAPI app has a say.

        app = Starlette(middleware=[Middleware(AcmeMiddleware, store="file:///var/lib/acme-middleware"), ...])

        app.add_middleware(AcmeMiddleware, store="file:///var/lib/acme-middleware")

    It must be the outermost: first in a list, or the last that is added. Where it is not, an HTTPS redirect, a host check or
    a login page would answer the CA, and the app says so in its log when it starts. Add it to the app that the server runs:
    one that is mounted in another sees only what the other lets through. Any other request, a token that the store does not
    have, websockets and the lifespan go to the app untouched.

    Args:
        app: Given by Starlette.
        store: Where the tokens are: a URL such as ``file:///var/lib/acme-middleware`` or ``webroot:///var/www/site``, a
            folder's Path, or a challenge store. The command that issues must use the same place.
        on_unknown: ``"pass"`` hands a request for a token that the store does not have to the app; ``"404"`` answers it.

    A wrong option is not raised here, since Starlette makes its middleware when the server has begun to start the app, and
    servers take an error then for an app without lifespan: they would start, and fail at each request. It fails the start
    instead, with its message, and so does one that is misspelt or missing. Where a server has its lifespan off, each request
    raises it, a ConfigurationError or StoreMisconfigured.
    """

    if not TYPE_CHECKING:  # type checkers go by __init__

        def __new__(cls, *given: Any, **options: Any) -> Any:
            takes = signature(cls.__init__)
            try:
                takes.bind(None, *given, **options)
            except TypeError as error:
                names = ", ".join(list(takes.parameters)[2:])
                return _Refusal(ConfigurationError(str(error), hint=f"the options are: {names}"))
            return super().__new__(cls)

    def __init__(self, app: App, *, store: str | Path | ChallengeSource, on_unknown: str = "pass") -> None:
        self._place_is_checked = False
        try:
            self._serve: App = asgi.AcmeMiddleware(app, store=store, on_unknown=on_unknown)
        except AcmeMiddlewareError as error:
            self._serve = _Refusal(error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The lifespan comes first, where the server has one; otherwise the first request that gets this far.
        if not self._place_is_checked:
            self._place_is_checked = True
            _check_place(scope.get("app"))
        await self._serve(scope, receive, send)


class _Refusal:
    """Stands where the app would, when an option is wrong."""

    def __init__(self, error: AcmeMiddlewareError) -> None:
        self.error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            message = f"AcmeMiddleware: {self.error}\n{self.error.hint}".rstrip()
            await send({"type": "lifespan.startup.failed", "message": message})
        raise self.error.with_traceback(None)  # raised often, it would gather the frames of each time


def _check_place(app: Any) -> None:
    """Warn, once for an app, where middleware of it is outside of ours. Without an app we are wrapped around one."""
    middleware = list(getattr(app, "user_middleware", ()))
    ours = [place for place, entry in enumerate(middleware) if _is_ours(entry)]
    # Of several that are ours, for several stores, none is in the way of another: the innermost counts.
    outside = [_name(entry) for entry in middleware[: max(ours, default=0)] if not _is_ours(entry)]
    if outside and app not in _warned:
        _warned.add(app)
        logger.warning(
            "AcmeMiddleware is not the outermost; outside of it: %s. A redirect, a refused host or a login page from there "
            "would answer the CA. Move app.add_middleware(AcmeMiddleware, ...) below the line that adds %s; where both are "
            "in middleware=[...], put AcmeMiddleware first.",
            ", ".join(outside),
            outside[0],
        )


def _is_ours(entry: Any) -> bool:
    return isinstance(entry.cls, type) and issubclass(entry.cls, AcmeMiddleware)


def _name(entry: Any) -> str:
    """The class, or the function of ``@app.middleware("http")``, which its author may never have seen a class of."""
    named = entry.kwargs.get("dispatch") or entry.cls
    return getattr(named, "__name__", None) or repr(named)
