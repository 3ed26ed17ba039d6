"""
A Tornado site in two processes, behind a proxy that ends TLS: pages of its own for two hosts, and everything over HTTPS.

    python app.py --port=8000 --processes=2
"""

import asyncio
import os
import signal
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.options import define, options, parse_command_line
from tornado.process import fork_processes
from tornado.web import Application, RequestHandler
from tornado_acme_middleware import AcmeRouter

HERE = Path(__file__).resolve().parent

define("address", "127.0.0.1", help="where to listen")
define("port", 8000, help="where to listen")
define("processes", 2, help="how many answer requests")
define("store", f"file:{HERE / 'state'}", help="where the tokens are; `acme-middleware issue` must use the same place")


class Secure(RequestHandler):
    """What all pages share: plain HTTP is redirected. The proxy says in X-Forwarded-Proto what the client came by."""

    def prepare(self):
        if self.request.protocol != "https":
            self.redirect(f"https://{self.request.host}{self.request.uri}", permanent=True)


class Home(Secure):
    def get(self):
        self.write(f"The pages of {self.request.host_name}, by process {os.getpid()}.\n")


class Api(Secure):
    def get(self):
        self.write({"version": 1})


class Anything(Secure):
    """The wildcard route: it would take the CA's requests too."""

    def get(self, path):
        self.write(f"{path} of {self.request.host_name}\n")


def make_app():
    app = Application()  # a host that is not named below gets a 404
    app.add_handlers(r"(www\.)?example\.com", [(r"/", Home), (r"(/.*)", Anything)])
    app.add_handlers(r"api\.example\.com", [(r"/v1", Api)])
    return app


async def serve(sockets):
    server = HTTPServer(AcmeRouter(make_app(), store=options.store), xheaders=True)
    server.add_sockets(sockets)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    server.stop()
    await server.close_all_connections()


def main():
    parse_command_line()
    sockets = bind_sockets(options.port, options.address)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the processes that answer; this one ends after them
    fork_processes(options.processes)
    asyncio.run(serve(sockets))


if __name__ == "__main__":
    main()
