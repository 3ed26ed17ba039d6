"""Renewal inside of an ASGI server, begun and ended by the lifespan, whether the app has one itself or, as Django, has none."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acme_middleware.renewer import Renewer

__all__ = ["RenewingApp", "stop_off_the_loop"]

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)


class RenewingApp:
    """
    Wrap an ASGI app so that certificates are renewed for as long as a server runs it.

        app = RenewingApp(app, store="file:///var/lib/acme-middleware", email="ops@example.com", agree_tos=True)

    One worker of all that share the store renews, the others stand by: see :class:`acme_middleware.renewer.Renewer`, whose
    arguments these are. The lifespan of the app goes on to work; for an app without one, such as Django's, the server's
    questions are answered here. Everything else goes to the app untouched. It needs a server that sends the lifespan:
    uvicorn (not with ``--lifespan off``), hypercorn and granian do, daphne does not.

    Args:
        app: The app to wrap.
        renewer: A renewer that was made already, in place of ``given``.
        given: The arguments of :class:`acme_middleware.renewer.Renewer`.

    Raises:
        ConfigurationError, StoreMisconfigured: as Renewer.
    """

    def __init__(self, app: App, *, renewer: Renewer | None = None, **given: Any) -> None:
        if renewer is None:
            from acme_middleware.renewer import Renewer

            renewer = Renewer(**given)
        self.app, self.renewer = app, renewer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = answered = False

        async def ask() -> Any:
            nonlocal asked
            message = await receive()
            asked = True
            if message["type"] == "lifespan.shutdown":
                await stop_off_the_loop(self.renewer)
            return message

        async def answer(message: Any) -> None:
            nonlocal answered
            answered = True
            if message["type"] == "lifespan.startup.complete":
                self.renewer.start()
            await send(message)

        try:
            await self.app(scope, ask, answer)
        except Exception as error:
            if answered:
                self.renewer.stop(0)
                raise
            # What a server takes for "no lifespan", too: the app neither said that it has started nor that it could not.
            logger.info("the app has no lifespan, the one for renewal stands in (%s: %s)", type(error).__name__, error)
        if not answered:
            if not asked:
                await receive()
            await answer({"type": "lifespan.startup.complete"})
            await ask()
            await answer({"type": "lifespan.shutdown.complete"})


async def stop_off_the_loop(renewer: Renewer) -> None:
    """Stop a renewer in a thread: the app's own tasks, which end now too, are not kept waiting."""
    try:
        import asyncio

        asyncio.get_running_loop()
    except RuntimeError:
        import trio

        await trio.to_thread.run_sync(renewer.stop)
    else:
        await asyncio.to_thread(renewer.stop)
