"""Tornado's HTTPServer in two processes, as its documentation has it: ``run_tornado.py FD MODULE:NAME``."""

from __future__ import annotations

import asyncio
import importlib
import socket
import sys

from tornado.httpserver import HTTPServer
from tornado.log import enable_pretty_logging
from tornado.process import fork_processes


async def main(application, listener):
    HTTPServer(application, xheaders=True).add_socket(listener)
    await asyncio.Event().wait()


module, _, name = sys.argv[2].partition(":")
application = getattr(importlib.import_module(module), name)
listener = socket.socket(fileno=int(sys.argv[1]))
listener.setblocking(False)
enable_pretty_logging()
fork_processes(2)
asyncio.run(main(application, listener))
