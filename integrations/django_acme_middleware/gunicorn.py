"""
Renewal inside of gunicorn's workers, by the site's settings. In ``gunicorn.conf.py``:

    from django_acme_middleware.gunicorn import post_worker_init, worker_exit
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acme_middleware.gunicorn import PostWorkerInit, WorkerExit, hooks_for

if TYPE_CHECKING:
    from acme_middleware.renewer import Renewer

__all__ = ["hooks", "post_worker_init", "worker_exit"]


def hooks(**how: Any) -> tuple[PostWorkerInit, WorkerExit]:
    """
    The hooks ``post_worker_init`` and ``worker_exit``, where something else than the settings is to be set.

    Args:
        how: ``every``, ``jobs``, ``first`` and ``ttl`` of :class:`acme_middleware.renewer.Renewer`.
    """

    def make(worker: Any) -> Renewer:
        # Not sooner: gunicorn reads its configuration before wsgi.py says which settings there are.
        from django_acme_middleware.renewal import renewer

        return renewer(**how)

    return hooks_for(make)


post_worker_init, worker_exit = hooks()
