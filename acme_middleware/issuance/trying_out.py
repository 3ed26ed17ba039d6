"""The stores and PUBLISH_DIR, tried as they will be used, before a certificate that could not be kept is ordered."""

from __future__ import annotations

import secrets
from pathlib import Path

from acme_middleware import authorities
from acme_middleware.errors import ConfigurationError, StoreMisconfigured
from acme_middleware.issuance.records import AccountRecord, account_key
from acme_middleware.options import Options
from acme_middleware.stores.base import ChallengeSource, ChallengeStore, Store


def try_out(options: Options, store: Store, challenges: ChallengeSource, publish_dir: Path | None, lineage: str) -> None:
    """
    Write to all places, and read what can be read.

    Raises:
        StoreMisconfigured, StoreUnavailable, ConfigurationError, PublishFailed: as they say.
    """
    if (options.eab_kid is None) != (options.eab_hmac_key is None) and not _is_bound(options, store):
        raise ConfigurationError(
            "of ACME_EAB_KID and ACME_EAB_HMAC_KEY only one is set", hint="they come as a pair", option="eab_kid"
        )
    store.check(writable=True)
    if isinstance(challenges, ChallengeStore):
        try_challenges(challenges)
    if publish_dir is not None:
        from acme_middleware.deploy.publish import check_publishable

        check_publishable(publish_dir, lineage, owner=options.owner, group=options.group)


def try_challenges(challenges: ChallengeStore) -> None:
    """
    Present a random token, read it back and remove it.

    Raises:
        StoreMisconfigured, StoreUnavailable: as the store says, or where it does not give the token back.
    """
    token, answer = secrets.token_urlsafe(24), secrets.token_urlsafe(64)
    challenges.present(token, answer, ttl=60)
    read = challenges.key_authorization(token)
    challenges.remove(token)
    if read != answer:
        raise StoreMisconfigured(
            "the challenge store does not give back a token that was just presented",
            hint="reads must see what was written: no replica that lags, no transaction around the command",
        )


def _is_bound(options: Options, store: Store) -> bool:
    """Whether the account of the key id is registered already: then its MAC key is of no use any more."""
    if options.eab_kid is None:
        return False
    keys = [account_key(authority.id, options.eab_kid) for authority in authorities.find_all(options.ca)]
    return any(account.url for account in (AccountRecord.read(store, where) for where in keys) if account is not None)
