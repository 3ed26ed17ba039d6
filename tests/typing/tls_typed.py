"""Certificates inside of a Python server, as people type them."""

import ssl
from collections.abc import Mapping
from pathlib import Path

from acme_middleware.stores import open_store
from acme_middleware.tls import TLSContext, context_from
from acme_middleware.tls.gunicorn import ssl_context_from
from acme_middleware.tls.sources import Offer
from acme_middleware.tls.uvicorn import ssl_context_from as for_uvicorn


def with_settings() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


class FromElsewhere:
    def look(self, known: Mapping[str, Offer]) -> Mapping[str, Offer]:
        return known


def contexts() -> list[ssl.SSLContext]:
    context = TLSContext("/var/lib/acme-middleware/live", check_every=5, default="example.com")
    context.set_alpn_protocols(["h2", "http/1.1"])
    return [
        context,
        TLSContext(Path("/etc/letsencrypt/live")),
        TLSContext((Path("/etc/ssl/site.pem"), "/etc/ssl/site.key")),
        TLSContext("redis://10.0.0.5/0"),
        TLSContext(open_store("memory:")),
        TLSContext(FromElsewhere()),
        context_from(with_settings, "/var/lib/acme-middleware/live"),
    ]


hook = ssl_context_from("/var/lib/acme-middleware/live")
factory = for_uvicorn("/var/lib/acme-middleware/live", check_every=5)
TLSContext(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
