"""A challenge store over several web roots at once, for names whose sites have folders of their own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from acme_middleware.stores.challenges import WebrootChallengeStore

__all__ = ["WebrootsChallengeStore"]


class WebrootsChallengeStore:
    """
    Puts every token into every root.

    Who presents a token does not say for which name it is; that a site can show the token of another name, which anybody may
    fetch there, does no harm, and redirects from one of the sites to another one work.

    Args:
        roots: The folders that web servers serve as ``/``. A relative one is resolved now.
    """

    blocking = False

    def __init__(self, roots: Iterable[str | Path]) -> None:
        # A root that is named twice is one.
        self._roots = [WebrootChallengeStore(root) for root in dict.fromkeys(Path(root).resolve() for root in roots)]

    def __repr__(self) -> str:
        return f"WebrootsChallengeStore({[str(root.root) for root in self._roots]!r})"

    def key_authorization(self, token: str) -> str | None:
        """What all roots answer; None where one of them would not."""
        answers = {root.key_authorization(token) for root in self._roots}
        return answers.pop() if len(answers) == 1 else None

    def present(self, token: str, key_authorization: str, *, ttl: float) -> None:
        for root in self._roots:
            root.present(token, key_authorization, ttl=ttl)

    def remove(self, token: str) -> None:
        for root in self._roots:
            root.remove(token)
