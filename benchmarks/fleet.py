"""
A fleet of certificates over 400 simulated days: do they lapse, does the CA get its orders evenly, what do 6 days need?

    python benchmarks/fleet.py        SCALE=ci: 10,000 certificates; full (the default): 1,000,000
    python benchmarks/fleet.py --docs        writes the table about 6 days into docs/renewal.md as well

The simulation is tools/fleet_world.py, over the product's own decisions: a timer on each host, a CA with renewal windows,
failures, an incident for which the CA wants certificates renewed at once, and outages of an hour to five days.

It ends with 1 where a promise is broken: a lapse that no outage longer than the margin explains, an hour with more orders than
there is a reason for, more attempts at a silent CA than the back-off allows. The reasons stand beside the limits.
"""

from __future__ import annotations

import gc
import math
import os
import resource
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from acme_middleware.issuance.ledger import back_off

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from fleet_world import (
    ASK,
    BEGIN,
    BROKEN_FOR,
    DAY,
    DAYS,
    HIT,
    HOUR,
    INCIDENT,
    MIDDLE,
    OUTAGES,
    SEED,
    WIDTH,
    Tally,
    World,
    run,
    timer,
)

FULL = os.environ.get("SCALE", "full") != "ci"
MIXED, ALONE, BURST, TIMERS = (1_000_000, 20_000, 10_000, 5_000) if FULL else (10_000, 300, 500, 200)
"""Certificates: of mixed lifetimes, of one lifetime, all issued in one hour, and for each timer that is tried."""
PAGE = Path(__file__).resolve().parent.parent / "docs" / "renewal.md"
MARKS = ("<!-- made by benchmarks/fleet.py --docs -->", "<!-- end -->")
RECALL = range(INCIDENT * 24, INCIDENT * 24 + 24)
"""The hours in which certificates that the CA has revoked are renewed."""
SHARES = {90: 0.40, 64: 0.25, 45: 0.25, 6: 0.10}


def margin(lifetime: int) -> float:
    """
    The longest outage that no certificate lapses in: from the window's end to expiry, less what a host may be late by.

    That is a turn of its timer before the first attempt and one before the last, the longest wait after a failure of its
    own, and the time for which a site may be broken.
    """
    worst = min(DAY, lifetime * DAY / 20)
    return lifetime * DAY * (1 - MIDDLE - WIDTH / 2) - 2 * timer(lifetime) - worst - BROKEN_FOR


def noise(expected: float) -> float:
    """How much an hour may have above what is expected, by chance alone: six sigma, since there are thousands of hours."""
    return 6 * math.sqrt(expected) + 3


class Aftermath(NamedTuple):
    """Orders in the busiest hour of the day after an outage, the limit, and the busiest hour from then to the next outage."""

    peak: int
    limit: float
    echo: int


def aftermath(number: int, parts: dict[int, int], world: World, tally: Tally) -> Aftermath:
    """
    What comes after an outage.

    What has come due meanwhile is ordered on top of the usual, spread over the time between two attempts: the longest wait
    for a silent CA, up to the next turn of the timer. A quarter is allowed for hosts that have not come to that wait yet.
    """
    begin, end = world.edges[2 * number] / HOUR, world.edges[2 * number + 1] / HOUR
    until = world.edges[2 * number + 2] / HOUR if 2 * number + 2 < len(world.edges) else world.days * 24
    expected = 0.0
    for lifetime, count in parts.items():
        period = lifetime * 24 * MIDDLE
        longest = back_off("silent", 99, timedelta(days=lifetime), uniform=lambda low, high: high).total_seconds()
        between = math.ceil(longest / timer(lifetime)) * timer(lifetime) / HOUR
        expected += count / period * (1 + min(end - begin, period) / between)
    hours = range(int(end), int(end) + 24)
    return Aftermath(
        max(tally.orders[hour] for hour in hours),
        1.25 * expected + noise(expected),
        max(tally.orders[hour] for hour in range(hours.stop, int(until)) if hour not in RECALL),
    )


