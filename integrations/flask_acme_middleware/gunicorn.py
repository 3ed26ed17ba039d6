"""
Renewal inside of gunicorn's workers, by the app's config. In ``gunicorn.conf.py``:

    from flask_acme_middleware.gunicorn import post_worker_init, worker_exit
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acme_middleware.errors import ConfigurationError
from acme_middleware.gunicorn import PostWorkerInit, WorkerExit, hooks_for

if TYPE_CHECKING:
    from acme_middleware.renewer import Renewer

__all__ = ["hooks", "post_worker_init", "worker_exit"]


def hooks(**how: Any) -> tuple[PostWorkerInit, WorkerExit]:
    """
    The hooks ``post_worker_init`` and ``worker_exit``, where something else than the config is to be set.

    Args:
        how: ``every``, ``jobs``, ``listener``, ``first`` and ``ttl`` of :class:`acme_middleware.renewer.Renewer`.

    Raises:
        ConfigurationError: when a worker starts, and what gunicorn serves is not a Flask app itself.
    """

    def make(worker: Any) -> Renewer:
        from flask import Flask

        from flask_acme_middleware.renewal import renewer

        if not isinstance(worker.wsgi, Flask):
            raise ConfigurationError(
                f"gunicorn serves a {type(worker.wsgi).__name__}, which is not the Flask app itself",
                hint="wrap app.wsgi_app instead of app; or use acme_middleware.gunicorn.hooks_for(lambda worker: renewer(app))",
            )
        return renewer(worker.wsgi, **how)

    return hooks_for(make)


post_worker_init, worker_exit = hooks()
