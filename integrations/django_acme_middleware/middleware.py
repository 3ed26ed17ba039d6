"""The middleware: answers the CA's fetches before anything else of the site has a say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from acme_middleware.challenge import PREFIX, Answer
from acme_middleware.responder import Responder
from acme_middleware.stores import open_challenges
from django_acme_middleware import conf


class AcmeMiddleware:
    """
    Answer ``/.well-known/acme-challenge/<token>`` from the site's challenge store.

    It must be the first line of MIDDLEWARE: a redirect to HTTPS, a check of the host or a login page that comes before it
    would answer the CA instead. A system check says so where it is not. Any other request, and a token that the store does
    not know, goes on to the rest of the site; no other request costs a call of the store.

    The settings ACME_CHALLENGE_STORE (default: ACME_STORE, by default ``django:``) and ACME_ON_UNKNOWN are read once, when
    the server starts.

    Raises:
        ConfigurationError: one of these settings has a value that it does not take, or a setting that begins with ``ACME_``
            is no option.
        StoreMisconfigured: no store is known by that URL, or its driver is not installed.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        options = conf.serving_options()
        setting, store = conf.challenge_store(options)
        source = open_challenges(store, option=setting)
        self.responder = Responder(source, on_unknown=options.on_unknown, client=_client)
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if not request.path_info.startswith(PREFIX):
            return self.get_response(request)
        if self.is_async:
            return self._answer_async(request)
        answer = self.responder.respond(request.method or "", request.path_info, request)
        return _response(answer) if answer else self.get_response(request)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        answer = await self.responder.respond_async(request.method or "", request.path_info, request)
        return _response(answer) if answer else await cast(Awaitable[HttpResponseBase], self.get_response(request))


def _client(request: HttpRequest) -> tuple[str, str]:
    return request.META.get("REMOTE_ADDR") or "", request.META.get("HTTP_USER_AGENT") or ""


def _response(answer: Answer) -> HttpResponse:
    return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))
