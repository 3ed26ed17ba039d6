"""Sanic under an ASGI server: the walls are a middleware, the page a route for every path."""

from __future__ import annotations

from sanic import Sanic
from sanic.response import empty, text
from walls import MarkedASGI, refusal

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]

site = Sanic("walled")
site.config.OAS = False


@site.on_request
async def wall(request):
    headers = request.headers
    refused = refusal(headers.get("X-Forwarded-Proto"), headers.get("Host"), request.path, headers.get("Cookie"))
    return empty(*refused) if refused else None


@site.route("/", METHODS, name="front")
@site.route("/<rest:path>", METHODS)
async def page(request, rest=""):
    return text(f"app: {request.method}")


app = MarkedASGI(site)
