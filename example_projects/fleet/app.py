"""
One host of a fleet. It answers the CA for all the others too: the tokens are in the database that they share.

All that it has to know is where the tokens are. It needs no right to accounts, keys and certificates.
"""

from __future__ import annotations

import os
import socket

from flask import Flask

from acme_middleware.wsgi import AcmeMiddleware

app = Flask(__name__)
app.wsgi_app = AcmeMiddleware(app.wsgi_app, store=os.environ["ACME_CHALLENGE_STORE"])  # type: ignore[method-assign]

HOST = os.environ.get("HOST_NAME") or socket.gethostname()


@app.get("/")
def home() -> str:
    return f"It is {HOST} that serves you.\n"


@app.get("/healthz")
def healthz() -> str:
    return "ok\n"
