"""gunicorn's configuration: the hooks with options of their own."""

import json
import os

from acme_middleware.gunicorn import hooks

post_worker_init, worker_exit = hooks(**json.loads(os.environ["RENEWING"]))
