"""
Pebble, a real ACME server for tests, with a DNS server that sends every name to this machine.

    with Pebble(nonce_reject=30) as ca:
        ...  # issue from ca.directory_url, trusting ca.ca_bundle, with challenges answered on 127.0.0.1:ca.http_port
        print(ca.requests())

``$PEBBLE`` names the executable (pebble-challtestsrv is beside it); without it tools/get-pebble puts both into .pebble/.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import local_ports
from background import Background, listens
from private_ca import write_server_certificate

TOOLS = Path(__file__).resolve().parent
LIMIT = 10.0
"""Seconds that any call to a management port may take."""

NINETY_DAYS = 90 * 24 * 3600


class Pebble:
    """
    A Pebble with its DNS server, running from ``with`` (or ``start``) until the end of the block (or ``stop``).

    Args:
        nonce_reject: Percentage of good nonces that are refused, 0 to 99.
        authz_reuse: Percentage of orders that reuse valid authorizations, 0 to 100; at 0 Pebble still does at times, so use
            new names where it matters.
        strict: Run with ``-strict``.
        eab: External account binding is required: MAC keys (base64url) by key id.
        profiles: Validity in seconds by the name of the profile. An order that names none gets any of them.
        retry_after: ``{"authz": 3, "order": 5}``: the seconds of Retry-After, sent as an integer or a date at random; 0: none.
        alternate_roots: How many alternate chains are offered.
        chain_length: How many intermediates a chain has.
        domain_blocklist: Names that are refused.
        va_nosleep: Validate at once. False: after a random time of up to ``va_sleep`` seconds.
        va_sleep: See va_nosleep.
        key_algorithm: ``ecdsa`` or ``rsa``, of the CA's own keys.
        ipv4: What every name resolves to.
        ipv6: The same for AAAA; none by default.

    Attributes:
        directory_url: The ACME directory.
        ca_bundle: A PEM file with the root of the directory's own HTTPS certificate (not of what Pebble issues: see ``root``).
        http_port: The port at which Pebble validates http-01. It is reserved, and nothing listens on it yet.
        management_url: Pebble's management interface.
        log: Pebble's log, removed with the rest by ``stop``.
    """

    def __init__(
        self,
        *,
        nonce_reject: int = 0,
        authz_reuse: int = 0,
        strict: bool = False,
        eab: Mapping[str, str] | None = None,
        profiles: Mapping[str, int] | None = None,
        retry_after: Mapping[str, int] | None = None,
        alternate_roots: int = 0,
        chain_length: int = 1,
        domain_blocklist: tuple[str, ...] = (),
        va_nosleep: bool = True,
        va_sleep: int = 5,
        key_algorithm: str = "ecdsa",
        ipv4: str = "127.0.0.1",
        ipv6: str = "",
    ) -> None:
        self._config: dict[str, Any] = {
            "externalAccountBindingRequired": bool(eab),
            "externalAccountMACKeys": dict(eab or {}),
            "domainBlocklist": list(domain_blocklist),
            "keyAlgorithm": key_algorithm,
            "retryAfter": {"authz": 0, "order": 0, **(retry_after or {})},
            "profiles": {
                name: {"description": f"the profile {name}", "validityPeriod": seconds}
                for name, seconds in (profiles or {"default": NINETY_DAYS}).items()
            },
        }
        self._env = {
            "PEBBLE_WFE_NONCEREJECT": str(nonce_reject),
            "PEBBLE_AUTHZREUSE": str(authz_reuse),
            "PEBBLE_ALTERNATE_ROOTS": str(alternate_roots),
            "PEBBLE_CHAIN_LENGTH": str(chain_length),
            **({"PEBBLE_VA_NOSLEEP": "1"} if va_nosleep else {"PEBBLE_VA_SLEEPTIME": str(va_sleep)}),
        }
        self._flags = ["-strict"] if strict else []
        self._addresses = ["-defaultIPv4", ipv4, "-defaultIPv6", ipv6]
        self._things = contextlib.ExitStack()

    def start(self) -> Self:
        """
        Start both servers and wait until they answer.

        Raises:
            RuntimeError: they did not start; the message ends with the log.
        """
        pebble, dns = find_pebble()
        for tries_left in (2, 1, 0):
            with contextlib.ExitStack() as things:
                try:
                    self._start(pebble, dns, things)
                except RuntimeError as error:
                    # Ports are locked among our own processes only; any other program may have been faster.
                    if "address already in use" not in str(error) or not tries_left:
                        raise
                else:
                    self._things = things.pop_all()
                    break
        return self

    def _start(self, pebble: Path, dns: Path, things: contextlib.ExitStack) -> None:
        folder = Path(things.enter_context(tempfile.TemporaryDirectory(prefix="pebble-")))
        directory, management, self.http_port, tls, dns_port, self._dns_management = things.enter_context(
            local_ports.reserve(6)
        )
        self.ca_bundle, certificate, key = write_server_certificate(folder)
        self.directory_url = f"https://127.0.0.1:{directory}/dir"
        self.management_url = f"https://127.0.0.1:{management}"
        self.log = folder / "pebble.log"
        self._tls = ssl.create_default_context(cafile=self.ca_bundle)
        config = folder / "config.json"
        config.write_text(
            json.dumps(
                {
                    "pebble": {
                        "listenAddress": f"127.0.0.1:{directory}",
                        "managementListenAddress": f"127.0.0.1:{management}",
                        "certificate": str(certificate),
                        "privateKey": str(key),
                        "httpPort": self.http_port,
                        "tlsPort": tls,
                        **self._config,
                    }
                }
            )
        )
        unused = [word for flag in ("-http01", "-https01", "-tlsalpn01", "-doh") for word in (flag, "")]
        listen = ["-dnsserver", f"127.0.0.1:{dns_port}", "-management", f"127.0.0.1:{self._dns_management}"]
        names = Background([dns, *listen, *self._addresses, *unused], log=folder / "dns.log")
        things.callback(names.stop)
        server = Background(
            [pebble, "-config", config, "-dnsserver", f"127.0.0.1:{dns_port}", *self._flags], log=self.log, env=self._env
        )
        things.callback(server.stop)
        names.wait_until(lambda: listens(self._dns_management) and listens(dns_port))
        server.wait_until(lambda: self._is_ours(directory) and self._is_ours(management))

    def _is_ours(self, port: int) -> bool:
        """Whether a server with our certificate listens there: a handshake and no request, since requests() counts those."""
        try:
            with socket.create_connection(("127.0.0.1", port), LIMIT) as plain:
                self._tls.wrap_socket(plain, server_hostname="127.0.0.1").close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Stop both servers, and remove their folder. May be called twice."""
        self._things.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def requests(self) -> list[tuple[str, str]]:
        """The (method, path) of every ACME request so far, in order: HEAD requests and refused ones too."""
        text = self.log.read_text(errors="replace")
        return [(method, path) for method, path in re.findall(r" ([A-Z]+) (/\S*) -> calling handler\(\)", text)]

    def root(self, number: int = 0) -> str:
        """The PEM of the root that issued certificates lead to; 1 and up: those of the alternate chains."""
        return self._manage(f"/roots/{number}")

    def roots(self) -> list[str]:
        """All roots."""
        return [self.root(i) for i in range(int(self._env["PEBBLE_ALTERNATE_ROOTS"]) + 1)]

    def intermediate(self, number: int = 0) -> str:
        """The PEM of the intermediates below ``root(number)``."""
        return self._manage(f"/intermediates/{number}")

    def set_renewal_info(self, certificate: str, answer: str) -> None:
        """Answer any text, JSON or not, when renewal information is asked for the certificate of that PEM."""
        self._manage("/set-renewal-info/", {"certificate": certificate, "ariResponse": answer})

    def status_of(self, serial: int) -> dict[str, Any]:
        """What it knows of a certificate: ``Status`` is "Valid" or "Revoked", and then there is a ``Reason``."""
        status: dict[str, Any] = json.loads(self._manage(f"/cert-status-by-serial/{serial:x}"))
        return status

    def resolve(self, name: str, *, ipv4: tuple[str, ...] = (), ipv6: tuple[str, ...] = ()) -> None:
        """Let a name resolve to these addresses in place of the default."""
        for kind, addresses in (("a", ipv4), ("aaaa", ipv6)):
            if addresses:
                body = json.dumps({"host": f"{name}.", "addresses": addresses}).encode()
                url = f"http://127.0.0.1:{self._dns_management}/add-{kind}"
                urllib.request.urlopen(url, data=body, timeout=LIMIT).close()

    def _manage(self, path: str, body: Mapping[str, str] | None = None) -> str:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(self.management_url + path, data=data, timeout=LIMIT, context=self._tls) as answer:
            return str(answer.read().decode())


def find_pebble() -> tuple[Path, Path]:
    """
    The executables of Pebble and of pebble-challtestsrv.

    Raises:
        RuntimeError: there are none, and tools/get-pebble could not get them; the message says what to do.
    """
    named = os.environ.get("PEBBLE")
    if named:
        pebble = Path(named) / "pebble" if Path(named).is_dir() else Path(named)
    else:
        pebble = TOOLS.parent / ".pebble" / "pebble"
        if not pebble.exists():
            got = subprocess.run([TOOLS / "get-pebble", pebble.parent], stdout=sys.stderr, timeout=600, check=False)
            if got.returncode:
                raise RuntimeError("tools/get-pebble could not get Pebble: see its message above")
    for program in (pebble, pebble.with_name("pebble-challtestsrv")):
        if shutil.which(program) is None:
            raise RuntimeError(f"{program} is no executable: set PEBBLE=/path/to/pebble, with pebble-challtestsrv beside it")
    return pebble, pebble.with_name("pebble-challtestsrv")
