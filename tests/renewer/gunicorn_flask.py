"""gunicorn's configuration for the Flask app: the hooks that read its config."""

from flask_acme_middleware.gunicorn import hooks

post_worker_init, worker_exit = hooks(every=0.5, first=0.5, ttl=6.0)
