"""Litestar: its own check of the host, a guard before every request, a route for every path."""

from __future__ import annotations

from litestar import HttpMethod, Litestar, MediaType, Request, Response, route
from litestar.config.allowed_hosts import AllowedHostsConfig
from walls import HOST, MarkedASGI, refusal


def wall(request: Request) -> Response | None:
    headers = request.headers
    path = request.scope["path"]
    refused = refusal(headers.get("X-Forwarded-Proto"), headers.get("Host"), path, headers.get("Cookie"))
    return Response("", status_code=refused[0], headers=refused[1]) if refused else None


@route(["/", "/{rest:path}"], http_method=[*HttpMethod], media_type=MediaType.TEXT, status_code=200, sync_to_thread=False)
def page(request: Request) -> Response[str]:
    return Response(f"app: {request.method}", media_type=MediaType.TEXT)


app = MarkedASGI(
    Litestar([page], before_request=wall, allowed_hosts=AllowedHostsConfig([HOST], www_redirect=False), openapi_config=None)
)
