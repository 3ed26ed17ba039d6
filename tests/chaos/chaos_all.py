"""
All engines at the same time, each with hosts of its own: the table of faults and engines, and what did not hold.

    make chaos MINUTES=60                                  # draws until then
    python tests/chaos/chaos_all.py --schedules 20 --seed 7
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos_engines import ENGINES
from chaos_schedule import FAULTS

RUN = Path(__file__).with_name("chaos_run.py")

ENOUGH = 3
"""How often each fault must have met each engine, while there was something to be disturbed."""


@dataclass
class Report:
    """
    What came of all schedules.

    Attributes:
        schedules: One document each, as chaos_run.py prints them.
        said: What the programs had to say besides.
        loads: How many published pairs were loaded.
        codes: What the programs ended with, by engine.
    """

    seed: int
    schedules: list[dict[str, Any]] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    loads: int = 0
    codes: dict[str, int] = field(default_factory=dict)

    @property
    def wrong(self) -> list[str]:
        """What does not hold, with the schedule that shows it."""
        return [f"{one['schedule']}\n    {what}" for one in self.schedules for what in one["wrong"]]

    def cells(self) -> Counter[tuple[str, str]]:
        """How often each fault has met each engine."""
        return Counter((fault, one["engine"]) for one in self.schedules for fault in one["faults"])

    def too_few(self) -> list[str]:
        """The cells of the table that have not been tried enough."""
        cells = self.cells()
        return [
            f"{fault} x {engine}: {cells[fault, engine]}"
            for fault in FAULTS
            for engine in ENGINES
            if cells[fault, engine] < ENOUGH
        ]

    def __str__(self) -> str:
        cells = self.cells()
        rows = [("", *ENGINES), *((fault, *(str(cells[fault, engine]) for engine in ENGINES)) for fault in FAULTS)]
        lines = [f"{first:33}" + "".join(f"{entry:>12}" for entry in rest) for first, *rest in rows]
        orders, late, unknown, refused = (
            sum(one[what] for one in self.schedules) for what in ("orders", "late", "unknown", "refused")
        )
        slowest = max((one["recovery"] for one in self.schedules), default=0.0)
        return "\n".join(
            [
                f"chaos: {len(self.schedules)} schedules, seed {self.seed}, {len(self.wrong)} violations",
                *lines,
                f"{orders} orders; counted apart: {late} of holders held up past their lease, {unknown} whose answer was lost, "
                f"{refused} that the CA had ended before the next one",
                f"{sum(one['commands'] for one in self.schedules)} commands; {self.loads} loads of published pairs; "
                f"slowest recovery {slowest:.1f} s",
            ]
        )


def run_all(*words: str, seed: int | None = None, engines: Sequence[str] = ENGINES) -> Report:
    """
    Run schedules over several engines at once.

    Args:
        words: Further arguments of chaos_run.py.
        seed: By default one that is drawn.
    """
    report = Report(random.randrange(10**6) if seed is None else seed)
    lock = threading.Lock()

    def run(engine: str) -> None:
        argv = [sys.executable, str(RUN), "--engine", engine, "--seed", str(report.seed), *words]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            # Both pipes at once, or a program that says much would wait for us.
            said: list[str] = []
            errors = threading.Thread(target=lambda: said.extend(process.stderr or ()))
            errors.start()
            for line in process.stdout or ():
                document = json.loads(line)
                with lock:
                    if "schedule" in document:
                        report.schedules.append({"engine": engine, **document})
                    report.loads += document.get("loads", 0)
            errors.join()
        with lock:
            report.said[engine], report.codes[engine] = "".join(said), process.returncode

    threads = [threading.Thread(target=run, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--schedules", type=int, help="of each engine")
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    words = [] if given.minutes is None else ["--minutes", str(given.minutes)]
    words += [] if given.schedules is None else ["--schedules", str(given.schedules)]
    report = run_all(*words, seed=given.seed)
    for said in report.said.values():
        print(said, end="", file=sys.stderr)
    print(report)
    return int(bool(report.wrong) or any(report.codes.values()))


if __name__ == "__main__":
    sys.exit(main())
