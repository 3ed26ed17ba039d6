"""
TLS in uvicorn 0.47 and newer, which takes a factory of contexts:

    from acme_middleware.tls.uvicorn import ssl_context_from

    uvicorn.run("app:app", port=443, ssl_context_factory=ssl_context_from("/var/lib/acme-middleware/live"))

Its command line has no such option. Under gunicorn: :mod:`acme_middleware.tls.gunicorn`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from acme_middleware.tls.context import CHECK_EVERY, context_from
from acme_middleware.tls.sources import Where, open_source

__all__ = ["ssl_context_from"]


@dataclass(frozen=True)
class ssl_context_from:
    """
    uvicorn's ``ssl_context_factory``. What uvicorn is told about client certificates and ciphers holds.

    A class, because uvicorn pickles it for workers that it starts. So with ``workers=2`` a source cannot be an open store: give
    its URL.

    Args:
        source: As for :class:`acme_middleware.tls.TLSContext`, and so are the others.

    Raises:
        ConfigurationError, StoreMisconfigured: as there.
    """

    source: Where
    check_every: float = CHECK_EVERY
    default: str | None = None

    def __post_init__(self) -> None:
        open_source(self.source, self.check_every)

    def __call__(self, config: Any, default_factory: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        return context_from(
            lambda: _without_certificate(config), self.source, check_every=self.check_every, default=self.default
        )


def _without_certificate(config: Any) -> ssl.SSLContext:
    """What uvicorn's own factory makes, which needs a certificate at once."""
    context = ssl.SSLContext(config.ssl_version)
    context.verify_mode = ssl.VerifyMode(config.ssl_cert_reqs)
    if config.ssl_ca_certs:
        context.load_verify_locations(config.ssl_ca_certs)
    if config.ssl_ciphers:
        context.set_ciphers(config.ssl_ciphers)
    return context
