"""
Renewal inside of gunicorn's workers: two hooks for gunicorn.conf.py.

    from acme_middleware.gunicorn import post_worker_init, worker_exit

takes the options from ACME_* in the environment and from /etc/acme-middleware.toml;

    from acme_middleware.gunicorn import hooks

    post_worker_init, worker_exit = hooks(store="file:///var/lib/acme-middleware", email="ops@example.com", agree_tos=True)

takes them from here. For Django and Flask there are hooks that read the site's settings: ``django_acme_middleware.gunicorn``
and ``flask_acme_middleware.gunicorn``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acme_middleware.renewer import Renewer

__all__ = ["hooks", "hooks_for", "post_worker_init", "worker_exit"]

PostWorkerInit = Callable[[Any], None]
WorkerExit = Callable[[Any, Any], None]


def hooks(**given: Any) -> tuple[PostWorkerInit, WorkerExit]:
    """
    The hooks ``post_worker_init`` and ``worker_exit`` with options of their own.

    One worker of all that share the store renews, the others stand by. It is begun in each worker when that has loaded the
    app, so that ``--preload`` and ``--reload`` change nothing.

    Args:
        given: The arguments of :class:`acme_middleware.renewer.Renewer`.

    Raises:
        ConfigurationError, StoreMisconfigured: when a worker starts: gunicorn does not run with wrong options.
    """

    def make(worker: Any) -> Renewer:
        from acme_middleware.renewer import Renewer

        return Renewer(**given)

    return hooks_for(make)


def hooks_for(make: Callable[[Any], Renewer]) -> tuple[PostWorkerInit, WorkerExit]:
    """
    The two hooks, with a renewer that is made when the worker has loaded the app.

    Args:
        make: Makes the renewer; its argument is gunicorn's worker, with the app as ``worker.wsgi``.
    """
    made: list[Renewer] = []

    def post_worker_init(worker: Any) -> None:
        renewer = make(worker)
        renewer.start()
        made.append(renewer)

    def worker_exit(server: Any, worker: Any) -> None:
        for renewer in made:
            renewer.stop()

    return post_worker_init, worker_exit


post_worker_init, worker_exit = hooks()
