"""The last of a row of deployers: connect, and see whether the others have brought it about that the certificate is served."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass

from acme_middleware import clock
from acme_middleware.deploy import proofs, specs
from acme_middleware.deploy.deployer import Deployment, failed
from acme_middleware.deploy.proofs import Proof
from acme_middleware.errors import PublishFailed
from acme_middleware.verify import verify

__all__ = ["Verify"]

WAIT = 10.0


@dataclass(frozen=True, slots=True)
class _Expected:
    name: str
    names: tuple[str, ...]
    fingerprint: str


class Verify:
    """
    ``verify:`` connects to port 443 of every address of every name, ``verify:127.0.0.1:443`` there for each of the names, and
    fails where another certificate is presented, or none. Behind the others in DEPLOY, it looks at what they have done.

    - ``?wait=SECONDS``: how long the servers may take; ten by default.

    Raises:
        ConfigurationError: it cannot be followed.
    """

    def __init__(self, spec: str) -> None:
        self.spec = spec
        place, words = specs.parts(spec, "wait")
        host, _, port = place.rpartition(":")
        if place and not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise specs.refused(spec, f"has {place!r} where HOST:PORT should be", hint="for example verify:127.0.0.1:443")
        self.addresses = [(host.removeprefix("[").removesuffix("]"), int(port))] if place else None
        try:
            self.wait = float(words.get("wait") or WAIT)
        except ValueError:
            self.wait = -1.0
        if not 0 <= self.wait <= 3600:
            raise specs.refused(spec, f"has wait={words['wait']}", hint="it takes seconds, up to an hour")

    def deploy(self, deployment: Deployment) -> None:
        """See whether it is served. Raises DeployFailed where it is not; what is served is what was served before."""
        try:
            pem = (deployment.directory / "cert.pem").read_text("ascii")
            fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
            chained = bool((deployment.directory / "chain.pem").read_bytes().strip())
        except (OSError, ValueError) as error:
            raise failed(self, deployment, "read the certificate", f"{deployment.directory}: {error}") from error
        expected = _Expected(deployment.name, deployment.names, fingerprint)
        findings = verify(expected, self.addresses, wait=self.wait, chained=chained)
        problems = tuple(str(finding) for finding in findings if not finding.ok and not finding.unsure)
        try:
            proofs.write(deployment.current.parent.parent, Proof(deployment.name, fingerprint, clock.now(), problems))
        except PublishFailed as error:
            raise failed(self, deployment, "note what was seen", str(error), hint=error.hint) from error
        if problems:
            raise failed(
                self,
                deployment,
                "connect and compare",
                "; ".join(problems),
                hint="did the deployers before it reach that server? The next run calls them again",
            )
