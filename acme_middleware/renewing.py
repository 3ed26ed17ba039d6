"""Renew from a program's own code: what a task queue or a scheduler calls."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from acme_middleware import events, options
from acme_middleware.errors import ConfigurationError
from acme_middleware.options import Options

if TYPE_CHECKING:
    from acme_middleware.issuance.sweep import Result

__all__ = ["renew"]


def renew(
    chosen: Options | None = None,
    *,
    names: Sequence[str] = (),
    jobs: int = 4,
    force: bool = False,
    listener: events.Listener = events.log,
    stop: threading.Event | None = None,
    every: float | None = None,
    **given: Any,
) -> list[Result]:
    """
    Renew the certificates that are due, and come back.

        renew(store="file:///var/lib/acme-middleware", email="ops@example.com", agree_tos=True)

    Call it from a job of celery beat, APScheduler, Django Tasks and the like, as often as a timer would run
    ``acme-middleware renew``: every 6 hours, or every hour for certificates of 6 days. Several may run at the same time, on
    any hosts. It is made for threads: from a coroutine call it by ``asyncio.to_thread``.

    Args:
        given: The options, by their names in lower case: ``store``, ``ca``, ``email`` and so on. What is not given comes from
            ACME_* in the environment, then from /etc/acme-middleware.toml.
        chosen: All options at once, in place of ``given``.
        names: The certificates to look at; without any, all.
        jobs: How many are renewed at the same time.
        force: Renew what is not due as well.
        listener: Is told what happens, in the threads that do it; by default the log.
        stop: When it is set, no further certificate is begun.
        every: How often you call this, in seconds: ``status`` then says when it has not been called for too long.

    Returns:
        What became of each certificate. Errors of one are in its result, and stop no other.

    Raises:
        ConfigurationError: an option is wrong, or no store is set.
        StoreMisconfigured, StoreUnavailable: from the store.
    """
    from acme_middleware.issuance.sweep import sweep

    if chosen is None:
        chosen = options.of_this_process(**given)
    if chosen.store is None:
        raise ConfigurationError("no store is set", hint="pass store=... or set ACME_STORE", option="store")
    return sweep(chosen, names=names, jobs=jobs, force=force, listener=listener, stop=stop, every=every)
