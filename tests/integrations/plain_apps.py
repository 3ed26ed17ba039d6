"""
The apps that the tests of plain WSGI and ASGI serve: each answers 200 to anything, and says what it was asked.

The environment configures them, since servers import them in processes of their own: CHALLENGES as challenge_sources.py says;
ON_UNKNOWN is the option.
"""

from __future__ import annotations

import logging
import os

from challenge_sources import store
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from acme_middleware.asgi import AcmeMiddleware as AsgiAcmeMiddleware
from acme_middleware.wsgi import AcmeMiddleware as WsgiAcmeMiddleware

logging.basicConfig(level=logging.INFO, format="LOG %(levelname)s %(name)s %(message)s")


def wsgi_app(environ, start_response):
    body = f"app: {environ['REQUEST_METHOD']} {environ.get('SCRIPT_NAME', '')}|{environ['PATH_INFO']}".encode("latin-1")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


async def asgi_app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            print("LIFESPAN", message["type"], flush=True)
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "app: " + scope["path"]})
        await send({"type": "websocket.close"})
    else:
        body = f"app: {scope['method']} {scope.get('root_path', '')}|{scope['path']}".encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def mounted(app):
    """Mount a WSGI app below /site, as an outer dispatcher does; all else is 421."""

    def dispatch(environ, start_response):
        path = environ["PATH_INFO"]
        if not path.startswith("/site/"):
            start_response("421 Misdirected Request", [("Content-Length", "0")])
            return [b""]
        return app({**environ, "SCRIPT_NAME": environ["SCRIPT_NAME"] + "/site", "PATH_INFO": path[5:]}, start_response)

    return dispatch


def options():
    return {"store": store(), "on_unknown": os.environ.get("ON_UNKNOWN", "pass")}


wsgi = WsgiAcmeMiddleware(wsgi_app, **options())
wsgi_mounted = mounted(wsgi)
asgi = AsgiAcmeMiddleware(asgi_app, **options())


def wall(app):
    """What stands in the CA's way in many apps: a check of the host, a redirect to HTTPS, a password."""

    def walled(environ, start_response):
        if environ.get("HTTP_HOST", "").partition(":")[0] != "example.com":
            status, headers = "400 Bad Request", []
        elif environ["PATH_INFO"] != "/secret":
            status, headers = "301 Moved Permanently", [("Location", "https://example.com" + environ["PATH_INFO"])]
        else:
            status, headers = "401 Unauthorized", [("WWW-Authenticate", "Basic")]
        start_response(status, [*headers, ("Content-Length", "0")])
        return [b""]

    return walled


wsgi_walled = WsgiAcmeMiddleware(wall(wsgi_app), **options())
asgi_walled = AsgiAcmeMiddleware(
    TrustedHostMiddleware(HTTPSRedirectMiddleware(asgi_app), allowed_hosts=["example.com"]), **options()
)
