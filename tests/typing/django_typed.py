"""Django: what a site imports from the adapter, and the application wrapped by hand."""

from typing import Any, assert_type

from django.core.wsgi import get_wsgi_application
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse
from django_acme_middleware.middleware import AcmeMiddleware
from django_acme_middleware.signals import acme_event, relay

from acme_middleware import wsgi
from acme_middleware.events import Event, Failed, Issued

application = wsgi.AcmeMiddleware(get_wsgi_application(), store="django:")
assert_type(acme_event, Signal)


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


async def page_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


AcmeMiddleware(page)
AcmeMiddleware(page_async)
AcmeMiddleware("page")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def tell_the_team(sender: type[Event], event: Event, **kwargs: Any) -> None:
    if isinstance(event, Failed):
        assert_type(event.name, str)


acme_event.connect(tell_the_team, sender=Issued)
relay("issued")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
