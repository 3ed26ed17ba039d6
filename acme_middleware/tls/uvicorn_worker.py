"""uvicorn's worker for gunicorn, with the ``ssl_context`` hook of gunicorn, which it would pass over."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable
from typing import Any

try:
    from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]
except ModuleNotFoundError:
    with warnings.catch_warnings():
        # It is to go one day, and until then it is what people have.
        warnings.simplefilter("ignore", DeprecationWarning)
        from uvicorn.workers import UvicornWorker

__all__ = ["TLSWorker"]


class TLSWorker(UvicornWorker):  # type: ignore[misc]
    """
    A worker class for gunicorn.conf.py, beside :func:`acme_middleware.tls.gunicorn.ssl_context_from`:

        worker_class = "acme_middleware.tls.uvicorn_worker.TLSWorker"

    It needs uvicorn 0.47 or newer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.config.ssl_context_factory = self._from_gunicorn

    def _from_gunicorn(self, config: Any, default_factory: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        context: ssl.SSLContext = self.cfg.ssl_context(self.cfg, default_factory)
        return context
