"""Deploy by a program: one of the user's own, or all that certbot has been told to run."""

from __future__ import annotations

import json
import os
from pathlib import Path

from acme_middleware.deploy import specs
from acme_middleware.deploy.deployer import Deployment, failed
from acme_middleware.deploy.running import run
from acme_middleware.errors import DeployFailed

__all__ = ["Command", "Hooks"]

TIME_LIMIT = 120.0
EXAMPLE = 'for example command:["/usr/local/bin/reload-my-server", "--now"], a list in JSON'


class Command:
    """
    ``command:["argv", ...]`` runs a program, without a shell; ``?timeout=SECONDS`` behind the list gives it more or less than
    two minutes.

    Raises:
        ConfigurationError: it is no list of words.
    """

    def __init__(self, spec: str) -> None:
        self.spec = spec
        text = spec.partition(":")[2].strip()
        try:
            argv, end = json.JSONDecoder().raw_decode(text)
        except ValueError as error:
            raise specs.refused(spec, f"is no list in JSON ({error})", hint=EXAMPLE) from None
        rest = text[end:].strip()
        words = isinstance(argv, list) and argv and all(isinstance(word, str) for word in argv) and argv[0]
        if not words or (rest and not rest.startswith("?")):
            raise specs.refused(spec, "is no list of a program and its arguments", hint=EXAMPLE)
        self.argv: list[str] = argv
        self.timeout = specs.seconds(spec, specs.query(spec, rest[1:], "timeout"), TIME_LIMIT)

    def deploy(self, deployment: Deployment) -> None:
        """Run the program. Raises DeployFailed where it does not end well in time."""
        run(self, deployment, self.argv, timeout=self.timeout)


class Hooks:
    """
    ``hooks:/etc/letsencrypt/renewal-hooks`` runs the programs in the folders ``pre``, ``deploy`` and ``post`` there, as certbot
    does: in the order of their names, whatever became of the one before. ``?timeout=SECONDS`` is for each of them.

    Those in ``pre`` run after the certificate was issued, here: what they stop, those in ``post`` start with the new one.
    """

    FOLDERS = ("pre", "deploy", "post")

    def __init__(self, spec: str) -> None:
        self.spec = spec
        place, words = specs.parts(spec, "timeout")
        self.folder = specs.absolute(spec, place, what="a folder of hooks")
        self.timeout = specs.seconds(spec, words, TIME_LIMIT)

    def deploy(self, deployment: Deployment) -> None:
        """Run all hooks. Raises DeployFailed, at the end, where one of them did not end well."""
        try:
            found = [(folder, program) for folder in self.FOLDERS for program in _programs(self.folder / folder)]
            if not self.folder.is_dir():
                raise NotADirectoryError(None, "there is no such folder")
        except OSError as error:
            raise failed(self, deployment, "read the folder of hooks", error.strerror or str(error)) from error
        errors: list[DeployFailed] = []
        for folder, program in found:
            try:
                run(self, deployment, [str(program)], timeout=self.timeout, step=f"{folder}/{program.name}")
            except DeployFailed as error:
                errors.append(error)
        if errors:
            raise errors[0]


def _programs(folder: Path) -> list[Path]:
    """What certbot would run: executable files, none that an editor has left (``~``)."""
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if path.is_file() and os.access(path, os.X_OK) and not path.name.endswith("~")
    )
