"""From the strings of DEPLOY to the deployers that they name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from acme_middleware.deploy.deployer import Deployer
from acme_middleware.errors import ConfigurationError

__all__ = ["SCHEMES", "parse", "parse_all"]

SCHEMES = {
    "files": ("exports", "Files", "files:/dir?owner=&group=&mode=&names=&p12="),
    "command": ("command", "Command", 'command:["argv", ...]'),
    "hooks": ("command", "Hooks", "hooks:/etc/letsencrypt/renewal-hooks"),
    "systemd": ("systemd", "Systemd", "systemd:UNIT?action=reload|restart"),
    "haproxy": ("haproxy", "HAProxy", "haproxy:/certs?socket=/path"),
    "nginx": ("nginx", "Nginx", "nginx:"),
    "verify": ("proving", "Verify", "verify:[HOST:PORT][?wait=SECONDS]"),
}
"""For each scheme the module beside this one, its class, which is made from the whole string, and what it looks like."""


def parse(spec: str) -> Deployer:
    """
    The deployer that a string of DEPLOY names.

    Raises:
        ConfigurationError: it names none, or not in the right words; it says what is valid.
    """
    scheme, colon, _ = spec.partition(":")
    if not colon or scheme not in SCHEMES:
        near = difflib.get_close_matches(scheme, SCHEMES, n=1)
        raise ConfigurationError(
            f"DEPLOY has {spec!r}, and there is no deployer {scheme!r}" + (f"; did you mean {near[0]}:?" if near else ""),
            hint="\n".join(["the deployers are", *(shape for _, _, shape in SCHEMES.values())]),
            option="deploy",
        )
    module, name, _ = SCHEMES[scheme]
    # Each is loaded when it is named: most hosts have one.
    made: Any = getattr(import_module(f"acme_middleware.deploy.{module}"), name)
    deployer: Deployer = made(spec)
    return deployer


def parse_all(specs: Sequence[str]) -> list[Deployer]:
    """The deployers of DEPLOY, in its order. Raises ConfigurationError as :func:`parse` does, and for the same one twice."""
    for spec in specs:
        if list(specs).count(spec) > 1:
            raise ConfigurationError(f"DEPLOY has {spec!r} twice", hint="leave one out", option="deploy")
    return [parse(spec) for spec in specs]
