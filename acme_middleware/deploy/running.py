"""Run a program for a deployment: no shell, a time limit for all that it has started, and its output in the log."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress

from acme_middleware._text import has_password
from acme_middleware.deploy.deployer import Deployer, Deployment, failed

__all__ = ["environment", "run"]

logger = logging.getLogger("acme_middleware.deploy")

GRACE = 3.0
"""Seconds that a program has to end by itself when it is told to, before it is killed."""

MOST_OUTPUT = 20_000
MOST_WORDS = 300

OUR_SECRETS = ("ACME_EAB_HMAC_KEY", "ACME_ENCRYPTION_KEYS")
"""What a program that others wrote has no business with; a test compares it with the option table."""

OUR_URLS = ("ACME_STORE", "ACME_CHALLENGE_STORE")
"""The same, where the URL has a password; otherwise a program that calls our commands may need it."""


def environment(deployment: Deployment | None = None) -> dict[str, str]:
    """
    The environment of a program: that of this process, without our secrets, and what it may want to know of the deployment.

    The variables are certbot's (``RENEWED_*``) and ours. Ours do not begin with ``ACME_``: a program that calls our commands
    must not feed them options.
    """
    found = {
        name: value
        for name, value in os.environ.items()
        if name not in OUR_SECRETS and not (name in OUR_URLS and has_password(value))
    }
    if deployment is None:
        return found
    directory = deployment.directory
    return found | {
        "RENEWED_LINEAGE": str(directory),
        "RENEWED_DOMAINS": " ".join(deployment.names),
        "CERT_NAME": deployment.name,
        "CERT_DOMAINS": " ".join(deployment.names),
        "CERT_PATH": str(directory / "cert.pem"),
        "KEY_PATH": str(directory / "privkey.pem"),
        "CHAIN_PATH": str(directory / "chain.pem"),
        "FULLCHAIN_PATH": str(directory / "fullchain.pem"),
        "BUNDLE_PATH": str(directory / "bundle.pem"),
        "CERT_SERIAL": deployment.serial,
        "CERT_NOT_AFTER": deployment.not_after.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "CERT_PREVIOUS_SERIAL": deployment.previous_serial,
    }


def run(
    deployer: Deployer,
    deployment: Deployment,
    argv: Sequence[str],
    *,
    timeout: float,
    step: str = "",
    env: Mapping[str, str] | None = None,
) -> str:
    """
    Run a program to its end.

    What it leaves running in the background goes on, unless it takes too long itself: then all of its process group is killed.

    Args:
        argv: The program and its arguments.
        timeout: Seconds.
        step: What to call it in an error; by default the program's name.
        env: The environment; by default :func:`environment` of the deployment.

    Returns:
        What it has printed, on either stream.

    Raises:
        DeployFailed: it cannot be started, takes longer than it may, or ends with another code than 0.
    """
    step = step or os.path.basename(argv[0])
    # A file, not a pipe: a daemon that a program starts would hold a pipe open for ever.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(deployment) if env is None else env,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL in a word
            why = f"cannot start {argv[0]}: {getattr(error, 'strerror', None) or error}"
            raise failed(deployer, deployment, step, why, hint="is it there, with this path, and executable?") from error
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            said = _log(output, step)
            why = f"did not end within {timeout:g} s, and was killed{_last_words(said)}"
            raise failed(deployer, deployment, step, why, hint="run it by hand to see what it waits for") from None
        except BaseException:  # this process is told to stop: what it has started must not live on without it
            _end(process)
            raise
        said = _log(output, step)
    if code:
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        raise failed(deployer, deployment, step, f"{ended}{_last_words(said)}")
    return said


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that is in its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    # Also where it has ended: one that it has started may have not. The group keeps its number as long as one is in it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _log(output: object, step: str) -> str:
    file: int = output.fileno()  # type: ignore[attr-defined]
    size = os.fstat(file).st_size
    said = os.pread(file, MOST_OUTPUT, max(0, size - MOST_OUTPUT)).decode(errors="replace")
    for line in said.splitlines():
        if line.strip():
            logger.info("%s: %s", step, line.rstrip())
    return said


def _last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f": {lines[-1][-MOST_WORDS:]}" if lines else ""
