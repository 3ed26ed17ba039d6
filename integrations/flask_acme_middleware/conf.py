"""How the options of acme-middleware are set in Flask: by the app's config, and only there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acme_middleware import authorities
from acme_middleware.errors import ConfigurationError
from acme_middleware.options import PREFIX, Options, from_file, from_settings, read

if TYPE_CHECKING:
    from acme_middleware.cli.surroundings import Layer


class Configuration:
    """
    The ``ACME_*`` keys of one app's config, as they were when it was made.

    Args:
        config: The app's config.
        defaults: What holds where no key says otherwise.
    """

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self.defaults = defaults
        self._config = config
        self._settings = _ours(config)

    def options(self) -> Options:
        """
        All options, checked.

        The files that keys such as ACME_EAB_HMAC_KEY_FILE name are not read: only issuing needs what is in them, and a web
        worker may have no right to.

        Raises:
            ConfigurationError: a key that begins with ``ACME_`` is no option, or has a value that its option does not take.
        """
        options = read(("setting", from_settings(self._settings, secret_files=False)), ("default", self.defaults))
        authorities.find_all(options.ca)
        return options

    def layers(self, config: Path | None = None, *, secret_files: bool = True) -> Sequence[Layer]:
        """
        The layers of options below the command line's flags: a file only if ``--config`` names one, then the app's config.

        Raises:
            ConfigurationError: the file cannot be read; or the config was changed after ``init_app``, so that the web workers
                and this command would not agree.
        """
        now = _ours(self._config)
        for name in sorted(now.keys() | self._settings.keys()):
            if now.get(name) != self._settings.get(name):
                raise ConfigurationError(
                    f"{name} was set or changed after the app's Acme had read the config",
                    hint="set it before init_app(app), or call init_app(app) later",
                    option=name.removeprefix(PREFIX).lower(),
                )
        file: list[Layer] = [(str(config), from_file(config))] if config else []
        return [*file, ("setting", from_settings(self._settings, secret_files=secret_files))]


def _ours(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name.startswith(PREFIX)}
