"""A page for all, a page behind a login, and a page for the proxy's health check."""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


@login_not_required
def home(request: HttpRequest) -> HttpResponse:
    """The home page."""
    return render(request, "home.html")


def account(request: HttpRequest) -> HttpResponse:
    """A page that LoginRequiredMiddleware shows to those who have logged in, as it does with any page not marked."""
    return render(request, "account.html")


@login_not_required
def healthz(request: HttpRequest) -> HttpResponse:
    """Says that the site runs."""
    return HttpResponse("ok\n", content_type="text/plain; charset=utf-8")
