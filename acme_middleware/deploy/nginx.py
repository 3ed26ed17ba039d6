"""Deploy to nginx: test, reload, look at what it presents, and take the certificate back where that went wrong."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from acme_middleware.deploy import specs
from acme_middleware.deploy.deployer import Deployment, failed
from acme_middleware.deploy.nginx_conf import Address, Server, servers
from acme_middleware.deploy.rollback import roll_back
from acme_middleware.deploy.running import environment, run
from acme_middleware.deploy.systemd import UNIT
from acme_middleware.errors import DeployFailed, PublishFailed
from acme_middleware.verify import Seen, served

__all__ = ["Nginx"]

log = logging.getLogger("acme_middleware.deploy")

TIME_LIMIT = 30.0
PAUSE = 0.05
STEADY = 6
"""How often in a row the new certificate must be seen: for longer than the 0.1 s that nginx leaves to the old workers."""

MOST_BYTES = 1_000_000
MOST_WORDS = 400
MOST_NAMES = 20

SEARCHED = ("/usr/sbin", "/usr/local/sbin", "/usr/local/nginx/sbin", "/usr/local/bin", "/opt/homebrew/bin")
"""Where nginx is, besides PATH: that of cron has no folder for what only root runs."""

EMERGENCY = re.compile(r"^(nginx:|[0-9/]+ [0-9:]+) \[emerg\] ([0-9]+#[0-9]+: )?")
"""What stands before the reason: the number of a process that is gone is of no use to anybody."""

SHOWN = ("fullchain.pem", "bundle.pem", "cert.pem")


class Nginx:
    """
    ``nginx:`` lets nginx test its configuration, reloads it, and connects to it until it presents the new certificate. Where
    the test fails, or nginx goes on with another, the certificate before is put back (``current`` leads to it again), and nginx
    reloaded once more.

    - ``binary=``: the program, by default ``nginx``; ``conf=`` and ``prefix=`` are its ``-c`` and ``-p``.
    - ``unit=nginx.service``: reload it by systemd.
    - ``address=HOST:PORT,...``: where to connect to; by default wherever nginx's configuration presents this certificate.
    - ``timeout=SECONDS``: for each of the steps; 30 by default.

    Raises:
        ConfigurationError: it cannot be followed.
    """

    def __init__(self, spec: str) -> None:
        self.spec = spec
        place, words = specs.parts(spec, "binary", "conf", "prefix", "unit", "address", "timeout")
        if place:
            raise specs.refused(
                spec, f"has {place!r} where nothing should be", hint="for example nginx:?conf=/etc/nginx/nginx.conf"
            )
        self.binary = str(specs.absolute(spec, words["binary"], what="nginx")) if "binary" in words else ""
        self.flags: list[str] = []
        for flag, word, what in (("-p", "prefix", "a folder"), ("-c", "conf", "a configuration")):
            if word in words:
                self.flags += [flag, str(specs.absolute(spec, words[word], what=what))]
        self.unit = words.get("unit", "")
        if self.unit and not UNIT.fullmatch(self.unit):
            raise specs.refused(spec, f"has unit={self.unit}", hint="for example nginx:?unit=nginx.service")
        self.addresses = [self._address(one) for one in words.get("address", "").split(",") if one]
        self.timeout = specs.seconds(spec, words, TIME_LIMIT)

    def deploy(self, deployment: Deployment) -> None:
        """Let nginx present it. Raises DeployFailed where it does not; it presents what it did before then."""
        try:
            dump = self._test(deployment)
        except DeployFailed as error:
            raise self._taken_back(deployment, error, reload=False) from error
        places = list(_places(servers(dump), deployment, self.addresses))
        # Where this fails, nginx does not run, or cannot be told. The test was passed: it has the certificate when it starts.
        self._reload(deployment)
        if not places:
            log.warning(
                "%s: nginx was reloaded, but no server of its configuration that could be looked at has a certificate in %s",
                deployment.name,
                deployment.current,
            )
        try:
            self._prove(deployment, places)
        except DeployFailed as error:
            raise self._taken_back(deployment, error, reload=True) from error

    def _address(self, text: str) -> Address:
        host, _, port = text.rpartition(":")
        if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
            raise specs.refused(self.spec, f"has address={text}", hint="it takes HOST:PORT, several with commas between")
        return host.removeprefix("[").removesuffix("]"), int(port)

    def _test(self, deployment: Deployment) -> str:
        """Have the configuration tested, with the certificates that it names. Returns all of it."""
        return self._run(deployment, "nginx -t", "-T", "-q")

    def _reload(self, deployment: Deployment) -> None:
        if self.unit:
            argv = ["systemctl", "--no-ask-password", "reload", self.unit]
            run(self, deployment, argv, timeout=self.timeout, step=f"systemctl reload {self.unit}")
            return
        self._run(
            deployment, "nginx -s reload", "-s", "reload", hint="does nginx run? when it starts, it has the new certificate"
        )

    def _prove(self, deployment: Deployment, places: list[_Place]) -> None:
        """
        Connect to each place until the certificate is presented there.

        nginx reloads in the background, and for a moment old and new workers take connections by turns: once is not enough.
        """
        der = ssl.PEM_cert_to_DER_cert((deployment.directory / "cert.pem").read_text())
        wanted = Seen(hashlib.sha256(der).hexdigest(), (der,))
        deadline, rounds = time.monotonic() + self.timeout, 0
        while places and rounds < STEADY:
            rounds += 1
            for place in places:
                seen, certain = self._look(place, wanted)
                if seen.fingerprint == wanted.fingerprint:
                    continue
                if time.monotonic() >= deadline:
                    if certain:
                        instead = seen.error or f"another certificate is presented, {_serial(seen.chain[0])}"
                        why = f"{place}: {instead}, and not {deployment.serial}, after {self.timeout:g} s"
                        hint = "nginx's error log says whether it has reloaded"
                        raise failed(self, deployment, "look at what is served", why, hint=hint)
                    log.warning("%s: %s: its %s certificate cannot be looked at", deployment.name, place, wanted.kind)
                    places = [one for one in places if one is not place]
                rounds = 0
                break
            time.sleep(PAUSE)

    def _look(self, place: _Place, wanted: Seen) -> tuple[Seen, bool]:
        """What is presented, of several the one with the same kind of key; and whether it is certain that there is no other."""
        seen = served(*place.address, place.name, timeout=self.timeout)
        if not seen.chain or seen.kind == wanted.kind:
            return seen, True
        besides = served(*place.address, place.name, timeout=self.timeout, kind=wanted.kind)
        return (besides, True) if besides.chain else (seen, not place.several)

    def _taken_back(self, deployment: Deployment, error: DeployFailed, *, reload: bool) -> DeployFailed:
        """Put the certificate before back. Returns the error with what became of that."""
        hint = error.hint
        try:
            kept = roll_back(deployment)
        except PublishFailed as problem:
            kept, hint = str(problem), f"{hint}\n{problem.hint}"
        if kept:
            outcome = f"its files stay where they are: {kept}"
        else:
            outcome = "the certificate before is the current one again"
            try:
                self._test(deployment)
                if reload:
                    self._reload(deployment)
            except DeployFailed as again:
                # Then it is not the certificate that is wrong.
                outcome += f", with which it goes no better ({again.step})"
        return DeployFailed(f"{error}; {outcome}", hint=hint, **error.facts)

    def _run(self, deployment: Deployment, step: str, *words: str, hint: str = "") -> str:
        """
        Run nginx. Returns what it printed: with ``-T`` the whole configuration, in which others may have secrets.

        What went wrong is in the first lines of what it says, not in the last.
        """
        folders = os.pathsep.join([os.environ.get("PATH", os.defpath), *SEARCHED])
        binary = self.binary or shutil.which("nginx", path=folders) or "nginx"
        try:
            done = subprocess.run(
                [binary, *self.flags, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=environment(deployment),
                start_new_session=True,  # without a terminal: the key of another site may want a password
                timeout=self.timeout,
                check=False,
            )
        except OSError as error:
            why = f"cannot start {binary}: {error.strerror}"
            raise failed(self, deployment, step, why, hint="is it there? binary= says where") from error
        except subprocess.TimeoutExpired as error:
            raise failed(self, deployment, step, f"did not end within {self.timeout:g} s, and was killed") from error
        said = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        for line in said:
            log.info("%s: %s", step, line)
        if done.returncode:
            told = next((line for line in said if "[emerg]" in line), said[-1] if said else f"it ended with {done.returncode}")
            raise failed(self, deployment, step, EMERGENCY.sub("", told)[:MOST_WORDS], hint=hint)
        return done.stdout.decode(errors="replace")


class _Place(NamedTuple):
    """Where to ask for which name. With ``several``, the server has more certificates than one, each with its kind of key."""

    address: Address
    name: str
    several: bool = False

    def __str__(self) -> str:
        host, port = self.address
        return f"{self.name} at {f'[{host}]' if ':' in host else host}:{port}"


def _places(found: list[Server], deployment: Deployment, addresses: list[Address]) -> Iterator[_Place]:
    """Where this certificate must be presented. What is not certain is left out: a working certificate is not taken back."""
    having = [server for server in found if any(_leads_to(path, deployment) for path in server.certificates)]
    if addresses:
        several = any(len(server.certificates) > 1 for server in having)
        yield from (_Place(address, _asked(deployment.names[0]), several) for address in addresses)
        return
    for server in having:
        for address in server.addresses:
            others = [one for one in found if one is not server and address in one.addresses]
            # The first server with a name has it.
            earlier = {name for one in found[: found.index(server)] if address in one.addresses for name in one.names}
            names = [name for name in deployment.names if name.lower() in server.names and name.lower() not in earlier]
            if not names and address in server.default_at and not any(map(_has_patterns, others)):
                taken = {name for one in others for name in one.names}
                names = [name for name in deployment.names if name.lower() not in taken][:1]
            yield from (_Place(address, _asked(name), len(server.certificates) > 1) for name in names[:MOST_NAMES])


def _has_patterns(server: Server) -> bool:
    return any("*" in name or name.startswith((".", "~")) for name in server.names)


def _asked(name: str) -> str:
    return f"proof-{secrets.token_hex(4)}{name[1:]}" if name.startswith("*.") else name


def _leads_to(path: str, deployment: Deployment) -> bool:
    """Whether a path in the configuration is a file of this certificate, or one that an earlier deployer has copied."""
    if "$" in path:  # looked up when a client comes, by its name
        pattern = "".join(r"[^/]+" if part.startswith("$") else re.escape(part) for part in re.split(r"(\$\{?\w+\}?)", path))
        return any(re.fullmatch(pattern, str(deployment.current / file)) for file in SHOWN)
    if os.path.dirname(os.path.realpath(path)) == os.path.realpath(deployment.directory):
        return True
    leaf = _leaf(Path(path))
    return leaf is not None and leaf == _leaf(deployment.directory / "cert.pem")


def _leaf(path: Path) -> bytes | None:
    """The first certificate in a file."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES)
    except OSError:
        return None
    found = re.search(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----", text)
    return b"".join(found[0].split()) if found else None


def _serial(der: bytes) -> str:
    from cryptography import x509

    try:
        return f"serial {x509.load_der_x509_certificate(der).serial_number:x}"
    except ValueError:
        return "which cannot be read"
