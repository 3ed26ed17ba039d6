"""aiohttp's own runner: python run_aiohttp_renewing.py FD."""

import json
import logging
import os
import socket
import sys

from aiohttp import web
from aiohttp_acme_middleware import acme_middleware
from aiohttp_acme_middleware.renewal import renewing

logging.basicConfig(level=logging.INFO, format="LOG %(process)d %(levelname)s %(name)s %(message)s")
RENEWING = json.loads(os.environ["RENEWING"])

app = web.Application(middlewares=[acme_middleware(RENEWING["store"])])
app.cleanup_ctx.append(renewing(**RENEWING))
web.run_app(app, sock=socket.socket(fileno=int(sys.argv[1])))
