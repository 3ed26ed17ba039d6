"""
Answer ACME challenges: what every adapter calls, whatever its framework.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from acme_middleware import challenge
from acme_middleware.challenge import Answer
from acme_middleware.lookup import DOWN, Lookup, Outcome
from acme_middleware.stores import open_challenges

if TYPE_CHECKING:
    from pathlib import Path

    from acme_middleware.stores.base import ChallengeSource, FetchLog

__all__ = ["Client", "Responder"]

Client = Callable[[Any], tuple[str, str]]
"""Reads from a request who asks: the address (the proxy's own, behind a proxy) and the User-Agent."""

AGENT_KEPT = 200
UNKNOWN_EVERY = 60.0
"""Seconds between two lines about unknown tokens: the path is public, and bots ask for many."""

HANDED_OVER_AGAIN = 60.0
"""Seconds after which a token that was fetched as often as is recorded may be recorded again: it may be a new one by then."""

ADDRESS_SHOWN, TOKEN_SHOWN = 64, 160

logger = logging.getLogger(__name__)


def _as_given(request: tuple[str, str] | None) -> tuple[str, str]:
    return request or ("", "")


class Responder:
    """
    Answers requests for tokens out of a challenge store.

    Args:
        store: Where the tokens are: a URL such as ``file:///var/lib/acme-middleware`` or ``webroot:///var/www/site``, a
            folder's Path, or an object with ``blocking`` and ``key_authorization(token)``.
        on_unknown: What becomes of a token that the store does not have: ``"pass"`` lets the app answer, since another ACME
            client may be at work there; ``"404"`` answers.
        client: Tells who asks, for the log; called only where that is recorded.

    Attributes:
        waits: Whether the store may wait for a network or a lock. Where it does not, :meth:`respond` may be called on an event
            loop too, and is quicker there.

    Raises:
        StoreMisconfigured: The URL's scheme is unknown, or its driver is missing. A store that is down is not an error here.
        ConfigurationError: ``on_unknown`` is neither.
    """

    def __init__(self, store: str | Path | ChallengeSource, *, on_unknown: str = "pass", client: Client = _as_given) -> None:
        if on_unknown not in ("pass", "404"):
            from acme_middleware.errors import ConfigurationError

            raise ConfigurationError(
                f'on_unknown is {on_unknown!r} but must be "pass" or "404"',
                hint='"pass" lets the app answer requests for tokens that are not ours',
                option="on_unknown",
            )
        self._source = open_challenges(store, option="store")
        self.waits = self._source.blocking
        self._lookup = Lookup(self._source)
        self._on_unknown, self._client = on_unknown, client
        # What isinstance(..., FetchLog) looks for, without the 2 ms that importing FetchLog costs every web worker.
        self._fetches = _Fetches(self._source, self._lookup, client) if hasattr(self._source, "log_fetch") else None

    def respond(self, method: str, path: str, request: Any = None) -> Answer | None:
        """
        Answer a request, or leave it to the app.

        Args:
            method: The request's method.
            path: Its path, percent-decoded, without the query and without root_path or SCRIPT_NAME.
            request: What ``client`` reads who asks from; by default the pair itself, or None.

        Returns:
            The answer, or None: pass the request on to the app.
        """
        token = challenge.requested_token(method, path)
        if token is None:
            return None
        outcome = self._lookup.fetch(token) if token else None
        return self._answer(method, path, token, outcome, request)

    async def respond_async(self, method: str, path: str, request: Any = None) -> Answer | None:
        """As :meth:`respond`, on an asyncio or trio event loop, which it does not block."""
        token = challenge.requested_token(method, path)
        if token is None:
            return None
        outcome = await self._lookup.fetch_async(token) if token else None
        return self._answer(method, path, token, outcome, request)

    def _answer(self, method: str, path: str, token: str, outcome: Outcome, request: Any) -> Answer | None:
        if outcome is None:
            _unknown().count(token, path, self._client(request)[0], passed=self._on_unknown == "pass")
            return challenge.not_found(method) if self._on_unknown == "404" else None
        if outcome is DOWN:
            return challenge.unavailable(method)
        if logger.isEnabledFor(logging.INFO):
            # %r: the User-Agent is the client's own text, and must not draw lines of its own into a log.
            address, agent = self._client(request)
            logger.info("answered challenge %s for %s (%.200r)", token, _shown(address), agent)
        if self._fetches is not None:
            self._fetches.log(token, request)
        return challenge.found(method, outcome)


class _Fetches:
    """Hands fetches over to a store that logs them; behind the answer, where that may wait."""

    def __init__(self, source: ChallengeSource, lookup: Lookup, client: Client) -> None:
        from acme_middleware.stores.base import FETCHES_KEPT, Fetch

        self._log, self._lookup, self._make, self._most = cast("FetchLog", source), lookup, Fetch, FETCHES_KEPT
        self._client, self._failed = client, False
        self._handed_over: dict[str, int] = {}
        self._until = float("-inf")

    def log(self, token: str, request: Any) -> None:
        # The store keeps the first ones only. Who fetches one token on and on shall not make it look for that each time.
        now = time.monotonic()
        if now >= self._until:
            self._handed_over, self._until = {}, now + HANDED_OVER_AGAIN
        count = self._handed_over.get(token, 0)
        if count >= self._most:
            return
        self._handed_over[token] = count + 1
        address, agent = self._client(request)
        fetch = self._make(time.time(), address, agent[:AGENT_KEPT])

        def write() -> None:
            try:
                self._log.log_fetch(token, fetch)
            except Exception as error:  # noqa: BLE001  a log of fetches is a help for people: the answer goes out without it
                self._report(f"{type(error).__name__}: {error}")

        if not self._lookup.source.blocking:
            write()
        elif not self._lookup.later(write):
            self._report("too many wait to be written")

    def _report(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            logger.warning("fetches of challenges are not recorded (said once): %s", reason)


class _Unknown:
    """
    Counts fetches of unknown tokens, and says how many there were: at once for the first, then once a minute at most.

    No timer: a count is said by the fetch that comes when its minute is over.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._fetches = self._malformed = 0
        self._since = 0.0
        self._said_at = float("-inf")
        self._latest: tuple[str, str] | None = None

    def count(self, token: str, path: str, address: str, *, passed: bool) -> None:
        now = time.monotonic()
        with self._lock:
            self._since = self._since if self._fetches else now
            self._fetches += 1
            self._malformed += not token
            if token:  # what a CA may have asked for is not hidden by what bots try
                self._latest = token, address
            if now - self._said_at < UNKNOWN_EVERY:
                return
            fetches, malformed, latest = self._fetches, self._malformed, self._latest
            seconds, self._said_at = now - self._since, now
            self._fetches = self._malformed = 0
            self._latest = None
        what = "1 fetch of an unknown token" if fetches == 1 else f"{fetches} fetches of unknown tokens in {seconds:.0f} s"
        if malformed:
            what += f", {malformed} malformed"
        # Never the text of a malformed one as it is: it could draw lines of its own into a log, or command a terminal.
        shown, asker = latest or (ascii(path[len(challenge.PREFIX) :][:TOKEN_SHOWN])[:TOKEN_SHOWN], address)
        after = "passed on to the app, where another ACME client may answer" if passed else "answered 404"
        logger.warning("%s; the latest%s, %s, from %s; %s", what, " token" if latest else "", shown, _shown(asker), after)


_unknown_here: _Unknown | None = None


def _unknown() -> _Unknown:
    """The count of this process, however many responders it has: a fork must not share it, nor a lock that is held."""
    global _unknown_here  # noqa: PLW0603
    if _unknown_here is None or _unknown_here.pid != os.getpid():
        _unknown_here = _Unknown()
    return _unknown_here


def _shown(address: str) -> str:
    """A client's address for the log. Behind a trusted proxy it may come from a header: any text at all."""
    if not address:
        return "an unknown address"
    plain = len(address) <= ADDRESS_SHOWN and address.isascii() and address.isprintable()
    return address if plain else ascii(address[:ADDRESS_SHOWN])
