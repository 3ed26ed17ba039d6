"""Every adapter, put into an app as its page says."""

from pathlib import Path
from typing import assert_type

from aiohttp import web
from aiohttp_acme_middleware import acme_middleware
from fastapi import FastAPI
from flask import Flask
from flask_acme_middleware import Acme
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette_acme_middleware import AcmeMiddleware
from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado_acme_middleware import AcmeRouter

STORE = "file:///var/lib/acme-middleware"

acme = Acme()
assert_type(acme.init_app(Flask(__name__)), None)
Acme(Flask(__name__))
Acme(STORE)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

starlette = Starlette(middleware=[Middleware(AcmeMiddleware, store=STORE)])
starlette.add_middleware(AcmeMiddleware, store=Path("/var/lib/acme-middleware"), on_unknown="404")
Middleware(AcmeMiddleware, shop=STORE)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
fastapi = FastAPI()
fastapi.add_middleware(AcmeMiddleware, store=STORE)
wrapped = AcmeMiddleware(fastapi, store=STORE)
AcmeMiddleware(fastapi)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

HTTPServer(AcmeRouter(Application(), store=STORE), xheaders=True).listen(8000)
AcmeRouter(Application(), store=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

web.Application(middlewares=[acme_middleware(STORE)])
web.Application(middlewares=[acme_middleware(Path("/var/lib/acme-middleware"), on_unknown="404")])
acme_middleware(on_unknown="404")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
