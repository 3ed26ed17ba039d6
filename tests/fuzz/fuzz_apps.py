"""
The surfaces that are fuzzed: one small app each, which takes any path, with our adapter around or in it.

Servers import it with FUZZ_STORE in the environment, the URL of the store. ``python -m fuzz_apps SOCKET`` serves Tornado's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from typing import Any

STORE = os.environ.get("FUZZ_STORE", "memory:")
PAGE = b"the app's page"

# The parent reads it: anything that is an error, or comes too often, fails the test.
logging.basicConfig(level=logging.WARNING, format="LOG %(levelname)s %(name)s %(message)s")


def plain_wsgi() -> Any:
    from acme_middleware.wsgi import AcmeMiddleware

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(PAGE)))])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else PAGE]

    return AcmeMiddleware(app, store=STORE)


def plain_asgi() -> Any:
    from acme_middleware.asgi import AcmeMiddleware

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(PAGE)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else PAGE})

    return AcmeMiddleware(app, store=STORE)


def _django() -> None:
    import django
    from django.conf import settings
    from django.http import HttpRequest, HttpResponse
    from django.urls import re_path

    def page(request: HttpRequest, rest: str) -> HttpResponse:
        return HttpResponse(PAGE, headers={"Content-Length": str(len(PAGE))})

    async def async_page(request: HttpRequest, rest: str) -> HttpResponse:
        return page(request, rest)

    class Urls:
        urlpatterns = [re_path(r"^(?P<rest>[\s\S]*)$", async_page if os.environ.get("FUZZ_ASYNC") else page)]  # noqa: RUF012

    settings.configure(
        SECRET_KEY="x" * 50,
        ALLOWED_HOSTS=["example.com"],
        ROOT_URLCONF=Urls,
        INSTALLED_APPS=["django_acme_middleware"],
        MIDDLEWARE=["django_acme_middleware.middleware.AcmeMiddleware"],
        ACME_STORE=STORE,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        LOGGING_CONFIG=None,
    )
    django.setup()
    logging.getLogger("django.request").setLevel(logging.ERROR)  # a line for each 404 is the site's own wish


def django_wsgi() -> Any:
    _django()
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def django_asgi() -> Any:
    os.environ["FUZZ_ASYNC"] = "1"
    _django()
    from django.core.asgi import get_asgi_application
    from django.core.signals import request_finished, request_started
    from django.db import close_old_connections, reset_queries

    # They look after databases, which there is none of, and cost two threads' turns per request: most of the time.
    request_started.disconnect(reset_queries)
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    return get_asgi_application()


def flask() -> Any:
    from flask import Flask
    from flask_acme_middleware import Acme

    app = Flask("fuzzed")
    app.config["ACME_STORE"] = app.config["ACME_CHALLENGE_STORE"] = STORE
    app.add_url_rule("/", view_func=lambda: PAGE, endpoint="front")
    app.add_url_rule("/<path:rest>", view_func=lambda rest: PAGE, endpoint="page")
    Acme().init_app(app)
    return app


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette_acme_middleware import AcmeMiddleware

    async def page(request: Request) -> Response:
        return Response(PAGE)

    return Starlette(routes=[Route("/{rest:path}", page)], middleware=[Middleware(AcmeMiddleware, store=STORE)])


def fastapi() -> Any:
    from fastapi import FastAPI
    from fastapi.responses import Response
    from starlette_acme_middleware import AcmeMiddleware

    app = FastAPI(openapi_url=None)

    @app.get("/{rest:path}")
    async def page(rest: str) -> Response:
        return Response(PAGE)

    app.add_middleware(AcmeMiddleware, store=STORE)
    return app


def tornado() -> Any:
    from tornado.web import Application, RequestHandler
    from tornado_acme_middleware import AcmeRouter

    class Page(RequestHandler):
        def get(self) -> None:
            self.write(PAGE)

        head = get

    logging.getLogger("tornado.access").setLevel(logging.ERROR)  # a line for each 404 and 405 is the app's own wish
    return AcmeRouter(Application([(r"[\s\S]*", Page)]), store=STORE)


async def _serve_tornado(descriptor: int) -> None:
    from tornado.httpserver import HTTPServer

    server = HTTPServer(tornado())
    listener = socket.socket(fileno=descriptor)
    listener.setblocking(False)
    server.add_socket(listener)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve_tornado(int(sys.argv[1])))
