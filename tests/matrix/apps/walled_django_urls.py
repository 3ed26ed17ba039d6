"""The pages of the walled Django site, and the middleware that marks its responses."""

from __future__ import annotations

from asgiref.sync import iscoroutinefunction
from django.contrib.auth.decorators import login_not_required
from django.http import HttpResponse
from django.urls import path, re_path
from django.utils.decorators import sync_and_async_middleware


@sync_and_async_middleware
def mark(get_response):
    def marked(response):
        response["X-App"] = "walled"
        return response

    if iscoroutinefunction(get_response):

        async def middleware(request):
            return marked(await get_response(request))
    else:

        def middleware(request):
            return marked(get_response(request))

    return middleware


@login_not_required
def page(request, rest):
    return HttpResponse(f"app: {request.method}", content_type="text/plain")


def account(request):
    return HttpResponse(f"app: {request.user}")


urlpatterns = [path("account", account), re_path(r"^(?P<rest>[\s\S]*)$", page)]
