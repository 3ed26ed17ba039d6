"""
Django's side of acme-middleware: the middleware, stores in the site's own database, checks, the admin and the commands.

    INSTALLED_APPS += ["django_acme_middleware"]
    MIDDLEWARE = ["django_acme_middleware.middleware.AcmeMiddleware", *MIDDLEWARE]  # first

then ``manage.py migrate`` and ``manage.py issuecert example.com``.
"""
