"""What a deployer is: whatever takes a published certificate to the server that is to present it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from acme_middleware.errors import DeployFailed

__all__ = ["Deployer", "Deployment", "failed", "failure", "repeating"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """
    What is to be served.

    Attributes:
        name: What the certificate is known by.
        names: The names in it.
        directory: The absolute directory of this version, with ``fullchain.pem``, ``privkey.pem`` and so on; never changes.
        current: The absolute path of the link to the newest version: what a server's configuration names.
        previous: The directory of the version that was current before, while it is there.
        serial: The certificate's serial number, in hexadecimal.
        not_after: Until when it is valid.
        previous_serial: That of the certificate which was deployed before; "" for the first one.
    """

    name: str
    names: tuple[str, ...]
    directory: Path
    current: Path
    previous: Path | None
    serial: str
    not_after: datetime
    previous_serial: str


class Deployer(Protocol):
    """
    Takes a certificate to a server.

    It is called after the first issue and after each renewal, and again by the next run after it has failed: so it does what
    is left to do, whatever an earlier call came to. Whatever fails, the server goes on with what it has, and no half of
    anything is left.

    Attributes:
        spec: What DEPLOY has for it, for messages.
    """

    spec: str

    def deploy(self, deployment: Deployment) -> None:
        """
        Bring it about that the server presents this certificate.

        Raises:
            DeployFailed: it could not; ``step`` says where (see :func:`failed`).
        """


def failed(deployer: Deployer, deployment: Deployment, step: str, why: str, *, hint: str = "") -> DeployFailed:
    """
    The error to raise where a step failed: it names the step, and says how to repeat the deployment.

    Args:
        step: What was to be done, in a few words: "write the bundle", "nginx -t".
        why: What went wrong; no key.
        hint: What to do about it, before it is repeated.
    """
    return failure(deployer.spec, deployment.name, step, why, hint=hint)


def failure(spec: str, name: str, step: str, why: str, *, hint: str = "") -> DeployFailed:
    """The same, where there is no deployer yet, or no deployment."""
    hint = "\n".join(filter(None, [hint, repeating(name)]))
    return DeployFailed(f"{spec}: {step}: {why}", hint=hint, step=step, spec=spec, name=name)


def repeating(name: str | None = None) -> str:
    """How to repeat what failed with a certificate, or with several; the last line of a hint."""
    kept, called = ("the certificates are", "deploy") if name is None else ("the certificate is", f"deploy {name}")
    return f"{kept} kept; when that is mended, `acme-middleware {called}` repeats it"
