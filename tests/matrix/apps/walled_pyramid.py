"""Pyramid: the walls are a tween, the page a catch-all route."""

from __future__ import annotations

from pyramid.config import Configurator
from pyramid.exceptions import URLDecodeError
from pyramid.response import Response
from walls import MarkedWSGI, refusal


def wall(handler, registry):
    def walled(request):
        headers = request.headers
        path = request.environ.get("PATH_INFO", "")
        refused = refusal(headers.get("X-Forwarded-Proto"), headers.get("Host"), path, headers.get("Cookie"))
        return Response(status=refused[0], headerlist=list(refused[1].items())) if refused else handler(request)

    return walled


def page(request):
    return Response(f"app: {request.method}", content_type="text/plain")


def no_text(error, request):
    return Response("this path is no UTF-8", status=404, content_type="text/plain")


with Configurator() as config:
    config.add_tween("walled_pyramid.wall")
    config.add_route("everything", "/*rest")
    config.add_view(page, route_name="everything")
    # Without it, Pyramid answers 500 to such a path, whatever stands around it.
    config.add_exception_view(no_text, context=URLDecodeError)
    app = MarkedWSGI(config.make_wsgi_app())
