"""
Your web app answers its own ACME challenges and gets its own certificate.

The middleware is in :mod:`acme_middleware.wsgi` and :mod:`acme_middleware.asgi`. This package imports neither, nor anything
else, so that a web worker loads only what it serves with.
"""

__version__ = "0.1.0"
