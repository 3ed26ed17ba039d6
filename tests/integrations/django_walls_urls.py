"""The pages of the walled site: those of the example, pages by language, and one that catches all the rest."""

import os

from django.contrib.auth.decorators import login_not_required
from django.db.backends.signals import connection_created
from django.http import HttpResponse
from django.urls import include, path, re_path
from mysite.urls import urlpatterns as pages


class QueryLog:
    """The innermost middleware: from the server's start on, every query of every connection is a line of $QUERIES."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response):
        self.get_response = get_response
        connection_created.connect(self.listen)

    def listen(self, connection, **_):
        # SQLite's own: a token is looked up past Django's cursor.
        connection.connection.set_trace_callback(self.write)

    def write(self, sql):
        if not sql.startswith(("BEGIN", "COMMIT", "PRAGMA")):
            with open(os.environ["QUERIES"], "a") as log:
                print(sql.replace("\n", " "), file=log)

    def __call__(self, request):
        return self.get_response(request)


@login_not_required
def everything_else(request, rest):
    return HttpResponse(f"caught {rest}\n" + "filling " * 100, content_type="text/plain")


urlpatterns = [path("", include(pages)), re_path(r"^(?P<rest>[\s\S]*)$", everything_else)]
