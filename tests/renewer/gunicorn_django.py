"""gunicorn's configuration for the Django site: the hooks that read its settings."""

from django_acme_middleware.gunicorn import hooks

post_worker_init, worker_exit = hooks(every=0.5, first=0.5, ttl=6.0)
