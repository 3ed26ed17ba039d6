"""
ACME challenges for Starlette and FastAPI apps.

    from starlette_acme_middleware import AcmeMiddleware

    app = Starlette(middleware=[Middleware(AcmeMiddleware, store="file:///var/lib/acme-middleware"), ...])  # first in the list

or, below all other lines of that kind:

    app.add_middleware(AcmeMiddleware, store="file:///var/lib/acme-middleware")

then ``acme-middleware issue example.com`` with the same store.
"""

from starlette_acme_middleware.middleware import AcmeMiddleware

__all__ = ["AcmeMiddleware"]
