"""How the command that runs now is called by something that is no terminal: a timer, a container."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from acme_middleware import options
from acme_middleware._text import has_password


@dataclass(frozen=True, slots=True)
class Invocation:
    """
    What stands before a verb, and around it.

    Attributes:
        words: The command from anywhere on this machine, up to the verb: absolute paths of the interpreter and the project.
        directory: Where it is to run: relative paths in options count from there.
        elsewhere: The same in another installation, in a container image for example: without paths of this machine.
        environment: Variables that it needs; no secrets, and no URL with a password.
        left_out: Those with such a URL: it needs them as well, from where nobody else reads them.
    """

    words: tuple[str, ...]
    directory: Path
    elsewhere: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict, repr=False)


def by_itself() -> Invocation:
    """``acme-middleware``: its options may be in the environment, so that is taken along, but for what is secret."""
    script = Path(sys.executable).with_name("acme-middleware")
    words = (str(script),) if script.exists() else (sys.executable, "-m", "acme_middleware")
    names = [options.setting_name(option.name) for option in options.table() if not option.metadata.get("secret")]
    names += [options.setting_name(option.name) + "_FILE" for option in options.table() if option.metadata.get("secret")]
    kept = {name: os.environ[name] for name in ["ACME_CONFIG", *names] if os.environ.get(name)}
    urls = [options.setting_name(option.name) for option in options.table() if option.metadata.get("url")]
    left_out = {name: kept.pop(name) for name in urls if has_password(kept.get(name, ""))}
    return Invocation(words, Path.cwd(), ("acme-middleware",), kept, left_out)
