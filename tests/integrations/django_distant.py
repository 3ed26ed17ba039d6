"""The example site, as far from the CA as a real one: the CA's own fetches take a while."""

import time

from mysite.wsgi import application as site

DISTANCE = 0.5


def application(environ, start_response):
    if "self-check" not in environ.get("HTTP_USER_AGENT", ""):
        time.sleep(DISTANCE)
    return site(environ, start_response)
