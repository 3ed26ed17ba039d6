"""
An ``ssl.SSLContext`` whose certificates are always the newest, for every server that takes one.

    app.listen(443, ssl_options=TLSContext("/var/lib/acme-middleware/live"))

Nothing is ever loaded into a context that serves: with several threads that fails handshakes, or ends the interpreter, and a
pair that does not match breaks it for good. Each certificate gets a context of its own, made anew when it is renewed, and the
handshake is moved into it when the client has said which name it wants.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from typing import Any

from acme_middleware.tls.served import Served
from acme_middleware.tls.sources import Where, open_source

__all__ = ["TLSContext", "context_from"]

CHECK_EVERY = 1.0


def context_from(
    make: Callable[[], ssl.SSLContext], source: Where, *, check_every: float = CHECK_EVERY, default: str | None = None
) -> ssl.SSLContext:
    """
    A context with settings of your own, or of your server, and our certificates. :class:`TLSContext` is the simple form.

    Args:
        make: Makes a new context with all settings and without a certificate. It is called here once, for the context that
            the server gets, and again for each certificate: what a client may speak (ALPN), and whose client certificates
            are accepted, is read from the context of the certificate.
        source: As for :class:`TLSContext`, and so are the others.

    Raises:
        ConfigurationError, StoreMisconfigured: as :class:`TLSContext`.
    """
    base = make()
    base.sni_callback = Served(open_source(source, check_every), make, check_every=check_every, default=default).on_hello
    return base


class TLSContext(ssl.SSLContext):
    """
    A server's context that serves the newest certificate for the name that the client asks for.

    It starts without any certificate: handshakes fail until there is the first one. Whatever goes wrong later, the old
    certificate goes on being served, and the log ``acme_middleware.tls`` says why. It can be used in a server that forks
    (workers, ``--preload``), and pickled for one that spawns its workers.

    Not for servers that have a hook for it: :mod:`acme_middleware.tls.gunicorn`, ``uvicorn`` and ``hypercorn`` keep what those
    servers set, such as HTTP/2. Here, ``set_alpn_protocols``, ``set_ciphers`` and the CAs of client certificates hold for all
    certificates when they are set before the first handshake; for anything else there is :func:`context_from`.

    Args:
        source: Where the certificates are. A folder: PUBLISH_DIR, or certbot's ``/etc/letsencrypt/live``. A pair of paths:
            certificate with its chain, and key. The URL of a store, such as ``file:///var/lib/acme-middleware`` or
            ``postgresql+psycopg://...``, whose ENCRYPTION_KEYS come from where the commands have them; or a store.
        check_every: How often the source is looked at, in seconds. A change of files is seen by the first handshake after
            that; a store is asked by a thread in each process, from the first handshake on.
        default: The name whose certificate is shown to a client that asks for no name, or for one that no certificate is
            for; without it, the first one by its name.

    Raises:
        ConfigurationError: ``check_every`` is no positive number, or the source is none.
        StoreMisconfigured: the URL is wrong, or its driver is missing. No store is connected to here.
    """

    def __new__(cls, source: Where, *, check_every: float = CHECK_EVERY, default: str | None = None) -> TLSContext:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, source: Where, *, check_every: float = CHECK_EVERY, default: str | None = None) -> None:
        self._given = (source, check_every, default)
        self._alpn: list[str] = []
        self._cipher_list = ""
        self.sni_callback = Served(
            open_source(source, check_every), self._with_same_settings, check_every=check_every, default=default
        ).on_hello

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), *self._given), (self._alpn, self._cipher_list)

    def __setstate__(self, state: tuple[list[str], str]) -> None:
        alpn, ciphers = state
        if alpn:
            self.set_alpn_protocols(alpn)
        if ciphers:
            self.set_ciphers(ciphers)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        self._alpn = list(alpn_protocols)
        super().set_alpn_protocols(self._alpn)

    def set_ciphers(self, cipherlist: str, /) -> None:
        super().set_ciphers(cipherlist)
        self._cipher_list = cipherlist

    def _with_same_settings(self) -> ssl.SSLContext:
        # Only what OpenSSL reads from the context that a handshake is moved into: versions, options and whether a client
        # needs a certificate stay as they were when it began in this one.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self._alpn:
            context.set_alpn_protocols(self._alpn)
        if self._cipher_list:
            context.set_ciphers(self._cipher_list)  # it may set the security level, too
        for authority in self.get_ca_certs(binary_form=True):
            context.load_verify_locations(cadata=authority)
        return context


def _again(kind: type[TLSContext], source: Where, check_every: float, default: str | None) -> TLSContext:
    return kind(source, check_every=check_every, default=default)
