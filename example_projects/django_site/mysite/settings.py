"""
The settings of a small site that runs behind a TLS proxy.

What differs from machine to machine comes from environment variables that begin with ``MYSITE_``; README.md lists them.
"""

from __future__ import annotations

import os
from pathlib import Path

from mysite.secret import key_from

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("MYSITE_DATA", BASE_DIR))

SECRET_KEY = os.environ.get("MYSITE_SECRET_KEY") or key_from(DATA_DIR / "secret-key")
DEBUG = os.environ.get("MYSITE_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("MYSITE_HOSTS", "example.com,www.example.com,localhost,127.0.0.1").split(",")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_acme_middleware",
]

MIDDLEWARE = [
    "django_acme_middleware.middleware.AcmeMiddleware",  # first, before any redirect or host check
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "mysite" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "account"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"

# The proxy ends TLS, and tells by this header whether a request came over https. It must set the header itself.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = True
SECURE_HSTS_SECONDS = 3600
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True

ACME_EMAIL = os.environ.get("MYSITE_ACME_EMAIL")
ACME_AGREE_TOS = os.environ.get("MYSITE_ACME_AGREE_TOS")
ACME_CA = os.environ.get("MYSITE_ACME_CA")
ACME_CA_BUNDLE = os.environ.get("MYSITE_ACME_CA_BUNDLE")
ACME_SELF_CHECK = os.environ.get("MYSITE_ACME_SELF_CHECK")
ACME_SELF_CHECK_VIA = os.environ.get("MYSITE_ACME_SELF_CHECK_VIA")
ACME_STORE = os.environ.get("MYSITE_ACME_STORE")
ACME_PUBLISH_DIR = DATA_DIR / "certificates"
