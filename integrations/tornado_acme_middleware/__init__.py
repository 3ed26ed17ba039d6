"""
ACME challenges for Tornado: answered before the app's host rules, redirects and routes.

    HTTPServer(AcmeRouter(app, store="file:///var/lib/acme-middleware"), xheaders=True)
"""

from acme_middleware._extras import extra

with extra("tornado", "tornado"):
    from tornado_acme_middleware.router import AcmeRouter

__all__ = ["AcmeRouter"]
