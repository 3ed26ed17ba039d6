"""The router: answers the CA's fetches before anything else of the app has a say."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from http.client import responses
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
    format_timestamp,
)

from acme_middleware.challenge import PREFIX, Answer
from acme_middleware.responder import Responder

if TYPE_CHECKING:
    from pathlib import Path

    from acme_middleware.stores.base import ChallengeSource


class AcmeRouter(HTTPServerConnectionDelegate):
    """
    Wrap a Tornado app so that it answers ACME http-01 challenges, and is left alone otherwise.

        HTTPServer(AcmeRouter(app, store="file:///var/lib/acme-middleware"), xheaders=True)

    Give it to the HTTPServer, so that it is outermost: before handlers of certain hosts, redirects and wildcard routes.
    ``app.listen()`` would go around it. Requests for anything but ``/.well-known/acme-challenge/<token>`` go to the app as
    they come: streamed bodies, websockets, pipelined requests. A store that may wait for a network is asked in threads of
    our own: the event loop never waits. It may be made before the server forks.

    Args:
        app: A ``tornado.web.Application`` or whatever else HTTPServer takes: a router, a WSGIContainer, a function of the
            request.
        store: Where the tokens are: a URL such as ``file:///var/lib/acme-middleware`` or ``webroot:///var/www/site``, a
            folder's Path, or a challenge store. The command that issues must use the same place.
        on_unknown: ``"pass"`` hands a request for a token that the store does not have to the app; ``"404"`` answers it.

    Raises:
        StoreMisconfigured: The URL's scheme is unknown, or its driver is missing.
        ConfigurationError: ``on_unknown`` is neither, or ``app`` is nothing that HTTPServer takes.
    """

    def __init__(
        self,
        app: HTTPServerConnectionDelegate | Callable[[HTTPServerRequest], None],
        *,
        store: str | Path | ChallengeSource,
        on_unknown: str = "pass",
    ) -> None:
        self.app = app
        self.target = _delegate(app)
        self.responder = Responder(store, on_unknown=on_unknown)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        return _Request(self, server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        if self.target is self.app:  # a server made for a function does not know this connection
            self.target.on_close(server_conn)


class _Request(HTTPMessageDelegate):
    """One request: ours to answer once it is read to its end, or the app's from its headers on."""

    def __init__(self, router: AcmeRouter, server_connection: object, connection: HTTPConnection) -> None:
        self.router = router
        self.server_connection = server_connection
        self.connection = connection
        self.target: HTTPMessageDelegate | None = None
        self.answer: Answer | None = None

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        start_line = cast(RequestStartLine, start_line)  # the type is shared with Tornado's client
        path = start_line.path
        if PREFIX not in path and "%" not in path:
            return self._pass_on(start_line, headers)
        path = _decoded(path)
        if not path.startswith(PREFIX):
            return self._pass_on(start_line, headers)
        return self._ask(path, start_line, headers)

    async def _ask(self, path: str, start_line: RequestStartLine, headers: HTTPHeaders) -> None:
        # HTTPServerRequest would refuse a request without Host, and finds the address in this same place.
        client = getattr(getattr(self.connection, "context", None), "remote_ip", ""), headers.get("User-Agent", "")
        self.answer = await self.router.responder.respond_async(start_line.method, path, client)
        if self.answer is None and (waiting := self._pass_on(start_line, headers)) is not None:
            await waiting

    def _pass_on(self, start_line: RequestStartLine, headers: HTTPHeaders) -> Awaitable[None] | None:
        self.target = self.router.target.start_request(self.server_connection, self.connection)
        return self.target.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return None if self.target is None else self.target.data_received(chunk)

    def finish(self) -> None:
        if self.target is not None:
            self.target.finish()
        elif self.answer is not None:
            # Not sooner: an answer that goes out before the request's body is read makes Tornado close the connection.
            start_line = ResponseStartLine("HTTP/1.1", self.answer.status, responses[self.answer.status])
            headers = HTTPHeaders(dict(self.answer.headers))
            headers["Date"] = format_timestamp(time.time())  # RFC 9110 section 6.6.1: a server with a clock MUST send it
            self.connection.write_headers(start_line, headers, self.answer.body)
            self.connection.finish()

    def on_connection_close(self) -> None:
        if self.target is not None:
            self.target.on_connection_close()


def _delegate(app: Any) -> HTTPServerConnectionDelegate:
    if isinstance(app, HTTPServerConnectionDelegate):
        return app
    if callable(app):
        return HTTPServer(app)  # which makes a delegate of a function; it never listens
    from acme_middleware.errors import ConfigurationError

    raise ConfigurationError(
        f"app is {app!r} but must be what HTTPServer takes",
        hint="for example tornado.web.Application([...])",
        option="app",
    )


def _decoded(target: str) -> str:
    """The path of a request's target, percent-decoded; what is no UTF-8 becomes what no token has."""
    path = target.partition("?")[0]
    if not path.startswith("/"):
        # RFC 9112 section 3.2.2: a server MUST accept the absolute form, though only proxies are sent it.
        path = "/" + path.partition("://")[2].partition("/")[2]
    return unquote(path)