def report(title: str, parts: dict[int, int], world: World) -> list[str]:
    """Simulate a fleet in 400 days of trouble, print what happened, and return the promises that were broken."""
    tally, broken = run(parts, world), []
    mean = sum(tally.orders.values()) / (world.days * 24)
    quiet = max(tally.orders[hour] for hour in range(48, OUTAGES[0][0] * 24))
    # Certificates of every age come due evenly: what is above the mean is chance, and a hundredth for the ages at the start.
    allowed = mean * 1.01 + noise(mean)
    print(
        f"\n{title}: {tally.certificates:,} certificates, {tally.renewals:,} renewals, {mean:,.1f} orders an hour in the mean"
    )
    print(f"  busiest hour before the first outage: {quiet / mean:.2f} of the mean, at most {allowed / mean:.2f} is wanted")
    # Hosts ask for advice once in that time, each at its own; what was to be renewed by then anyway makes no difference.
    recalled, usual = max(tally.orders[hour] for hour in RECALL), mean + tally.certificates * HIT / (ASK / HOUR)
    print(
        f"  an incident: all that the CA revoked were renewed after {tally.slowest / HOUR:.1f} h, at most 24 are wanted; "
        f"busiest hour {recalled / mean:.1f}, at most {(1.25 * usual + noise(usual)) / mean:.1f}"
    )
    print(f"  renewed after the window without a failure: {tally.late}; in the last twentieth: {tally.emergencies:,}")
    print(f"  at most {tally.most_tries} attempts of one certificate at a silent CA; lapses of broken sites: {tally.own}")
    if quiet > allowed:
        broken.append(f"{title}: {quiet} orders in an hour of a quiet time, at most {allowed:.0f} are wanted")
    if recalled > 1.25 * usual + noise(usual):
        broken.append(f"{title}: {recalled} orders in an hour of the incident, at most {1.25 * usual + noise(usual):.0f}")
    if tally.slowest > DAY:
        broken.append(f"{title}: {tally.slowest / HOUR:.1f} h from an incident to a renewal")
    # 1, 10, 100 minutes, then every two hours, through the longest outage.
    if tally.most_tries > 3 + OUTAGES[-1][1] * 12:
        broken.append(f"{title}: one certificate was tried {tally.most_tries} times at a silent CA")
    if tally.early:
        broken.append(f"{title}: {tally.early} sweeps found no renewal due at the time of renewal")
    if lost := sum(count for (_, number), count in tally.lapses.items() if number is None):
        broken.append(f"{title}: {lost} lapses without an outage")
    print("  outage   busiest hour after   limit   later   attempts an hour meanwhile   lapses (margin)")
    for number, (_, length) in enumerate(world.outages):
        after = aftermath(number, parts, world, tally)
        silent = max(tally.silence[hour] for hour in range(*(int(edge / HOUR) for edge in world.edges[2 * number :][:2])))
        lapses = []
        for lifetime in parts:
            count, safe = tally.lapses[lifetime, number], length * DAY < margin(lifetime)
            lapses.append(f"{lifetime} d: {count}" + ("" if safe else f" ({margin(lifetime) / HOUR:.0f} h)"))
            if count and safe:
                broken.append(f"{title}: {count} of {lifetime} days lapsed in an outage of {length * 24:g} h")
        numbers = f"{after.peak / mean:18.1f}x {after.limit / mean:6.1f}x {after.echo / mean:6.1f}x {silent / mean:27.1f}x"
        print(f"  {length * 24:4.0f} h {numbers}    {', '.join(lapses)}")
        if after.peak > after.limit:
            broken.append(f"{title}: {after.peak} orders in an hour after {length * 24:g} h, at most {after.limit:.0f}")
        if after.echo > after.peak + noise(after.peak):
            broken.append(f"{title}: {after.echo} orders in an hour long after an outage of {length * 24:g} h: it grows")
    return broken


