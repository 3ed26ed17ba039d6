"""Renewal for as long as an aiohttp app runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from acme_middleware.asgi_renewal import stop_off_the_loop
from acme_middleware.renewer import Renewer

__all__ = ["renewing"]


def renewing(**given: Any) -> Callable[[web.Application], AsyncIterator[None]]:
    """
    A cleanup context during which certificates are renewed: ``app.cleanup_ctx.append(renewing(store=..., agree_tos=True))``.

    One process of all that share the store renews, the others stand by. ``given`` are the arguments of
    :class:`acme_middleware.renewer.Renewer`, which raises ConfigurationError and StoreMisconfigured.
    """
    renewer = Renewer(**given)

    async def renewed(app: web.Application) -> AsyncIterator[None]:
        renewer.start()
        yield
        await stop_off_the_loop(renewer)

    return renewed
