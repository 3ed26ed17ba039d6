"""Settings of a Django site with everything that stands between a CA and a token; its pages are in walled_django_urls."""

from __future__ import annotations

import os

from walls import HOST

SECRET_KEY = "of the tests"
ALLOWED_HOSTS = [HOST]
USE_TZ = True
ROOT_URLCONF = "walled_django_urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["WALLED_DATABASE"]}}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
if os.environ.get("WALLED_DAPHNE"):  # whose runserver serves ASGI
    INSTALLED_APPS.insert(0, "daphne")
    ASGI_APPLICATION = "django_asgi.application"
# Django's documentation has it so: every bot would else draw an error with a traceback.
LOGGING = {
    "version": 1,
    "handlers": {"null": {"class": "logging.NullHandler"}},
    "loggers": {"django.security.DisallowedHost": {"handlers": ["null"], "propagate": False}},
}
LOGIN_URL = "/login"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
PREPEND_WWW = True
APPEND_SLASH = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = True
SECURE_HSTS_SECONDS = 3600

MIDDLEWARE = [
    "walled_django_urls.mark",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
]
