"""``renew --dry-run``: every certificate tried as it would be renewed, with nothing saved, published or counted."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from acme_middleware import events
from acme_middleware.errors import AcmeMiddlewareError, StoreMisconfigured
from acme_middleware.issuance import plan
from acme_middleware.issuance.lineages import open_state, open_tokens
from acme_middleware.issuance.plan import Item
from acme_middleware.issuance.results import Result
from acme_middleware.options import Options
from acme_middleware.stores.base import ChallengeSource, Store

logger = logging.getLogger(__name__)


def rehearse(options: Options, names: Sequence[str] = (), *, listener: events.Listener = events.log) -> list[Result]:
    """
    Try the renewal of certificates, due or not, one after the other.

    Args:
        names: Those to try; all by default.

    Returns:
        What became of each: "tried", with what was tried as the reason, "failed" or "damaged".

    Raises:
        ConfigurationError, NoSuchCertificate, StoreUnavailable, StoreMisconfigured: as
            :func:`acme_middleware.issuance.sweep.sweep`.
    """
    store = open_state(options, writable=None)
    found = plan.chosen(plan.items(options, store), names)
    if not found:
        store.check(writable=False)
        return []
    stores = (store, open_tokens(options))
    return [_try(item, options, listener, stores) for item in found]


def _try(item: Item, options: Options, listener: events.Listener, stores: tuple[Store, ChallengeSource]) -> Result:
    from acme_middleware.issuance.dry_run import dry_run
    from acme_middleware.issuance.issuer import Issuer

    if item.error is not None:
        action = "damaged" if isinstance(item.error, StoreMisconfigured) else "failed"
        return Result(item.name, action, item.record, str(item.error), item.error)
    try:
        issuer = Issuer(plan.options_of(item, options), listener=listener, stores=stores)
        done = dry_run(issuer, item.names, name=item.name, drop_names=item.declared is not None)
    except AcmeMiddlewareError as error:
        return Result(item.name, "failed", item.record, str(error), error)
    except Exception as error:
        logger.exception("%s could not be tried", item.name)
        return Result(item.name, "failed", item.record, f"unexpected {type(error).__name__}: {error}")
    return Result(item.name, "tried", item.record, "; ".join(done))
