"""
Run schedules over one engine, and print a line of JSON for each, then one for all.

    python chaos_run.py --engine Redis --schedules 20 --seed 7
    python chaos_run.py --engine Redis --minutes 60          # until then
    python chaos_run.py --engine Redis --seed 7 --only 3     # one schedule of a seed, with all that is known about it

As root: it makes network namespaces, of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"
sys.path.insert(0, str(TOOLS))

from chaos_engines import ENGINES  # noqa: E402
from chaos_hosts import ENTER, run  # noqa: E402
from chaos_instruments import POINTS  # noqa: E402
from chaos_schedule import FAULTS, draw  # noqa: E402
from chaos_world import World  # noqa: E402

HOSTS = 3
MORE = 10
"""Schedules beyond those that were asked for, at most."""
INSIDE = "CHAOS_INSIDE"


def main() -> int:
    given = _arguments()
    if os.geteuid() != 0:
        print("the chaos tests make network namespaces, which only root may: run them as root", file=sys.stderr)
        return 2
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "yes"
        os.execvp(ENTER[0], [*ENTER, sys.executable, *sys.argv])
    # faketime names its semaphores by process ids, which are the same in each program's namespace; a killed one leaves them.
    run("mount", "-t", "tmpfs", "shm", "/dev/shm")
    seed = random.randrange(10**6) if given.seed is None else given.seed
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as folder,
        World(given.engine, Path(folder), hosts=HOSTS, broken=given.broken) as world,
    ):
        _print({"engine": given.engine, "seed": seed, "setup": time.monotonic() - began})
        schedules = draw(given.engine, seed, hosts=HOSTS, faults=given.faults, points=given.points)
        met: Counter[str] = Counter()
        for schedule in schedules:
            if given.minutes is not None and time.monotonic() - began > 60 * given.minutes:
                break
            if given.schedules is not None and schedule.number >= given.schedules:
                # A blow may have fallen when all was done already: a few more, until each fault was there in time.
                few = [fault for fault in given.faults if met[fault] < given.enough]
                if not few or schedule.number >= given.schedules + MORE:
                    break
            if given.only is None or schedule.number == given.only:
                outcome = world.live_through(schedule, verbose=given.only is not None)
                met.update(outcome["faults"])
                _print(outcome)
                if outcome["wrong"] and given.first:
                    break
        _print({"engine": given.engine, "loads": world.reader.loads, "seconds": time.monotonic() - began})
    return 0


def _print(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--schedules", type=int, help="how many; without end by default")
    parser.add_argument("--enough", type=int, default=0, help="go on for a few more until each fault was met so often")
    parser.add_argument("--minutes", type=float, help="begin none after so many")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="only this one, and print all that is known about it")
    parser.add_argument("--first", action="store_true", help="end with the first schedule that goes wrong")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS, metavar="FAULT")
    parser.add_argument("--points", nargs="+", choices=POINTS, default=POINTS, metavar="POINT")
    parser.add_argument("--broken", default="", help="a name of chaos_broken.BREAKS: what to break in the product")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
