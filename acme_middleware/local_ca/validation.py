"""Validation by http-01 (RFC 8555 section 8.3), in threads of its own, from several perspectives."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from acme_middleware.local_ca import jws
from acme_middleware.local_ca.authorizations import settle
from acme_middleware.local_ca.call import Desk
from acme_middleware.local_ca.fetch import LARGEST_BODY, Fetched, Sockets, Unfetched, fetch
from acme_middleware.local_ca.model import Challenge
from acme_middleware.local_ca.problems import Problem

logger = logging.getLogger(__name__)

PATH = "/.well-known/acme-challenge/"
WORKERS = 64
WHITE_SPACE = b" \t\r\n\v\f"

Judge = Callable[[Challenge], Problem | None]


class Validator:
    """
    Validates challenges.

    Args:
        judge: Called once the first perspective has seen the right answer; what it returns ends the validation.
    """

    def __init__(self, desk: Desk, judge: Judge) -> None:
        self.desk, self.judge = desk, judge
        self._sockets = Sockets()
        self._challenges = ThreadPoolExecutor(WORKERS, thread_name_prefix="local-ca-validation")
        self._perspectives = ThreadPoolExecutor(WORKERS, thread_name_prefix="local-ca-perspective")

    def begin(self, challenge: Challenge) -> None:
        """Validate a challenge; its status says how it ended."""
        with contextlib.suppress(RuntimeError):  # the CA is being stopped: nobody will ask how this ends
            self._challenges.submit(self._run, challenge)

    def stop(self) -> None:
        """End what is being validated: a site that does not answer must not keep the CA."""
        self._sockets.end()
        for pool in (self._challenges, self._perspectives):
            pool.shutdown(cancel_futures=True)

    def _run(self, challenge: Challenge) -> None:
        try:
            self.desk.wait(self.desk.settings.validation_delay)
            problem = self._validate(challenge)
        except Exception:
            # Of a validation nobody reads the future: a challenge must not stay as it is for ever.
            logger.exception("validating %s", challenge.authorization.identifier.value)
            problem = Problem("serverInternal", "the validation has failed in the CA: its log says more")
        name = challenge.authorization.identifier.value
        logger.info("%s %s", name, f"is not validated: {problem.detail}" if problem else "is validated")
        with self.desk.state.lock:
            settle(challenge, problem, self.desk)

    def _validate(self, challenge: Challenge) -> Problem | None:
        with self.desk.state.lock:
            expected = f"{challenge.token}.{jws.thumbprint(challenge.authorization.account.key)}".encode()
        name = challenge.authorization.identifier.value
        url = f"http://{f'[{name}]' if ':' in name else name}{PATH}{challenge.token}"
        problem = self._look(url, expected) or self.judge(challenge)
        others = range(1, self.desk.settings.perspectives) if problem is None else ()
        looks = [self._perspectives.submit(self._look, url, expected) for _ in others]
        # All of them end before the challenge does, so that none asks for a token that is gone by right.
        later = [problem for look in looks if (problem := look.result())]
        if later:
            problem = Problem(later[0].type, f"during secondary validation: {later[0].detail}")
        return problem

    def _look(self, url: str, expected: bytes) -> Problem | None:
        settings, rules = self.desk.settings, self.desk.rules
        try:
            fetched = fetch(
                url,
                settings.resolve,
                timeout=settings.validation_timeout,
                sockets=self._sockets,
                follow=rules.kept("8555-8.3-redirects"),
            )
        except Unfetched as error:
            return error.problem
        if fetched.status != 200 and rules.kept("8555-8.3-status-200"):
            return _wrong(url, fetched, str(fetched.status))
        if len(fetched.start) >= LARGEST_BODY:
            return _wrong(url, fetched, f"{LARGEST_BODY} bytes and more, which is no key authorization")
        body = fetched.start.rstrip(WHITE_SPACE) if rules.kept("8555-8.3-white-space") else fetched.start
        if body != expected and rules.kept("8555-8.3-key-authorization"):
            return _wrong(url, fetched, f"{body.decode('ascii', 'replace')!r}, and not the key authorization")
        return None


def _wrong(url: str, fetched: Fetched, answer: str) -> Problem:
    return Problem("unauthorized", f"{fetched.place}: invalid response from {url}: {answer}")
