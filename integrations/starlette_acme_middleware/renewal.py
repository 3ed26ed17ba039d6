"""Renewal for as long as a Starlette or FastAPI app runs: a lifespan, alone or around the app's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from acme_middleware.asgi_renewal import stop_off_the_loop
from acme_middleware.renewer import Renewer

__all__ = ["renewing"]

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def renewing(lifespan: Lifespan | None = None, /, **given: Any) -> Lifespan:
    """
    A lifespan during which certificates are renewed.

        app = FastAPI(lifespan=renewing(store="file:///var/lib/acme-middleware", email="ops@example.com", agree_tos=True))

    or, around a lifespan of the app's own::

        app = Starlette(lifespan=renewing(lifespan, store="redis://cache/0"))

    One worker of all that share the store renews, the others stand by. Renewal begins when the app's own lifespan has
    started, and ends before that ends.

    Args:
        lifespan: The app's own: a function that takes the app and gives an async context manager.
        given: The arguments of :class:`acme_middleware.renewer.Renewer`.

    Raises:
        ConfigurationError, StoreMisconfigured: as Renewer.
    """
    renewer = Renewer(**given)

    @asynccontextmanager
    async def renewed(app: Any) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            state = None if lifespan is None else await stack.enter_async_context(lifespan(app))
            renewer.start()
            stack.push_async_callback(stop_off_the_loop, renewer)
            yield state

    return renewed
