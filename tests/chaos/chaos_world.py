"""Hosts, a server and a CA; one schedule after the other happens to them."""

from __future__ import annotations

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chaos_engines import MODULES, make_server
from chaos_faults import Blows
from chaos_hosts import CA_ADDRESS, SKEWS, Command, Host, make_bridge
from chaos_invariants import (
    Verdict,
    judge_all_there,
    judge_certificate,
    judge_leases,
    judge_order_records,
    judge_orders,
    judge_published,
)
from chaos_journal import Line, count_orders, read
from chaos_reader import Reader
from chaos_schedule import Schedule

from acme_middleware.issuance.records import CertificateRecord, RenewalRecord, certificate_key, renewal_key
from acme_middleware.local_ca import LocalCA
from acme_middleware.stores import open_store
from acme_middleware.stores.base import Store
from acme_middleware.stores.sql import SQLStore

TTL = 1.5
"""Seconds that a lease lives here: the product's minute would make a schedule last for minutes."""

PAUSES = (0.05, 0.3)
"""Seconds between two commands of a host."""

CRASHED = ("Traceback", "this is a bug")
"""What no command may print, whatever happens to it."""

HUNG = 40.0
"""Seconds after which a command that nothing hinders any more is taken to hang."""


class World:
    """
    Lives from ``with`` to the end of the block.

    Args:
        engine: One of chaos_engines.ENGINES.
        folder: For all that it keeps.
        hosts: How many.
        broken: What is broken on purpose; "": nothing.
    """

    def __init__(self, engine: str, folder: Path, *, hosts: int, broken: str = "") -> None:
        self.engine, self.folder, self.broken = engine, folder, broken
        self.strikes = folder / "strikes"
        self.strikes.mkdir()
        self.known: dict[str, str] = {}
        self._count, self._stack = hosts, ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            make_bridge()
            self._lasting = self._stack.enter_context(ThreadPoolExecutor(1))
            self.server = make_server(self.engine, self.folder / "server")
            self.server.start()
            self._stack.callback(self.server.stop)
            # A validation and an issuance that take their time: so that there is a middle to be struck in.
            self.ca = self._stack.enter_context(
                LocalCA(host=CA_ADDRESS, expose=True, perspectives=1, authz_reuse=False, validation_delay=0.3, finalize_polls=1)
            )
            self.orders = count_orders(self.ca)
            self.hosts = [self._host(number) for number in range(1, self._count + 1)]
            for host in self.hosts:
                host.wait_until_ready()
            store = self._store()
            if isinstance(store, SQLStore):
                store.make_tables()
            self.reader = self._stack.enter_context(Reader([host.live for host in self.hosts]))
            self._account()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _host(self, number: int) -> Host:
        options = {
            "ca": f"https://{CA_ADDRESS}:{self.ca.port}/directory",
            "ca_bundle": str(self.ca.ca_bundle),
            "agree_tos": "yes",
            "self_check": "skip",
            "wait": "3",
        }
        told = {
            "strikes": str(self.strikes),
            "ttl": TTL,
            "broken": self.broken,
            "preload": MODULES[self.engine],
            "options": options,
        }
        env = {f"ACME_{option.upper()}": value for option, value in options.items()} | {"ACME_STORE": self.server.url}
        name = f"h{number}"
        host = Host(name, number, self.folder / name, told, env)
        self._stack.callback(host.stop)
        return host

    def _store(self) -> Store:
        """A store of the harness's own: nobody's connection is shared."""
        return open_store(self.server.url)

    def _account(self) -> None:
        """The first certificate of all brings the account; and it shows that all is well before anything goes wrong."""
        self._issue("first.example")

    def _issue(self, name: str) -> None:
        self.ca.resolve["*"] = f"{self.hosts[0].address}:80"
        self._run(self.hosts[0], "issue", name)
        made = CertificateRecord.read(self._store(), certificate_key(name))
        assert made is not None
        self.known[name] = made.version

    def _run(self, host: Host, *words: str) -> Command:
        command = host.commands.start(*words)
        if not command.ended.wait(HUNG) or command.code != 0:
            raise RuntimeError(f"before anything was broken: {command}")
        return command

    def live_through(self, schedule: Schedule, *, verbose: bool = False) -> dict[str, Any]:
        """Let a schedule happen, then the next run, and judge. Returns what came of it."""
        name, store = self._name_for(schedule), self._store()
        began = time.monotonic()
        before = CertificateRecord.read(store, certificate_key(name))
        old = {entry.order.id for entry in self.orders.placed(name) if entry.order.status == "valid"}
        if schedule.renewal:
            _make_due(store, name)
        self.reader.name = name
        self.ca.resolve["*"] = f"{self.hosts[schedule.answers].address}:80"
        faults = {blow.fault: blow for blow in schedule.blows}
        for host in self.hosts:
            wrong = "clocks an hour apart" in faults and host.name in SKEWS
            host.commands = host.clocks["wrong" if wrong else "right"]
        forked = faults["worker forked after connecting"].host if "worker forked after connecting" in faults else None
        over = threading.Event()
        commands: list[Command] = []
        drivers = [
            threading.Thread(target=self._drive, args=(host, verb, name, number == forked, over, commands))
            for number, (host, verb) in enumerate(zip(self.hosts, schedule.verbs, strict=True))
        ]
        blows = Blows(self.server, self.hosts, self.strikes, self._lasting, ttl=TTL)
        under_way = blows.begin(schedule.blows)
        for thread in drivers:
            thread.start()
        for thread in under_way:
            thread.join()
        over.set()
        for thread in drivers:
            thread.join()
        calm = time.monotonic()
        verdict = Verdict()
        verdict.wrong += [f"the harness failed: {error!r}" for error in blows.errors]
        verdict.wrong += [f"it hangs: {command}" for command in commands if command.code is None]
        commands += self._recover(schedule, name, verdict)
        password = self.server.url.partition("@")[0].rpartition(":")[2]
        for command in commands:
            if any(word in command.output for word in CRASHED):
                verdict.wrong.append(f"it crashed: {command}")
            if password in command.output:
                verdict.wrong.append(f"the password is shown: {command}")
        recovered = time.monotonic()
        lines = self._lines(since=began)
        self._judge(name, before, old, lines, began, verdict)
        if verbose or verdict.wrong:
            self._tell(name, schedule, commands, lines, began, verdict)
        return {
            "schedule": str(schedule),
            "faults": [hit.blow.fault for hit in blows.hits if hit.at_point or hit.began < self._complete(lines)],
            "where": [str(hit) for hit in blows.hits],
            "wrong": verdict.wrong,
            "orders": verdict.orders,
            "late": verdict.late,
            "unknown": verdict.unknown,
            "refused": verdict.refused,
            "commands": len(commands),
            "seconds": round(recovered - began, 2),
            "recovery": round(recovered - calm, 2),
        }

    def _name_for(self, schedule: Schedule) -> str:
        finished = sorted(name for name in self.known if name != "first.example")
        if schedule.renewal and finished:
            return random.Random(schedule.number).choice(finished)
        name = f"n{schedule.number}.example"
        if schedule.renewal:  # the first that this world lives through, as with --only
            self._issue(name)
        return name

    def _drive(self, host: Host, verb: str, name: str, forked: bool, over: threading.Event, commands: list[Command]) -> None:
        """Run a host's command again and again until all blows have fallen, as an impatient timer would."""
        pauses = random.Random(f"{host.name} {name}")
        words = [name if word == "NAME" else word for word in verb.split()]
        while True:
            command = host.commands.start(*words, **({"forked": True, "name": name} if forked else {}))
            commands.append(command)
            deadline = None
            while not command.ended.wait(0.05):
                if over.is_set():
                    deadline = deadline or time.monotonic() + HUNG
                    if time.monotonic() > deadline:
                        return
            if over.wait(pauses.uniform(*PAUSES)):
                return

    def _recover(self, schedule: Schedule, name: str, verdict: Verdict) -> list[Command]:
        """Nothing is broken any more: one command makes all good, and one on each other host publishes it there."""
        commands = []
        order = self.hosts[schedule.answers :] + self.hosts[: schedule.answers]
        for host in order:
            host.commands = host.clocks["right"]
        verb = "renew" if schedule.renewal else "issue"
        first = order[0].commands.start(verb, name)
        commands.append(first)
        first.ended.wait(HUNG)
        if first.code == 75 and "must wait" in first.output:
            # Validations failed while the store was down, and a pause runs: a person has seen that all is well again.
            first = order[0].commands.start(verb, name, "--force")
            commands.append(first)
            first.ended.wait(HUNG)
        if first.code != 0:
            verdict.wrong.append(f"the next run does not get it done: {first}")
        for host in order[1:]:
            other = host.commands.start("renew", name)
            commands.append(other)
            other.ended.wait(HUNG)
            if other.code != 0:
                verdict.wrong.append(f"another host does not publish it: {other}")
        return commands

    def _judge(
        self,
        name: str,
        before: CertificateRecord | None,
        old: set[str],
        lines: list[Line],
        began: float,
        verdict: Verdict,
    ) -> None:
        store = self._store()
        placed = self.orders.placed(name, since=began)
        judge_orders(placed, lines, ttl=TTL, verdict=verdict)
        judge_leases(lines, verdict)
        judge_order_records(lines, ttl=TTL, verdict=verdict)
        # An order that an earlier window has left over may be what this one is done with.
        issued = [entry.order.id for entry in self.orders.placed(name) if entry.order.status == "valid"]
        made = judge_certificate(name, store, before, [order for order in issued if order not in old], lines, verdict)
        if made is not None:
            for host in self.hosts:
                judge_published(host.live, made, verdict)
        judge_all_there(store, {other: version for other, version in self.known.items() if other != name}, verdict)
        verdict.wrong += self.reader.take_wrong()
        if made is not None:
            self.known[name] = made.version

    def _lines(self, *, since: float) -> list[Line]:
        lines = [line for host in self.hosts for line in read(host.journal, since=since)]
        return sorted(lines, key=lambda line: float(line["at"]))

    def _complete(self, lines: list[Line]) -> float:
        """The moment from which on a blow would hit hosts that have nothing left to do."""
        saved = min((line["at"] for line in lines if line["point"] == "certificate saved"), default=float("inf"))
        ends = []
        for host in self.hosts:
            mine = [line["at"] for line in lines if line["point"] == "published" and line["host"] == host.name]
            ends.append(min((at for at in mine if at > saved), default=float("inf")))
        return max(ends)

    def _tell(
        self, name: str, schedule: Schedule, commands: list[Command], lines: list[Line], began: float, verdict: Verdict
    ) -> None:
        """Write down all that is known of a schedule that went wrong, on standard error."""
        import sys

        told = [str(schedule), *verdict.wrong]
        told += [json.dumps({**line, "at": round(line["at"] - began, 3)}) for line in lines if line["point"] != "rewritten"]
        told += [
            f"CA: {entry.at - began:.3f} {entry.order.id} {entry.order.status}"
            for entry in self.orders.placed(name, since=began)
        ]
        told += [str(command) for command in commands]
        print("\n".join(told), file=sys.stderr, flush=True)


def _make_due(store: Store, name: str) -> None:
    """Let the time of a certificate's renewal have come, by every host's clock."""
    record = RenewalRecord.read(store, renewal_key(name))
    if record is not None:
        replace(record, renew_after=record.not_before, ari=None).write(store, renewal_key(name))
