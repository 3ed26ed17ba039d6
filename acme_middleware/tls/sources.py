"""
Where certificates for a Python server come from: a folder, a pair of files, a store.

Looking is cheap and is done again and again; a key is read only when its certificate is to be served.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import ssl
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias, cast

from acme_middleware.deploy import snapshot
from acme_middleware.errors import ConfigurationError
from acme_middleware.stores.base import Store

__all__ = ["Offer", "Source", "Where", "named_in", "open_source"]

Path: TypeAlias = str | os.PathLike[str]

log = logging.getLogger("acme_middleware.tls")

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
NOT_THERE = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class Offer:
    """
    A certificate that a source has.

    Attributes:
        key: What the source knows it by.
        name: What people know it by.
        names: The names that it is for, in lower case.
        version: Another one: another certificate, or the same in another place.
        load: Gives it and its key to a new context. Raises where that cannot be done now.
    """

    key: str
    name: str
    names: tuple[str, ...]
    not_after: datetime
    version: Hashable
    load: Callable[[ssl.SSLContext], None] = field(repr=False, compare=False)


class Source(Protocol):
    """
    Where certificates are. One of your own can be given wherever a folder can.

    ``look`` returns all there are, by their keys; ``known`` is what it returned before, to take unchanged offers from. It is
    called in the middle of a handshake, by one thread at a time; what it raises is logged, and what is served stays.
    """

    def look(self, known: Mapping[str, Offer]) -> Mapping[str, Offer]: ...


Where: TypeAlias = Path | tuple[Path, Path] | Store | Source


def open_source(where: Where, check_every: float) -> Source:
    """
    Open what :class:`acme_middleware.tls.TLSContext` takes.

    Raises:
        ConfigurationError: it is nothing of that, or ``check_every`` is no positive number.
        StoreMisconfigured: a store's URL is wrong.
    """
    if not 0 < check_every < float("inf"):
        raise ConfigurationError(f"check_every is {check_every!r}; it must be a positive number of seconds")
    if isinstance(where, tuple) and len(where) == 2:
        return PairSource(*where)
    is_url = isinstance(where, str) and SCHEME.match(where)
    if is_url or hasattr(where, "scan"):
        from acme_middleware.tls.stored import StoreSource, open_sealed

        return StoreSource(open_sealed(cast(str, where)) if is_url else cast(Store, where), check_every)
    if isinstance(where, str | os.PathLike):
        return FolderSource(where)
    if hasattr(where, "look"):
        return where
    raise ConfigurationError(
        f"certificates cannot come from an object of type {type(where).__name__}",
        hint="give a folder, a pair (certificate, key) of paths, the URL of a store, or a store",
    )


class FolderSource:
    """The certificates of a PUBLISH_DIR, or of certbot's ``live``: a folder for each."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.abspath(root)
        self._said: dict[str, str] = {}

    def __str__(self) -> str:
        return self._root

    def look(self, known: Mapping[str, Offer]) -> Mapping[str, Offer]:
        found = {}
        for name in _listed(self._root):
            if not name.startswith("."):
                offer = self._offer(name, known.get(name))
                if offer is not None:
                    found[name] = offer
        return found

    def _offer(self, name: str, known: Offer | None) -> Offer | None:
        for folder in (f"{self._root}/{name}/current", f"{self._root}/{name}"):
            try:
                offer = _of_files(f"{folder}/fullchain.pem", f"{folder}/privkey.pem", known, name=name, folder=folder)
            except OSError as error:
                if error.errno not in NOT_THERE:
                    return self._kept(name, known, f"cannot read {error.filename}: {error.strerror}")
            except ValueError:
                # Somebody may be writing it.
                return self._kept(name, known, f"{folder}/fullchain.pem is no certificate in PEM")
            else:
                self._said.pop(name, None)
                return offer
        if known is not None and os.path.isdir(f"{self._root}/{name}"):
            # Who renews may unlink a file and then make it anew. Only a folder that is gone says that a certificate is.
            return self._kept(name, known, f"{self._root}/{name} has no certificate with its key")
        self._said.pop(name, None)
        return None

    def _kept(self, name: str, known: Offer | None, problem: str) -> Offer | None:
        """What was there before, for the one that cannot be read; the others are looked at as ever."""
        if self._said.get(name) != problem:
            self._said[name] = problem
            log.warning(
                "%s: %s; %s, it is tried again by itself",
                name,
                problem,
                "the old certificate stays" if known else "it is left out",
            )
        return known


class PairSource:
    """One certificate in two files, or in one that holds both."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = os.path.abspath(certificate), os.path.abspath(key)

    def __str__(self) -> str:
        return self._certificate

    def look(self, known: Mapping[str, Offer]) -> Mapping[str, Offer]:
        before = known.get(self._certificate)
        try:
            offer = _of_files(self._certificate, self._key, before, name=self._certificate)
        except ValueError as error:
            raise ConfigurationError(f"{self._certificate} is no certificate in PEM: {error}") from error
        except OSError as error:
            if error.errno in NOT_THERE:
                return {}
            raise
        return {self._certificate: offer}


def named_in(certificate: bytes) -> tuple[tuple[str, ...], datetime]:
    """
    What the first certificate of a PEM is for, in lower case, and when it expires.

    Raises:
        ValueError: it cannot be read.
    """
    from cryptography import x509  # when there is a certificate to read; who serves none yet starts faster

    try:
        read = x509.load_pem_x509_certificate(certificate)
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return (), read.not_valid_after_utc
    except (x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise ValueError(str(error)) from error
    of_hosts = (name.lower() for name in names.get_values_for_type(x509.DNSName))
    return (*of_hosts, *map(str, names.get_values_for_type(x509.IPAddress))), read.not_valid_after_utc


def _of_files(certificate: str, key: str, known: Offer | None, *, name: str, folder: str | None = None) -> Offer:
    # Two stat calls and no resolving of links: a folder may have ten thousand certificates, and this is done every second.
    version = tuple((found.st_dev, found.st_ino, found.st_mtime_ns) for found in (os.stat(certificate), os.stat(key)))
    if known is not None and known.version == version:
        return known
    if folder is not None:
        # Of one version both: the link that leads to them may turn between the first and the second.
        real = os.path.realpath(folder, strict=True)
        certificate, key = (real + path.removeprefix(folder) for path in (certificate, key))
    names, not_after = named_in(snapshot._read(certificate))

    def load(context: ssl.SSLContext) -> None:
        # Without patience: a server's event loop must not wait for somebody who writes slowly, and looks again anyway.
        snapshot.read(certificate, key, patience=0.0).load_into(context)

    # The folder of *.example.com is _.example.com, as deploy.publish has it.
    return Offer(name, "*" + name[1:] if name.startswith("_.") else name, names, not_after, version, load)


def _listed(root: str) -> list[str]:
    try:
        return os.listdir(root)
    except FileNotFoundError:
        return []
