"""
What the walled apps of the matrix have in common, whatever their framework, and what none of them may do to the CA:

- a page that is asked for over http redirects to https; X-Forwarded-Proto says which it is;
- a Host other than www.example.com is refused;
- /account sends whoever is not logged in to /login;
- every other path, with any method, is a page that says "app: METHOD".

Where a framework has a wall of its own, its app uses that one. All responses of an app are marked by a header, X-App.
"""

from __future__ import annotations

HOST = "www.example.com"
COOKIE = "member"


def refusal(proto, host, path, cookie):
    """The status and the headers with which an app refuses a request; None: let it pass."""
    if proto != "https":
        return 301, {"Location": f"https://{HOST}{path if path.isascii() and path.isprintable() else '/'}"}
    if (host or "").lower() != HOST:
        return 400, {}
    if path == "/account" and COOKIE not in (cookie or ""):
        return 302, {"Location": "/login"}
    return None


class MarkedWSGI:
    """Mark the responses of a WSGI app, and tell it of https as the server behind a proxy would."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        def marked(status, headers, *exc_info):
            return start_response(status, [*headers, ("X-App", "walled")], *exc_info)

        environ["wsgi.url_scheme"] = environ.get("HTTP_X_FORWARDED_PROTO", "http")
        return self.app(environ, marked)


class MarkedASGI:
    """The same for an ASGI app."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def marked(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"x-app", b"walled")]}
            await send(message)

        if scope["type"] == "http":
            proto = dict(scope["headers"]).get(b"x-forwarded-proto", b"http").decode("latin-1")
            await self.app({**scope, "scheme": proto}, receive, marked)
        else:
            await self.app(scope, receive, send)
