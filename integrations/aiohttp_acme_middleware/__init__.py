"""ACME challenges for aiohttp.web: answered before the app's own middlewares and handlers."""

from pathlib import Path
from typing import TYPE_CHECKING

from acme_middleware._extras import extra
from acme_middleware.challenge import PREFIX
from acme_middleware.responder import Responder

with extra("aiohttp", "aiohttp"):
    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware

if TYPE_CHECKING:
    from acme_middleware.stores.base import ChallengeSource

__all__ = ["acme_middleware"]


def acme_middleware(store: "str | Path | ChallengeSource", *, on_unknown: str = "pass") -> Middleware:
    """
    Make the middleware that answers ACME http-01 challenges: ``web.Application(middlewares=[acme_middleware(store), ...])``.

    It belongs first in the list of the outermost app. ``store`` is a URL, a folder's Path or a challenge store; a token that
    it does not have goes on to the app, or is a 404 by ``on_unknown="404"``. Raises StoreMisconfigured, ConfigurationError.
    """
    responder = Responder(store, on_unknown=on_unknown)

    @web.middleware
    async def answer_challenges(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(PREFIX):
            return await handler(request)
        client = request.remote or "", request.headers.get("User-Agent", "")
        answer = await responder.respond_async(request.method, request.path, client)
        if answer is None:
            return await handler(request)
        return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body)

    return answer_challenges
