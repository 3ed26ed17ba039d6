"""Flask: Talisman's redirect, Flask's own check of the host, a login before every request, a route for every path."""

from __future__ import annotations

from flask import Flask, redirect, request
from flask_talisman import Talisman
from walls import COOKIE, HOST, MarkedWSGI

METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"]

app = Flask(__name__, static_folder=None)
app.config["TRUSTED_HOSTS"] = [HOST]
Talisman(app, force_https_permanent=True)


@app.before_request
def login():
    if request.path == "/account" and COOKIE not in request.cookies:
        return redirect("/login")
    return None


@app.route("/", defaults={"rest": ""}, methods=METHODS, provide_automatic_options=False)
@app.route("/<path:rest>", methods=METHODS, provide_automatic_options=False)
def page(rest):
    return f"app: {request.method}", {"Content-Type": "text/plain"}


app.wsgi_app = MarkedWSGI(app.wsgi_app)
