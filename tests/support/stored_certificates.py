"""Certificates in a directory store that no CA has issued, and the command line over it, in a process of its own."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from pebble_lab import COMMAND, LIMIT, Ended, Site, environment

from acme_middleware.clock import now
from acme_middleware.deploy.publish import publish
from acme_middleware.issuance.records import CertificateRecord, OrderRecord, certificate_key, order_key, renewal_key
from acme_middleware.issuance.renewal import record_of
from acme_middleware.stores.directory import DirectoryStore
from acme_middleware.testing.certificates import self_made


def store_certificate(folder: Path, name: str, *names: str, published: bool = True, **more: Any) -> CertificateRecord:
    """Save a certificate as issuing does, with its renewal record and its files."""
    store, pems = DirectoryStore(folder), self_made(*(names or (name,)))
    made = CertificateRecord(
        **{
            "name": name,
            "names": names or (name,),
            "ca": "letsencrypt",
            "trusted": True,
            "account_url": "https://ca.example/account/1",
            "profile": "",
            "key_type": "ec256",
            "issued_at": now() - timedelta(days=1),
            "key_pem": pems.key.decode(),
            "cert_pem": pems.cert.decode(),
            "chain_pem": pems.chain.decode(),
            **more,
        }
    )
    made.write(store, certificate_key(name))
    record_of(made).write(store, renewal_key(name))
    if published:
        publish(folder / "live", name, lambda: pems)
    return made


def store_order(folder: Path, made: CertificateRecord) -> None:
    """Save an order under way for a certificate that is there."""
    OrderRecord(
        url="https://ca.example/order/1",
        account_url=made.account_url,
        ca=made.ca,
        names=made.names,
        profile="",
        key_type=made.key_type,
        key_pem=made.key_pem,
    ).write(DirectoryStore(folder), order_key(made.name))


def keys_of(folder: Path) -> set[str]:
    """The keys of all records but leases."""
    kinds = ("account", "order", "certificate", "renewal", "ledger")
    return {where for kind in kinds for where, _ in DirectoryStore(folder).scan(f"{kind}/")}


def command(folder: Path, *words: str, env: dict[str, str] | None = None) -> Ended:
    """Run ``acme-middleware`` without a terminal."""
    ended = subprocess.run(
        [*COMMAND, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        cwd=folder,
        env=environment({"ACME_STORE": f"file:{folder / 'store'}", **(env or {})}),
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def at_site(site: Site, *words: str) -> Ended:
    """Run ``acme-middleware`` with the options of a site."""
    given = {f"ACME_{name.upper()}": str(value) for name, value in site.given.items() if value is not None}
    return command(site.folder, *words, env=given)


def at_a_terminal(folder: Path, *words: str, answers: Sequence[tuple[str, str]]) -> tuple[int, str]:
    """
    Run ``acme-middleware`` at a terminal, where somebody waits for each question and types the answer.

    Returns:
        The exit code, and all that was to be seen.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(COMMAND[0], [*COMMAND, *words], environment({"ACME_STORE": f"file:{folder / 'store'}"}))
    seen, left, asked = b"", list(answers), 0
    try:
        while select.select([terminal], [], [], LIMIT)[0]:
            try:
                part = os.read(terminal, 4096)
            except OSError:  # how Linux says that nobody has the other end open any more
                break
            if not part:
                break
            seen += part
            if left and left[0][0].encode() in seen[asked:]:
                asked = len(seen)
                os.write(terminal, left.pop(0)[1].encode() + b"\n")
    finally:
        os.close(terminal)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if left else 0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode()
