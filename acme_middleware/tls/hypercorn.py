"""
TLS in hypercorn, HTTP/2 as it is. From a program:

    from acme_middleware.tls.hypercorn import TLSConfig

    config = TLSConfig("/var/lib/acme-middleware/live")
    config.bind = ["0.0.0.0:443"]
    asyncio.run(hypercorn.asyncio.serve(app, config))

From the command line by ``hypercorn -c file:hypercorn_config.py app:app``, with hypercorn_config.py:

    from acme_middleware.tls.hypercorn import ssl_context_from

    create_ssl_context = ssl_context_from("/var/lib/acme-middleware/live")
    certfile = keyfile = __file__

hypercorn speaks TLS where those two are set; what they name is not read.
"""

from __future__ import annotations

import ssl
from typing import Any

from hypercorn.config import Config

from acme_middleware.tls.context import CHECK_EVERY, context_from
from acme_middleware.tls.sources import Where, open_source

__all__ = ["TLSConfig", "ssl_context_from"]


class TLSConfig(Config):
    """
    hypercorn's Config with our certificates. All its other settings hold: ciphers, client certificates, protocols.

    Args:
        source: As for :class:`acme_middleware.tls.TLSContext`, and so are the others. For workers that hypercorn starts it must
            not be an open store: give its URL.

    Raises:
        ConfigurationError, StoreMisconfigured: as there.
    """

    def __init__(self, source: Where, *, check_every: float = CHECK_EVERY, default: str | None = None) -> None:
        super().__init__()
        open_source(source, check_every)
        self.tls = (source, check_every, default)

    @property
    def ssl_enabled(self) -> bool:
        return True

    def create_ssl_context(self) -> ssl.SSLContext:
        source, check_every, default = self.tls
        return context_from(self._without_certificate, source, check_every=check_every, default=default)

    def _without_certificate(self) -> ssl.SSLContext:
        # It loads a certificate where both files are set, and neither is.
        context = super().create_ssl_context()
        assert context is not None  # it is None where there is no TLS
        return context


class ssl_context_from:
    """
    ``create_ssl_context`` for hypercorn's command line. A class, because hypercorn pickles it for its workers.

    Args:
        source: As for :class:`acme_middleware.tls.TLSContext`, and so are the next two.
        settings: What else is read when a context is made: ``ciphers``, ``ca_certs``, ``verify_mode``, ``alpn_protocols``.

    Raises:
        ConfigurationError, StoreMisconfigured: as there.
    """

    def __init__(self, source: Where, *, check_every: float = CHECK_EVERY, default: str | None = None, **settings: Any) -> None:
        self.config = TLSConfig(source, check_every=check_every, default=default)
        for name, value in settings.items():
            setattr(self.config, name, value)

    def __call__(self) -> ssl.SSLContext:
        return self.config.create_ssl_context()
