"""
The apps whose servers renew in these tests, each in the way that its documentation shows.

The environment configures them, since servers import them in processes of their own: RENEWING holds the arguments of Renewer
as JSON.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette_acme_middleware import AcmeMiddleware
from starlette_acme_middleware.renewal import renewing

from acme_middleware import asgi, wsgi
from acme_middleware.asgi_renewal import RenewingApp

logging.basicConfig(level=logging.INFO, format="LOG %(process)d %(levelname)s %(name)s %(message)s")

RENEWING = json.loads(os.environ["RENEWING"])


def _plain(environ, start_response):
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


plain = wsgi.AcmeMiddleware(_plain, store=RENEWING["store"])


async def page(request):
    return PlainTextResponse(f"{os.getpid()} {getattr(request.state, 'word', '')}")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    logging.info("the app's own lifespan begins")
    yield {"word": "from the lifespan"}
    logging.info("the app's own lifespan ends")


def starlette() -> Starlette:
    app = Starlette(routes=[Route("/", page)], lifespan=renewing(lifespan, **RENEWING))
    app.add_middleware(AcmeMiddleware, store=RENEWING["store"])
    return app


def starlette_alone() -> Starlette:
    app = Starlette(routes=[Route("/", page)], lifespan=renewing(**RENEWING))
    app.add_middleware(AcmeMiddleware, store=RENEWING["store"])
    return app


def wrapped() -> RenewingApp:
    """An app with a lifespan of its own, in the wrapper."""
    app = Starlette(routes=[Route("/", page)], lifespan=lifespan)
    app.add_middleware(AcmeMiddleware, store=RENEWING["store"])
    return RenewingApp(app, **RENEWING)


def without_lifespan() -> RenewingApp:
    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise ValueError(f"only http, not {scope['type']}")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

    return RenewingApp(asgi.AcmeMiddleware(app, store=RENEWING["store"]), **RENEWING)


def failing() -> RenewingApp:
    """An app whose own start fails."""

    @asynccontextmanager
    async def broken(app: Starlette) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    return RenewingApp(Starlette(lifespan=broken), **RENEWING)
