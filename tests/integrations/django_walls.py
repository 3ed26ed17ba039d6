"""Settings: the example site with everything that may stand between a CA and a token, and with a log of its queries."""

import os

from mysite.settings import *  # noqa: F403
from mysite.settings import MIDDLEWARE

ALLOWED_HOSTS = ["example.com", "www.example.com"]
ROOT_URLCONF = "django_walls_urls"
PREPEND_WWW = True
APPEND_SLASH = True
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
FORCE_SCRIPT_NAME = os.environ.get("WALLS_SCRIPT_NAME")

MIDDLEWARE = [
    *([] if os.environ.get("WALLS_WRAPPED") else MIDDLEWARE[:1]),
    "django.middleware.gzip.GZipMiddleware",
    *MIDDLEWARE[1:],
    "django.middleware.locale.LocaleMiddleware",
    "django_walls_urls.QueryLog",
]

ACME_ON_UNKNOWN = os.environ.get("WALLS_ON_UNKNOWN")

if os.environ.get("WALLS_SLOW"):
    from django_walls_slow import SlowSource

    ACME_CHALLENGE_STORE = SlowSource()
