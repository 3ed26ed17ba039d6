"""Bottle: the walls are a hook, the page a route for every path and method."""

from __future__ import annotations

import bottle
from walls import MarkedWSGI, refusal

site = bottle.Bottle()


@site.hook("before_request")
def wall():
    request = bottle.request
    refused = refusal(
        request.get_header("X-Forwarded-Proto"), request.get_header("Host"), request.path, request.get_header("Cookie")
    )
    if refused:
        raise bottle.HTTPResponse("", *refused)


@site.route("/<:re:[\\s\\S]*>", method="ANY")
def page():
    bottle.response.content_type = "text/plain"
    return f"app: {bottle.request.method}"


app = MarkedWSGI(site)
