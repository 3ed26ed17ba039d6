"""Quart: the walls are a function before every request, the page a route for every path."""

from __future__ import annotations

from quart import Quart, Response, request
from walls import MarkedASGI, refusal

METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"]

app = Quart(__name__, static_folder=None)


@app.before_request
async def wall():
    headers = request.headers
    refused = refusal(headers.get("X-Forwarded-Proto"), headers.get("Host"), request.path, headers.get("Cookie"))
    return Response("", *refused) if refused else None


@app.route("/", defaults={"rest": ""}, methods=METHODS, provide_automatic_options=False)
@app.route("/<path:rest>", methods=METHODS, provide_automatic_options=False)
async def page(rest):
    return Response(f"app: {request.method}", content_type="text/plain")


app.asgi_app = MarkedASGI(app.asgi_app)
