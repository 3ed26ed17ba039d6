"""A Flask app whose config has the options."""

import json
import logging
import os

from flask import Flask
from flask_acme_middleware import Acme

logging.basicConfig(level=logging.INFO, format="LOG %(process)d %(levelname)s %(name)s %(message)s")


def create_app():
    app = Flask(__name__)
    options = json.loads(os.environ["RENEWING"])
    app.config.update(
        {f"ACME_{name.upper()}": value for name, value in options.items() if name not in ("every", "first", "ttl")}
    )
    Acme().init_app(app)

    @app.get("/")
    def page():
        return str(os.getpid())

    return app
