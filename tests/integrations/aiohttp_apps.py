"""
The aiohttp sites that the tests serve.

    python -m aiohttp_apps HOW SOCKET

HOW is one of the functions below, SOCKET the number of an inherited listening socket. The environment has CHALLENGES, the
store's URL or the name of a source of plain_apps, ON_UNKNOWN, and FOLDER, which the site serves as static files.
"""

import logging
import os
import socket
import sys

from aiohttp import web
from aiohttp_acme_middleware import acme_middleware
from challenge_sources import store

logging.basicConfig(level=logging.INFO, format="LOG %(levelname)s %(name)s %(message)s")


@web.middleware
async def https_only(request, handler):
    if request.headers.get("X-Forwarded-Proto") != "https":
        raise web.HTTPMovedPermanently(f"https://{request.host}{request.rel_url}")
    return await handler(request)


@web.middleware
async def known_hosts(request, handler):
    if request.host.partition(":")[0] not in ("example.com", "www.example.com", "api.example.com"):
        raise web.HTTPBadRequest(text="unknown host")
    return await handler(request)


async def page(request):
    body = await request.read()
    response = web.Response(text=f"page: {request.method} {request.rel_url} body={len(body)}")
    response.enable_compression()
    return response


async def echo(request):
    chat = web.WebSocketResponse()
    await chat.prepare(request)
    async for message in chat:
        await chat.send_str(message.data)
    return chat


async def upload(request):
    chunks = [len(chunk) async for chunk in request.content.iter_any()]
    return web.Response(text=f"upload: {sum(chunks)} bytes, streamed: {len(chunks) > 1}")


def ours():
    return acme_middleware(store(), on_unknown=os.environ.get("ON_UNKNOWN", "pass"))


def site():
    """Walls, and a catch-all route, below our middleware."""
    slashes = web.normalize_path_middleware(append_slash=True, merge_slashes=True)
    app = web.Application(middlewares=[ours(), known_hosts, https_only, slashes])
    app.router.add_get("/socket", echo)
    app.router.add_get("/.well-known/acme-challenge/socket", echo)
    app.router.add_route("*", "/upload", upload)
    app.router.add_route("*", "/.well-known/acme-challenge/upload", upload)
    if "FOLDER" in os.environ:
        app.router.add_static("/.well-known/acme-challenge/", os.environ["FOLDER"])
    app.router.add_route("*", "/{rest:.*}", page)
    return app


def sparse():
    """One page, and slashes that are added: a token meets no route at all."""
    app = web.Application(middlewares=[ours(), web.normalize_path_middleware(append_slash=True)])
    app.router.add_get("/page/", page)
    app.router.add_get("/.well-known/acme-challenge/{token}/", page)
    return app


def nested():
    """Apps below a path and for a host, with middlewares of their own; ours is in the outermost."""
    below, api = web.Application(middlewares=[https_only]), web.Application(middlewares=[https_only])
    below.router.add_get("/{rest:.*}", page)
    api.router.add_get("/{rest:.*}", page)
    app = web.Application(middlewares=[ours()])
    app.add_domain("api.example.com", api)
    app.add_subapp("/.well-known", below)
    return app


if __name__ == "__main__":
    serving = {"site": site, "sparse": sparse, "nested": nested}[sys.argv[1]]
    web.run_app(serving(), sock=socket.socket(fileno=int(sys.argv[2])), print=None)
