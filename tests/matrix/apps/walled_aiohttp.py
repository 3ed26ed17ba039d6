"""aiohttp: the walls are a middleware, the page a route for every path and method."""

from __future__ import annotations

from aiohttp import web
from walls import refusal


@web.middleware
async def wall(request, handler):
    headers = request.headers
    refused = refusal(headers.get("X-Forwarded-Proto"), headers.get("Host"), request.path, headers.get("Cookie"))
    response = web.Response(status=refused[0], headers=refused[1]) if refused else await handler(request)
    response.headers["X-App"] = "walled"
    return response


async def page(request):
    return web.Response(text=f"app: {request.method}")
