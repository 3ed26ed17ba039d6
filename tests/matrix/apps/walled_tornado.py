"""Tornado: handlers for one host only, a redirect and a login in prepare(), a rule for every path."""

from __future__ import annotations

from tornado.web import Application, HTTPError, RequestHandler
from walls import HOST, refusal


class Walled(RequestHandler):
    SUPPORTED_METHODS = (*RequestHandler.SUPPORTED_METHODS, "PROPFIND")

    def set_default_headers(self):
        self.set_header("X-App", "walled")

    def prepare(self):
        request = self.request
        refused = refusal(request.protocol, request.host, request.path, request.headers.get("Cookie"))
        if refused:
            self.set_status(refused[0])
            for name, value in refused[1].items():
                self.set_header(name, value)
            self.finish()


class Page(Walled):
    def get(self):
        self.set_header("Content-Type", "text/plain")
        self.finish(f"app: {self.request.method}")

    head = post = put = delete = options = patch = propfind = get


class NoSuchHost(Walled):
    def get(self):
        raise HTTPError(400)


app = Application(default_handler_class=NoSuchHost, default_host=HOST)
app.add_handlers(HOST.replace(".", r"\."), [(r"[\s\S]*", Page)])
