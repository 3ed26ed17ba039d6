"""The stores and PUBLISH_DIR, tried as they will be used, before a certificate that could not be kept is ordered."""

from __future__ import annotations

import secrets
from pathlib import Path

from acme_middleware.errors import ConfigurationError, StoreMisconfigured
from acme_middleware.options import Options
from acme_middleware.stores.base import ChallengeSource, ChallengeStore, Store


def try_out(options: Options, store: Store, challenges: ChallengeSource, publish_dir: Path | None, lineage: str) -> None:
    """
    Write to all places, and read what can be read.

    Raises:
        StoreMisconfigured, StoreUnavailable, ConfigurationError, PublishFailed: as they say.
    """
    if (options.eab_kid is None) != (options.eab_hmac_key is None):
        raise ConfigurationError(
            "of ACME_EAB_KID and ACME_EAB_HMAC_KEY only one is set", hint="they come as a pair", option="eab_kid"
        )
    store.check(writable=True)
    if isinstance(challenges, ChallengeStore):
        token, answer = secrets.token_urlsafe(24), secrets.token_urlsafe(64)
        challenges.present(token, answer, ttl=60)
        read = challenges.key_authorization(token)
        challenges.remove(token)
        if read != answer:
            raise StoreMisconfigured(
                "the challenge store does not give back a token that was just presented",
                hint="reads must see what was written: no replica that lags, no transaction around the command",
            )
    if publish_dir is not None:
        from acme_middleware.deploy.publish import check_publishable

        check_publishable(publish_dir, lineage, owner=options.owner, group=options.group)
