"""A Tornado site in two processes that renews: python run_tornado.py FD; AUTORELOAD=1 serves in this process, reloaded."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys

from tornado import autoreload
from tornado.httpserver import HTTPServer
from tornado.process import fork_processes
from tornado.web import Application, RequestHandler
from tornado_acme_middleware import AcmeRouter
from tornado_acme_middleware.renewal import Renewal

logging.basicConfig(level=logging.INFO, format="LOG %(process)d %(levelname)s %(name)s %(message)s")
RENEWING = json.loads(os.environ["RENEWING"])


class Page(RequestHandler):
    def get(self):
        self.write(str(os.getpid()))


async def serve(listener):
    server = HTTPServer(AcmeRouter(Application([("/", Page)]), store=RENEWING["store"]))
    server.add_socket(listener)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if "AUTORELOAD" in os.environ:
        autoreload.watch(os.environ["AUTORELOAD"])
        autoreload.start(100)
        # It has seen how old the files are when it has looked once.
        asyncio.get_running_loop().call_later(0.3, logging.info, "watches")
    with renewal:
        await stop.wait()
    logging.info("stopped")


if __name__ == "__main__":
    fd = int(sys.argv[1])
    os.set_inheritable(fd, True)  # for the program that autoreload puts in the place of this one
    listener = socket.socket(fileno=fd)
    listener.setblocking(False)
    renewal = Renewal(**RENEWING)
    if "AUTORELOAD" not in os.environ:
        fork_processes(2)
    asyncio.run(serve(listener))
