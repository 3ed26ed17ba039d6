"""
The Starlette and FastAPI apps that the tests of the adapter serve, by the name of a function: ``uvicorn --factory``.

The environment configures them: STORE is the store's URL, OTHER_STORE another one, ON_UNKNOWN the option.
"""

import os
from contextlib import asynccontextmanager
from functools import partial

from fastapi import Depends, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette_acme_middleware import AcmeMiddleware

STORE = os.environ["STORE"]
ACME = Middleware(AcmeMiddleware, store=STORE, on_unknown=os.environ.get("ON_UNKNOWN", "pass"))
HOSTS = Middleware(TrustedHostMiddleware, allowed_hosts=["example.com"])
HTTPS = Middleware(HTTPSRedirectMiddleware)
GZIP = Middleware(GZipMiddleware, minimum_size=1)


async def page(request):
    return PlainTextResponse(f"page: {request.scope.get('root_path', '')}|{request.url.path} " + "-" * 100)


async def echo(websocket):
    await websocket.accept()
    await websocket.send_text(f"socket: {websocket.url.path}")
    await websocket.close()


@asynccontextmanager
async def lifespan(app):
    print("LIFESPAN up", flush=True)
    yield {"given": "by the lifespan"}
    print("LIFESPAN down", flush=True)


async def state(request):
    return PlainTextResponse(request.state.given)


def starlette(*middleware):
    routes = [Route("/state", state), WebSocketRoute("/{rest:path}", echo), Route("/{rest:path}", page)]
    return Starlette(routes=routes, middleware=middleware, lifespan=lifespan)


class CountingMiddleware(BaseHTTPMiddleware):
    """What harms nobody: it reads the request, counts, and says so."""

    async def dispatch(self, request, call_next):
        reply = await call_next(request)
        reply.headers["X-Counted"] = "yes"
        reply.set_cookie("counted", "yes")
        return reply


def login():
    raise HTTPException(401)


def fastapi(*classes, functions=(), middleware=None, **options):
    """FastAPI behind a login; the middleware is added in this order."""
    app = FastAPI(dependencies=[Depends(login)], middleware=middleware, **options)
    for entry in classes:
        app.add_middleware(entry.cls, *entry.args, **entry.kwargs)
    for function in functions:
        app.middleware("http")(function)
    app.get("/{rest:path}")(lambda: "page")
    return app


async def check_login(request, call_next):
    return await call_next(request) if "authorization" in request.headers else PlainTextResponse("who?", 401)


def make_ours(app):
    return AcmeMiddleware(app, store=STORE)


def misspelt():
    return starlette(Middleware(AcmeMiddleware, store=STORE, on_unkown="404"))


def without_a_store():
    return starlette(Middleware(AcmeMiddleware))


def mounted(path, outer, inner):
    return Starlette(routes=[Mount(path, app=inner)], middleware=outer)


COUNTING = Middleware(CountingMiddleware)
AGAIN = Middleware(AcmeMiddleware, store=os.environ.get("OTHER_STORE", STORE))
INNER = (HOSTS, HTTPS, GZIP, COUNTING)


class Renamed(AcmeMiddleware):
    """A subclass is still ours."""


# In the right place.
first_in_the_list = partial(starlette, ACME, *INNER)
added_last = partial(fastapi, *INNER, ACME)
fastapi_list = partial(fastapi, middleware=[ACME, *INNER])
alone = partial(fastapi, ACME)
rooted = partial(fastapi, *INNER, ACME, root_path="/api")
subclass = partial(starlette, Middleware(Renamed, store=STORE), *INNER)
factory = partial(starlette, Middleware(make_ours), *INNER)
twice = partial(starlette, ACME, AGAIN, *INNER)
mounted_with_us_outside = partial(mounted, "/sub", [ACME, *INNER], starlette())
mounted_with_us_inside = partial(mounted, "/sub", [], starlette(ACME, *INNER))


def wrapped():
    return AcmeMiddleware(fastapi(*INNER), **ACME.kwargs)


def wrapped_starlette():
    return AcmeMiddleware(starlette(*INNER), **ACME.kwargs)


# In a wrong one.
added_first = partial(fastapi, ACME, HOSTS, HTTPS)
last_in_the_list = partial(starlette, HOSTS, HTTPS, ACME)
fastapi_list_wrong = partial(fastapi, middleware=[HTTPS, ACME])
list_then_added = partial(fastapi, HTTPS, middleware=[ACME])
function_after = partial(fastapi, ACME, functions=[check_login])
counting_outside = partial(starlette, COUNTING, ACME, HTTPS)
gzip_outside = partial(starlette, GZIP, ACME)
hosts_outside = partial(starlette, HOSTS, ACME)
twice_and_wrong = partial(starlette, ACME, HTTPS, AGAIN)
twice_below_another = partial(starlette, HTTPS, ACME, AGAIN)
