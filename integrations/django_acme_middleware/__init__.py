"""
Django's side of acme-middleware: the middleware, stores in the site's own database, checks, the admin and the commands.

    INSTALLED_APPS += ["django_acme_middleware"]
    MIDDLEWARE = ["django_acme_middleware.middleware.AcmeMiddleware", *MIDDLEWARE]  # first

then ``manage.py migrate`` and ``manage.py issuecert example.com``.
"""

from acme_middleware._extras import extra

with extra("django", "django", "asgiref"):
    import django  # noqa: F401  # so that it is missed here, whatever of this is imported first
