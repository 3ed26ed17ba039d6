"""The extension: answers the CA's fetches before anything else of the app has a say, and adds ``flask acme``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask

from acme_middleware.errors import ConfigurationError, StoreMisconfigured
from acme_middleware.options import Options, read
from acme_middleware.stores import open_challenges
from acme_middleware.wsgi import AcmeMiddleware
from flask_acme_middleware.commands import AcmeGroup
from flask_acme_middleware.conf import Configuration
from flask_acme_middleware.errors import told

NAME = "acme_middleware"


class Acme:
    """
    Let a Flask app answer ACME challenges and get its own certificates.

        acme = Acme()


        def create_app():
            app = Flask(__name__)
            acme.init_app(app)
            return app

    Requests for ``/.well-known/acme-challenge/<token>`` are answered outside of all that the app does: host checks, redirects
    to HTTPS, logins, its routes. Any other request, and a token that the store does not know, goes on to the app; no other
    request costs a call of the store. ``flask acme`` has the commands of ``acme-middleware``.

    What has wrapped ``app.wsgi_app`` before stands inside, what wraps it later stands outside. Register after a wrapper that
    redirects or asks for a password; ProxyFix may be on either side.

    The options are the config keys ``ACME_*``, read once, by :meth:`init_app`: set them before. Neither the environment nor a
    file is read. Tokens, accounts and certificates are kept in the folder ``acme`` of the app's instance folder, or where
    ACME_STORE and ACME_CHALLENGE_STORE say.

    Args:
        app: The app to register on; without it, call :meth:`init_app`. One ``Acme`` may serve several apps.

    Raises:
        ConfigurationError, StoreMisconfigured: as :meth:`init_app`.
    """

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """
        Register on an app. Its config must have all its ``ACME_*`` keys by now: they are read here, once.

        Args:
            app: The app. ``app.extensions["acme_middleware"]`` is then the :class:`Registered` of it.

        Raises:
            ConfigurationError: A key that begins with ``ACME_`` is no option, or has a value that its option does not take;
                or the app has an ``Acme`` already.
            StoreMisconfigured: No store is known by that URL, or its driver is not installed. A store that is down is not an
                error here.
        """
        try:
            registered = Registered(app)
        except (ConfigurationError, StoreMisconfigured) as error:
            raise told(error) from None
        app.extensions[NAME] = registered
        app.wsgi_app = registered.middleware  # type: ignore[method-assign]
        app.cli.add_command(AcmeGroup(app, registered.configuration))


class Registered:
    """
    What an app got from its ``Acme``.

    Attributes:
        configuration: Its options.
        middleware: What wraps its ``wsgi_app``.
    """

    def __init__(self, app: Flask) -> None:
        if NAME in app.extensions:
            raise ConfigurationError(
                f"the app {app.name!r} has an Acme already: leave out one of Acme(app) and init_app(app)",
                hint="an app is registered once, by Acme(app) or by init_app(app); one Acme may serve several apps",
            )
        self.configuration = Configuration(app.config, {"store": Path(app.instance_path, "acme")})
        options = self.configuration.options()
        setting, store = "ACME_CHALLENGE_STORE", options.challenge_store
        if store is None:
            setting, store = "ACME_STORE", options.store
        source = open_challenges(store, option=setting)
        self.middleware = AcmeMiddleware(app.wsgi_app, store=source, on_unknown=options.on_unknown)


def options_of(app: Flask, given: Mapping[str, Any] | None = None, *, secret_files: bool = True) -> Options:
    """
    The options of an app, those given before those of its config.

    Args:
        secret_files: As of :func:`acme_middleware.options.from_settings`.

    Raises:
        ConfigurationError: the app has no ``Acme``, or an option is wrong.
    """
    registered = app.extensions.get(NAME)
    if registered is None:
        raise ConfigurationError(f"the app {app.name!r} has no Acme", hint="call Acme().init_app(app) first")
    configuration = registered.configuration
    layers = configuration.layers(secret_files=secret_files)
    return read(("argument", given or {}), *layers, ("default", configuration.defaults))