def burst(lifetime: int, *, ari: bool) -> list[str]:
    """All were issued in one hour: print how the renewals spread, cycle by cycle."""
    world = World(outages=(), incident=None, ari=ari)
    tally, broken = run({lifetime: BURST}, world, burst=True), []
    period = lifetime * 24 * MIDDLE if ari else lifetime * 24 * (0.5 if lifetime <= 10 else 2 / 3)
    mean = BURST / period
    peaks = [max(orders.values()) for _, orders in sorted(tally.cycles.items())][: int(DAYS * 24 / period)]
    shown = [number for number in (1, 2, 3, 6, 12, 25, 50, 75, 100) if number <= len(peaks)]
    table = ", ".join(f"{number}: {peaks[number - 1] / mean:.1f}" for number in shown)
    print(f"  {lifetime} d, {'windows' if ari else 'no windows'}: {table}")
    width = max(1.0, lifetime * 24 * WIDTH) if ari else timer(lifetime) / HOUR
    expected = BURST / width
    # Twice that towards a window's end: there come those that have drawn the moment, and those whose last look it is.
    if peaks[0] > 2.2 * expected + noise(expected):
        broken.append(f"after a burst, {lifetime} d: {peaks[0]} orders in an hour, about {expected:.0f} are wanted")
    # Without windows nothing but the timers spreads them, and whether that falls into one hour of the clock or two is chance.
    if ari and any(later > before * 1.05 + noise(before) for before, later in pairwise(peaks)):
        broken.append(f"after a burst, {lifetime} d: the renewals come closer together again")
    return broken


def timers() -> tuple[list[str], list[str]]:
    """What 6 days need: how often a host must look. Returns a table, and the promises that were broken."""
    broken = []
    table = [
        "| timer | renewed after the CA's window | in the last 7 hours | lapsed | with the CA silent for 24 h | for 36 h |",
        "|---|---|---|---|---|---|",
    ]
    for minutes in (15, 60, 120, 180, 360, 720, 1440):
        world = World(days=100, outages=((40, 1), (70, 1.5)), incident=None)
        tally = run({6: TIMERS}, world, every=minutes * 60.0)
        every = f"{minutes} min" if minutes < 60 else f"{minutes // 60} h"
        late, last = tally.late / tally.renewals, tally.emergencies / tally.renewals
        counts = [tally.lapses[6, number] + (tally.own if number is None else 0) for number in (None, 0, 1)]
        shown = " | ".join(f"{count / TIMERS:.2%}" if count else "none" for count in counts)
        table.append(f"| {every} | {late:.1%} | {last:.2%} | {shown} |")
        if minutes <= 60 and any(counts[:2]):
            broken.append(f"6 days with a timer of {every}: {sum(counts[:2])} lapses")
        if minutes <= 120 and tally.late:
            broken.append(f"6 days with a timer of {every}: {tally.late} renewals after the window, which it meets")
    return table, broken


def write(page: Path, table: Sequence[str]) -> None:
    """Put the table into a page, between its marks."""
    before, mark, rest = page.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not mark or not end:
        raise SystemExit(f"{page} has no {' ... '.join(MARKS)}")
    page.write_text("\n".join([before + mark, "", *table, "", end + after]))


def main() -> int:
    """Simulate, print, and return 1 if a promise is broken."""
    gc.disable()  # nothing here is a cycle
    print(f"seed {SEED}, {DAYS} days from {BEGIN:%Y-%m-%d}; an hour's orders are given as multiples of the mean")
    world, began = World(), time.process_time()
    broken = report("mixed", {lifetime: round(MIXED * share) for lifetime, share in SHARES.items()}, world)
    for lifetime in SHARES:
        broken += report(f"{lifetime} days", {lifetime: ALONE}, world)
    print(f"\nAll {BURST:,} issued in one hour: the busiest hour of their first, second ... renewals")
    for lifetime, ari in ((90, True), (6, True), (90, False), (6, False)):
        broken += burst(lifetime, ari=ari)
    table, missed = timers()
    broken += missed
    print(f"\nWhat 6-day lifetimes need ({TIMERS:,} certificates, 100 days, two of them with outages of the CA)")
    print("\n".join(table))
    if "--docs" in sys.argv[1:]:
        write(PAGE, table)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{time.process_time() - began:.0f} s of one processor, {memory:.0f} MiB")
    for line in broken:
        print(f"broken: {line}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
