"""
The Flask apps that the tests serve.

The environment configures them, since servers import them in processes of their own: INSTANCE is the instance folder, to
which each request that gets past us adds a line in the file ``requests``; FLASK_X is the config key X.
"""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask, redirect, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_acme_middleware import Acme
from flask_talisman import Talisman
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from acme_middleware.stores.base import Fetch

acme = Acme()


def note(what):
    with Path(os.environ["INSTANCE"], "requests").open("a") as log:
        log.write(what + "\n")


class NotedSessions(SecureCookieSessionInterface):
    def open_session(self, app, request):
        note("session opened")
        return super().open_session(app, request)


def bare(**options):
    """An app whose every page is its own: a catch-all route, also for the paths of tokens."""
    app = Flask(__name__, instance_path=os.environ["INSTANCE"], **options)
    app.config.update(SECRET_KEY="not a secret here")
    app.config.from_prefixed_env()
    host = {"host": "example.com"} if options else {}

    @app.route("/", defaults={"rest": ""}, methods=["GET", "POST"], **host)
    @app.route("/<path:rest>", methods=["GET", "POST"], **host)
    def caught(rest):
        return f"caught {request.method} {request.script_root}|{request.path} from {request.remote_addr}"

    @app.get("/page/", **host)
    def page():
        return "a page with a slash"

    return app


def walled():
    """What stands in the CA's way in many apps: HTTPS by Talisman, a check of the host, a login, a session for all."""
    app = bare()
    app.config.update(TRUSTED_HOSTS=["example.com"])
    app.session_interface = NotedSessions()
    Talisman(app)

    @app.before_request
    def login():
        note(f"before_request {request.path}")
        return None if session.get("user") or request.path == "/login" else redirect("/login")

    @app.after_request
    def mark(response):
        response.headers["X-App"] = "flask"
        return response

    acme.init_app(app)
    return app


def registered_first():
    """The same walls, put up after the extension was registered."""
    app = bare()
    acme.init_app(app)
    app.config.update(TRUSTED_HOSTS=["example.com"])
    Talisman(app)
    app.before_request(lambda: redirect("/login"))
    return app


def open_to_all():
    app = bare()
    acme.init_app(app)
    return app


def one_host():
    app = bare(host_matching=True, static_host="example.com")
    acme.init_app(app)
    return app


def server_name():
    app = Flask(__name__, instance_path=os.environ["INSTANCE"], subdomain_matching=True)
    app.config.update(SERVER_NAME="example.com", APPLICATION_ROOT="/shop")

    @app.get("/<path:rest>", subdomain="www")
    def caught(rest):
        return f"caught {rest}"

    acme.init_app(app)
    return app


def mounted():
    """Below /site, by what stands outside: the path of a token is then that of the app's own root."""
    return DispatcherMiddleware(NotFound(), {"/site": open_to_all()})


def with_an_app_below_it():
    app = bare()
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/api": bare(), "/.well-known": NotFound()})
    acme.init_app(app)
    return app


def proxied_inside():
    app = bare()
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_host=1, x_prefix=1)
    acme.init_app(app)
    return app


def proxied_outside():
    app = bare()
    acme.init_app(app)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_host=1, x_prefix=1)
    return app


def password(wsgi_app):
    def guarded(environ, start_response):
        start_response("401 Unauthorized", [("WWW-Authenticate", "Basic"), ("Content-Length", "0")])
        return [b""]

    return guarded


def password_inside():
    app = bare()
    app.wsgi_app = password(app.wsgi_app)
    acme.init_app(app)
    return app


def password_outside():
    app = bare()
    acme.init_app(app)
    app.wsgi_app = password(app.wsgi_app)
    return app


class Broken:
    """A store of the app's own, which is down; it notes who asks, and logs no fetch."""

    blocking = True

    def key_authorization(self, token: str) -> str | None:
        note(f"store asked for {token}")
        raise OSError("no route to the store")

    def log_fetch(self, token: str, fetch: Fetch) -> None:
        raise OSError("no route to the store")


def store_down():
    app = bare()
    app.config["ACME_CHALLENGE_STORE"] = Broken()
    acme.init_app(app)
    return app


def several():
    """Two apps of one Acme, each with its own store, told apart by their prefix."""
    one, two = bare(), bare()
    two.config["ACME_STORE"] = Path(os.environ["INSTANCE"], "second")
    acme.init_app(one)
    acme.init_app(two)
    return DispatcherMiddleware(one, {"/two": two})
