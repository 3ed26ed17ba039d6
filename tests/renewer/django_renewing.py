"""The example site, renewing inside of its server: settings, and the applications for ASGI and for runserver."""

import os

from mysite.settings import *  # noqa: F403

QUICK = {"every": 0.5, "first": 0.5, "ttl": 6.0}
ALLOWED_HOSTS = ["*"]
WSGI_APPLICATION = "django_renewing.wsgi"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "LOG %(process)d %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"acme_middleware": {"handlers": ["console"], "level": "INFO"}},
}


def __getattr__(name):
    # This module is the settings as well: an application can only be made when Django has read them.
    if name == "asgi":
        from django.core.asgi import get_asgi_application
        from django_acme_middleware.renewal import renewing

        return renewing(get_asgi_application(), **QUICK)
    if name == "wsgi":
        from django.core.wsgi import get_wsgi_application
        from django_acme_middleware.renewal import renewer

        application = get_wsgi_application()
        if "RENEW_IN_WSGI" in os.environ:
            renewer(**QUICK).start()
        return application
    raise AttributeError(name)
