"""
The Tornado site that the tests serve: hosts with handlers of their own, a redirect, a wildcard, websockets, streams.

    python -m tornado_apps HOW SOCKET

HOW is one of the functions at the end. SOCKET is the number of an inherited listening socket, or ``port=NUMBER``. The
environment has CHALLENGES, the store's URL or the name of a source of plain_apps, ON_UNKNOWN, and FOLDER, which is served by
the seed's own line.
"""

import asyncio
import logging
import os
import signal
import socket
import sys

from challenge_sources import store
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, ResponseStartLine
from tornado.ioloop import IOLoop
from tornado.process import fork_processes
from tornado.routing import AnyMatches, Rule, RuleRouter
from tornado.web import Application, RequestHandler, StaticFileHandler, stream_request_body
from tornado.websocket import WebSocketHandler
from tornado.wsgi import WSGIContainer
from tornado_acme_middleware import AcmeRouter

logging.basicConfig(level=logging.INFO, format="LOG %(levelname)s %(name)s %(message)s")


class Page(RequestHandler):
    """Says what it was asked, and redirects what did not come over HTTPS."""

    SUPPORTED_METHODS = (*RequestHandler.SUPPORTED_METHODS, "PROPFIND")

    def prepare(self):
        if self.request.protocol != "https":
            self.redirect(f"https://{self.request.host}{self.request.uri}", permanent=True)

    def get(self, *_):
        body = f" body={len(self.request.body)}" if self.request.body else ""
        self.write(f"page: {self.request.method} {self.request.uri} for {self.request.remote_ip} at {os.getpid()}{body}")

    head = post = put = delete = patch = options = propfind = get


class Echo(WebSocketHandler):
    def on_message(self, message):
        self.write_message(message)


@stream_request_body
class Upload(RequestHandler):
    async def prepare(self):
        self.received = self.chunks = 0

    async def data_received(self, chunk):
        await asyncio.sleep(0)  # the next chunk waits until this one is done with
        self.received += len(chunk)
        self.chunks += 1

    def post(self, *_):
        self.write(f"upload: {self.received} bytes, streamed: {self.chunks > 1}")

    get = put = post


class Fails(RequestHandler):
    def get(self):
        raise ValueError("the page's own mistake")


def site():
    app = Application(default_host="www.example.com")
    app.add_handlers(
        r"(www\.)?example\.com",
        [
            (r"/socket", Echo),
            (r"/upload", Upload),
            (r"/fails", Fails),
            (r"/.well-known/acme-challenge/socket", Echo),
            (r"/.well-known/acme-challenge/upload", Upload),
            (r"/.well-known/acme-challenge/(.*)", StaticFileHandler, {"path": os.environ.get("FOLDER", "/nonexistent")}),
            (r"/.*", Page),
        ],
    )
    return app


def function(request):
    body = f"function: {request.method} {request.uri} body={len(request.body)}".encode()
    headers = HTTPHeaders({"Content-Length": str(len(body))})
    request.connection.write_headers(ResponseStartLine("", 200, "OK"), headers, b"" if request.method == "HEAD" else body)
    request.connection.finish()


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"wsgi: {environ['REQUEST_METHOD']} {environ['PATH_INFO']}".encode()]


def wrapped(app):
    return AcmeRouter(app, store=store(), on_unknown=os.environ.get("ON_UNKNOWN", "pass"))


SERVED = {
    "site": site,
    "function": lambda: function,
    "wsgi": lambda: WSGIContainer(wsgi),
    "server": lambda: HTTPServer(site()),
    "rules": lambda: RuleRouter([Rule(AnyMatches(), site())]),
    "twice": lambda: wrapped(site()),
}


async def run(target, sockets, **options):
    server = HTTPServer(target, xheaders=True, **options)
    server.add_sockets(sockets)
    await asyncio.Event().wait()


def inherited(number):
    listener = socket.socket(fileno=int(number))
    listener.setblocking(False)
    return [listener]


def one_process(what, number):
    """A single process; ``what`` is a key of SERVED."""
    asyncio.run(run(wrapped(SERVED[what]()), inherited(number), decompress_request=True))


def within_rules(_, number):
    """The router below another one, which hands it connections as its target."""
    asyncio.run(run(RuleRouter([Rule(AnyMatches(), wrapped(site()))]), inherited(number)))


def forked(_, number):
    """Two processes, forked when the router is made and has answered already."""
    target = wrapped(site())
    target.responder.respond("GET", "/.well-known/acme-challenge/known-before-the-fork")
    _end_together()
    fork_processes(2)
    asyncio.run(run(target, inherited(number)))


def started(_, port):
    """Two processes, by the server's own bind() and start()."""
    server = HTTPServer(wrapped(site()), xheaders=True)
    server.bind(int(port.removeprefix("port=")), "127.0.0.1")
    _end_together()
    server.start(2)
    IOLoop.current().start()


def _end_together():
    # Tornado's parent process leaves its children behind when it is told to end. They have a session of their own here.
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))


if __name__ == "__main__":
    how, _, what = sys.argv[1].partition(":")
    {"one": one_process, "rules": within_rules, "forked": forked, "started": started}[how](what or "site", sys.argv[2])
