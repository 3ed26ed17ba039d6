"""Starlette: its redirect to HTTPS, its check of the host, its sessions, a login, a route for every path."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Route
from walls import COOKIE, HOST, MarkedASGI

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"]
WALLS = [
    Middleware(MarkedASGI),
    Middleware(HTTPSRedirectMiddleware),
    Middleware(TrustedHostMiddleware, allowed_hosts=[HOST]),
    Middleware(GZipMiddleware, minimum_size=1),
]


def needs_login(request):
    return request.scope["path"].endswith("/account") and COOKIE not in request.cookies


async def page(request):
    return RedirectResponse("/login", 302) if needs_login(request) else PlainTextResponse(f"app: {request.method}")


app = Starlette(routes=[Route("/{rest:path}", page, methods=METHODS)], middleware=WALLS)
