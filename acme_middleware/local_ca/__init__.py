"""
A certificate authority for development and tests: a small real ACME server, strict about the protocol, with faults on demand.

It knows nothing of this project's own client, so that it can contradict it. It needs the extra ``[local-ca]``.
"""

from acme_middleware.local_ca.server import LocalCA

__all__ = ["LocalCA"]
