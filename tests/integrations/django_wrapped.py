"""The walled site with its application wrapped, instead of a line in MIDDLEWARE."""

import os

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

from acme_middleware.asgi import AcmeMiddleware as AcmeASGI
from acme_middleware.wsgi import AcmeMiddleware as AcmeWSGI

os.environ["WALLS_WRAPPED"] = "1"
wsgi = AcmeWSGI(get_wsgi_application(), store="django:")
asgi = AcmeASGI(get_asgi_application(), store="django:")
