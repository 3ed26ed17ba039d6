"""
TLS in gunicorn's workers: sync, gthread, gevent and its own ASGI worker. In gunicorn.conf.py:

    from acme_middleware.tls.gunicorn import ssl_context_from

    ssl_context = ssl_context_from("/var/lib/acme-middleware/live")
    certfile = keyfile = __file__

gunicorn speaks TLS where ``certfile`` is set and asks no more of it than that the file is there, so that any will do. With
uvicorn's worker the same lines hold, and ``worker_class = "acme_middleware.tls.uvicorn_worker.TLSWorker"``.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Any

from acme_middleware.tls.context import CHECK_EVERY, context_from
from acme_middleware.tls.sources import Where, open_source

__all__ = ["ssl_context_from"]

Hook = Callable[[Any, Callable[[], ssl.SSLContext]], ssl.SSLContext]


def ssl_context_from(source: Where, *, check_every: float = CHECK_EVERY, default: str | None = None) -> Hook:
    """
    gunicorn's server hook ``ssl_context``. What gunicorn has for client certificates, ciphers and HTTP/2 holds.

    Args:
        source: As for :class:`acme_middleware.tls.TLSContext`, and so are the others.

    Raises:
        ConfigurationError, StoreMisconfigured: as there. gunicorn does not start then.
    """
    open_source(source, check_every)  # now, and not when a worker has its first connection
    made: dict[int, ssl.SSLContext] = {}

    def ssl_context(conf: Any, default_ssl_context_factory: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        # gunicorn calls this for each connection. In the worker, since gevent has put its own sockets in place by then.
        context = made.get(os.getpid())
        if context is None:
            context = made[os.getpid()] = context_from(
                lambda: _without_certificate(conf), source, check_every=check_every, default=default
            )
        return context

    return ssl_context


def _without_certificate(conf: Any) -> ssl.SSLContext:
    """What gunicorn's own factory makes, which needs a certificate at once."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=conf.ca_certs)
    context.verify_mode = conf.cert_reqs
    if conf.ciphers:
        context.set_ciphers(conf.ciphers)
    spoken = getattr(conf, "http_protocols", None) or ()  # gunicorn 25 and newer
    if "h2" in spoken:
        from gunicorn.config import ALPN_PROTOCOL_MAP  # type: ignore[import-untyped]
        from gunicorn.http2 import is_http2_available  # type: ignore[import-untyped]

        if is_http2_available():
            context.set_alpn_protocols([ALPN_PROTOCOL_MAP[name] for name in spoken if name in ALPN_PROTOCOL_MAP])
    return context
