"""
A conversation with one CA: its directory, the network to it, and what can be asked there without an account.

A sweep has one for each thread and CA. What kept it from beginning is remembered for a minute, so that a thousand names do not
each ask a CA that is down.
"""

from __future__ import annotations

import copy
import threading
import time
from datetime import datetime
from pathlib import Path

from acme_middleware.authorities import Authority
from acme_middleware.errors import AcmeMiddlewareError, CARefused, CAUnreachable, ClockOff, ConfigurationError
from acme_middleware.issuance import renewal
from acme_middleware.issuance.records import RenewalWindow
from acme_middleware.protocol import directory as acme_directory
from acme_middleware.protocol import pace, renewal_info
from acme_middleware.protocol.network import Network

CLOCK_LIMIT = 3600.0
"""Seconds that our clock may differ from the CA's. Let's Encrypt backdates certificates by an hour: within that they work."""

REMEMBERED = 60.0
"""Seconds for which a CA that could not be spoken to is not tried again by the others of a sweep."""


class Conversation:
    """
    The network to a CA and its directory. For one thread at a time.

    Args:
        ca_bundle: The roots to trust for the CA's own HTTPS, None: the system's.

    Raises:
        ConfigurationError: the CA's URL is no directory.
        ClockOff: this machine's clock is further than an hour from the CA's.
        CAUnreachable, CARefused, UnexpectedAnswer: as the protocol does.
    """

    def __init__(self, authority: Authority, ca_bundle: Path | None) -> None:
        self.authority = authority
        try:
            per_second = authority.limits and authority.limits.requests_per_second
            self.network = Network(ca_bundle=ca_bundle, pace=pace.shared(authority.id, per_second) if per_second else None)
            try:
                self.directory = acme_directory.fetch(self.network, authority.directory)
                self._check_clock()
            except BaseException:
                self.close()
                raise
        except (CAUnreachable, ConfigurationError) as error:
            if not authority.when_down:
                raise
            url = authority.directory
            what = f"{authority.title} cannot be asked at {url}: {error}"
            raise CAUnreachable(what, hint=authority.when_down, url=url) from error

    def _check_clock(self) -> None:
        ahead = self.directory.clock_ahead
        if ahead is not None and abs(ahead) > CLOCK_LIMIT:
            raise ClockOff(
                f"this machine's clock is {abs(ahead) / 3600:.1f} h {'ahead of' if ahead > 0 else 'behind'} the CA's",
                hint="set the clock (timedatectl set-ntp true), then run the same command again; nothing was ordered",
                seconds=ahead,
            )

    def renewal_window(self, ari_id: str, not_after: datetime, previous: RenewalWindow | None = None) -> RenewalWindow | None:
        """
        Ask when to renew a certificate (RFC 9773), and draw a moment in the window that the CA says.

        Args:
            ari_id: What the CA calls the certificate.
            not_after: The certificate's end.
            previous: The window of before; its moment is kept where it is still the same.

        Returns:
            None where the CA says nothing about any certificate.

        Raises:
            CAUnreachable, CARefused, UnexpectedAnswer: it does not say now, or says what makes no sense.
        """
        if not self.directory.renewal_info or not ari_id:
            return None
        info = renewal_info.fetch_by_id(self.network, self.directory, ari_id, not_after)
        return renewal.draw(info, previous)

    def close(self) -> None:
        """Give the connections back."""
        self.network.session.close()


class Conversations:
    """The conversations of the threads of one sweep. A context manager: at its end the connections are given back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[int, str, Path | None], Conversation] = {}
        self._failed: dict[tuple[str, Path | None], tuple[float, AcmeMiddlewareError]] = {}

    def __enter__(self) -> Conversations:
        return self

    def __exit__(self, *_: object) -> None:
        for conversation in self._open.values():
            conversation.close()

    def open(self, authority: Authority, ca_bundle: Path | None) -> Conversation:
        """
        This thread's conversation with a CA.

        Raises:
            AcmeMiddlewareError: as :class:`Conversation`, or as it did for another thread in the last minute.
        """
        what = (authority.id, ca_bundle)
        mine = (threading.get_ident(), *what)
        with self._lock:
            if mine in self._open:
                return self._open[mine]
            since, before = self._failed.get(what, (0.0, None))
            if before is not None and time.monotonic() - since < REMEMBERED:
                raise copy.copy(before)  # one exception in several threads would mix their tracebacks
        try:
            conversation = Conversation(authority, ca_bundle)
        except (CAUnreachable, CARefused, ClockOff, ConfigurationError) as error:
            with self._lock:
                self._failed[what] = (time.monotonic(), copy.copy(error))  # its hint is about this one certificate soon
            raise
        with self._lock:
            self._open[mine] = conversation
        return conversation
