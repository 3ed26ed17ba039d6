"""Renewal for as long as a Tornado server runs."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from tornado import autoreload
from tornado.ioloop import IOLoop, PeriodicCallback

from acme_middleware.renewer import Renewer

__all__ = ["Renewal"]

LOOK_EVERY = 60_000.0
"""Milliseconds."""


class Renewal:
    """
    Renew certificates for as long as the event loop of this process runs.

        async def main():
            HTTPServer(AcmeRouter(app, store=STORE), xheaders=True).listen(8000)
            with Renewal(store=STORE, email="ops@example.com", agree_tos=True):
                await asyncio.Event().wait()

    Looking and renewing take seconds and wait for networks: that is done in a thread, never on the loop. A PeriodicCallback
    sees to it that the thread runs. It lives on the loop, so that of a server that forks each process has its own, and
    the parent, which serves nothing, has none. One process of all that share the store renews, the others stand by.

    Args:
        given: The arguments of :class:`acme_middleware.renewer.Renewer`.

    Raises:
        ConfigurationError, StoreMisconfigured: as Renewer.
    """

    def __init__(self, **given: Any) -> None:
        self.renewer = Renewer(**given)
        self._callback = PeriodicCallback(self._begin, LOOK_EVERY)
        self._is_hooked = False

    def start(self) -> None:
        """Begin when the event loop of this process runs; call it after the server has forked."""
        self._callback.start()
        IOLoop.current().add_callback(self._begin)
        if not self._is_hooked:
            # Autoreload replaces the program and keeps the process: nobody could see that the leader is gone.
            autoreload.add_reload_hook(self.stop)
            self._is_hooked = True

    def stop(self) -> None:
        """End; a name that is being renewed has five seconds to get to its end."""
        self._callback.stop()
        self.renewer.stop()

    def _begin(self) -> None:
        if self._callback.is_running():
            self.renewer.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.stop()
