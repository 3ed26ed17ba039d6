"""Stores: the ones that are opened by a URL, and one of somebody else."""

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

from plain_apps_typed import pages

from acme_middleware.stores import open_challenges, open_store
from acme_middleware.stores.base import ChallengeSource, ChallengeStore, Expect, Record, Store
from acme_middleware.wsgi import AcmeMiddleware

store = open_store("file:///var/lib/acme-middleware")
assert_type(store, Store)
assert_type(store.get("certificates/example.com"), Record | None)
assert_type(store.put("key", b"value", expect=Expect.ABSENT), str)
assert_type(store.scan("certificates/"), Iterator[tuple[str, Record]])
store.put("key", "value")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

source = open_challenges(Path("/var/lib/acme-middleware"))
assert_type(source, ChallengeSource)
assert_type(source.key_authorization("token"), str | None)
source.present("token", "token.x", ttl=60)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
if isinstance(source, ChallengeStore):
    source.present("token", "token.x", ttl=60)
open_challenges(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Dictionary:
    """A challenge store by structure alone: it inherits nothing."""

    blocking = False

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}

    def key_authorization(self, token: str) -> str | None:
        return self.tokens.get(token)

    def present(self, token: str, key_authorization: str, *, ttl: float) -> None:
        self.tokens[token] = key_authorization

    def remove(self, token: str) -> None:
        self.tokens.pop(token, None)


class Forgetful:
    """Not one: it may not say that it has none."""

    blocking = False

    def key_authorization(self, token: bytes) -> str:
        return token.decode()


dictionary: ChallengeStore = Dictionary()
AcmeMiddleware(pages, store=Dictionary())
AcmeMiddleware(pages, store=Forgetful())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
