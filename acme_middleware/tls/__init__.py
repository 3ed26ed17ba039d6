"""TLS inside a Python server, always with the newest certificate and without a restart: :class:`TLSContext`."""

from acme_middleware.tls.context import TLSContext, context_from

__all__ = ["TLSContext", "context_from"]
