"""
Answer ACME challenges: what every adapter calls, whatever its framework.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, cast

from acme_middleware import challenge
from acme_middleware.challenge import Answer
from acme_middleware.lookup import DOWN, Lookup, Outcome
from acme_middleware.stores import open_challenges

if TYPE_CHECKING:
    from pathlib import Path

    from acme_middleware.stores.base import ChallengeSource, FetchLog

__all__ = ["Responder"]

AGENT_KEPT = 200

logger = logging.getLogger(__name__)


class Responder:
    """
    Answers requests for tokens out of a challenge store.

    Args:
        store: Where the tokens are: a URL such as ``file:///var/lib/acme-middleware`` or ``webroot:///var/www/site``, a
            folder's Path, or an object with ``blocking`` and ``key_authorization(token)``.
        on_unknown: What becomes of a token that the store does not have: ``"pass"`` lets the app answer, since another ACME
            client may be at work there; ``"404"`` answers.

    Raises:
        StoreMisconfigured: The URL's scheme is unknown, or its driver is missing. A store that is down is not an error here.
        ConfigurationError: ``on_unknown`` is neither.
    """

    def __init__(self, store: str | Path | ChallengeSource, *, on_unknown: str = "pass") -> None:
        if on_unknown not in ("pass", "404"):
            from acme_middleware.errors import ConfigurationError

            raise ConfigurationError(
                f'on_unknown is {on_unknown!r} but must be "pass" or "404"',
                hint='"pass" lets the app answer requests for tokens that are not ours',
                option="on_unknown",
            )
        self._source = open_challenges(store)
        self._lookup = Lookup(self._source)
        self._on_unknown = on_unknown
        # What isinstance(..., FetchLog) looks for, without the 2 ms that importing FetchLog costs every web worker.
        self._fetch_log = cast("FetchLog", self._source) if hasattr(self._source, "log_fetch") else None
        self._fetch_log_failed = False

    def respond(self, method: str, path: str, *, address: str = "", agent: str = "") -> Answer | None:
        """
        Answer a request, or leave it to the app.

        Args:
            method: The request's method.
            path: Its path, percent-decoded, without the query and without root_path or SCRIPT_NAME.
            address: The client's address, for the log; the proxy's own, behind a proxy.
            agent: The client's User-Agent, for the log.

        Returns:
            The answer, or None: pass the request on to the app.
        """
        token = challenge.requested_token(method, path)
        if token is None:
            return None
        outcome = None if token == challenge.MALFORMED else self._lookup.fetch(token)
        return self._answer(method, token, outcome, address, agent)

    async def respond_async(self, method: str, path: str, *, address: str = "", agent: str = "") -> Answer | None:
        """As :meth:`respond`, on an asyncio or trio event loop, which it does not block."""
        token = challenge.requested_token(method, path)
        if token is None:
            return None
        outcome = None if token == challenge.MALFORMED else await self._lookup.fetch_async(token)
        return self._answer(method, token, outcome, address, agent)

    def _answer(self, method: str, token: str, outcome: Outcome, address: str, agent: str) -> Answer | None:
        if outcome is None:
            return challenge.not_found(method) if self._on_unknown == "404" else None
        if outcome is DOWN:
            return challenge.unavailable(method)
        # %r: the User-Agent is the client's own text, and must not draw lines of its own into a log.
        logger.info("answered challenge %s for %s (%.200r)", token, address or "an unknown address", agent)
        if self._fetch_log is not None:
            self._log_fetch(self._fetch_log, token, address, agent[:AGENT_KEPT])
        return challenge.found(method, outcome)

    def _log_fetch(self, log: FetchLog, token: str, address: str, agent: str) -> None:
        from acme_middleware.stores.base import Fetch

        fetch = Fetch(time.time(), address, agent)

        def write() -> None:
            try:
                log.log_fetch(token, fetch)
            except Exception as error:  # noqa: BLE001  a log of fetches is a help for people: the answer goes out without it
                self._report_fetch_log(f"{type(error).__name__}: {error}")

        if not self._source.blocking:
            write()
        elif not self._lookup.later(write):
            self._report_fetch_log("too many wait to be written")

    def _report_fetch_log(self, reason: str) -> None:
        if not self._fetch_log_failed:
            self._fetch_log_failed = True
            logger.warning("fetches of challenges are not recorded (said once): %s", reason)
