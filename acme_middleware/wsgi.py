"""
ACME challenges for any WSGI app.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from acme_middleware.challenge import PREFIX
from acme_middleware.responder import Responder

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from acme_middleware.stores.base import ChallengeSource

__all__ = ["AcmeMiddleware"]

_STATUS_LINES = {200: "200 OK", 404: "404 Not Found", 503: "503 Service Unavailable"}


class AcmeMiddleware:
    """
    Wrap a WSGI app so that it answers ACME http-01 challenges, and is left alone otherwise.

        application = AcmeMiddleware(application, store="file:///var/lib/acme-middleware")

    Make it the outermost: outside of HTTPS redirects, host checks and login walls. Requests for anything but
    ``/.well-known/acme-challenge/<token>`` cost one comparison and never reach the store.

    Args:
        app: The app to wrap.
        store: Where the tokens are: a URL such as ``file:///var/lib/acme-middleware`` or ``webroot:///var/www/site``, a
            folder's Path, or a challenge store. The command that issues must use the same place.
        on_unknown: ``"pass"`` hands a request for a token that the store does not have to the app; ``"404"`` answers it.

    Raises:
        StoreMisconfigured: The URL's scheme is unknown, or its driver is missing.
        ConfigurationError: ``on_unknown`` is neither.
    """

    def __init__(self, app: WSGIApplication, *, store: str | Path | ChallengeSource, on_unknown: str = "pass") -> None:
        self.app = app
        self._responder = Responder(store, on_unknown=on_unknown, client=_client)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")  # PEP 3333: may be absent; SCRIPT_NAME is no part of it
        if PREFIX not in path:  # cheaper than startswith(), which the responder asks of the few that are left
            return self.app(environ, start_response)
        answer = self._responder.respond(environ["REQUEST_METHOD"], path, environ)
        if answer is None:
            return self.app(environ, start_response)
        start_response(_STATUS_LINES[answer.status], list(answer.headers))
        return [answer.body]


def _client(environ: WSGIEnvironment) -> tuple[str, str]:
    return environ.get("REMOTE_ADDR", ""), environ.get("HTTP_USER_AGENT", "")
