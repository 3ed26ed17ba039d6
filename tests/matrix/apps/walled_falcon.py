"""Falcon, in both of its kinds: the walls are a middleware, the page a sink."""

from __future__ import annotations

import falcon
import falcon.asgi
from walls import MarkedASGI, MarkedWSGI, refusal


def check(request):
    refused = refusal(
        request.get_header("X-Forwarded-Proto"), request.get_header("Host"), request.path, request.get_header("Cookie")
    )
    if refused:
        raise falcon.HTTPStatus(refused[0], headers=refused[1])


class Wall:
    def process_request(self, request, response):
        check(request)

    async def process_request_async(self, request, response):
        check(request)


def page(request, response, **_):
    response.content_type = "text/plain"
    response.text = f"app: {request.method}"


async def page_async(request, response, **_):
    page(request, response)


def made(kind, sink):
    site = kind(middleware=[Wall()])
    site.add_sink(sink, "/")
    return site


wsgi = MarkedWSGI(made(falcon.App, page))
asgi = MarkedASGI(made(falcon.asgi.App, page_async))
