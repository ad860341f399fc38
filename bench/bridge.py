"""The bridge under load, without a model: `python -m bench.bridge streams|jobs|scaling|latency`.

Real Celery workers (`bench.synthetic.worker`), a real Redis, a real bridge process, and the API's end of the link in
this process, whose CPU is counted apart. Tokens carry the moment they were made; the added latency of one is the
time until the API's end has it.

    streams   open streams at a steady rate: loss, doubles, added latency, cores of each part
    jobs      many short jobs: does the bridge's memory stay flat?
    scaling   1, 2, 4, 8 worker processes: is the aggregate linear, until the machine's cores are full?
    latency   one request at a time against calling the engine in this process

`--json FILE` writes everything that was measured. A small machine: `streams --streams 200 --workers 4`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median, median_low
from typing import Any

from bench.synthetic import scenarios
from bench.synthetic.machine import facts
from bench.synthetic.scenarios import Row, fleet_of

MAX_LATENCY_MS, MAX_BRIDGE_CORES, MAX_GROWTH, LINEAR = 50.0, 1.0, 5.0, 0.95
FAULTS = ("lost", "doubled", "failed", "stuck")
FULL = 0.9  # of the machine's cores: beyond it nothing can be linear


async def run_streams(args: argparse.Namespace) -> list[Row]:
    workers = args.workers or -(-args.streams // args.threads)
    async with fleet_of(workers, rate=args.rate, threads=args.threads) as fleet:
        return [
            await scenarios.streams(fleet, args.streams, rate=args.rate, seconds=args.seconds)
            for _ in range(args.rounds)
        ]


async def run_jobs(args: argparse.Namespace) -> list[Row]:
    async with fleet_of(args.workers, rate=args.rate, threads=args.threads) as fleet:
        return [await scenarios.jobs(fleet, args.jobs, in_flight=args.in_flight)]


async def run_scaling(args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    async with fleet_of(0, rate=args.rate, threads=args.threads) as fleet:
        for workers in sorted(args.counts):
            await fleet.grow(workers)
            count = workers * args.threads
            rounds = [
                await scenarios.streams(fleet, count, rate=args.rate, seconds=args.seconds)
                for _ in range(args.rounds)
            ]
            rows.append(middle(rounds))
    one = rows[0]["tokens_per_s"] / rows[0]["workers"]
    return [row | {"of_linear": row["tokens_per_s"] / (one * row["workers"])} for row in rows]


async def run_latency(args: argparse.Namespace) -> list[Row]:
    async with fleet_of(1, rate=args.rate, threads=args.threads) as fleet:
        return [
            await scenarios.latency(fleet, rate=args.rate, requests=args.requests, tokens=args.tokens)
            for _ in range(args.rounds)
        ]


RUN: dict[str, Callable[[argparse.Namespace], Coroutine[Any, Any, list[Row]]]] = {
    "streams": run_streams,
    "jobs": run_jobs,
    "scaling": run_scaling,
    "latency": run_latency,
}


def middle(rows: list[Row]) -> Row:
    """The median of every figure over the rounds; of what must not happen, the sum."""
    out: Row = {}
    for name, value in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(value, dict):
            out[name] = middle(values)
        else:
            middle_of = median_low if isinstance(value, int) else median
            out[name] = sum(values) if name in FAULTS else middle_of(values)
    return out


def misses(mode: str, row: Row) -> list[str]:
    """Which bars of this mode the row does not hold, in words. Pure."""
    found = [f"{row[name]} {name}" for name in FAULTS if row.get(name)]
    if mode == "streams":
        if row["latency_p99_ms"] > MAX_LATENCY_MS:
            found.append(f"p99 {row['latency_p99_ms']:.1f} ms > {MAX_LATENCY_MS:.0f} ms")
        if row["cores"]["bridge"] > MAX_BRIDGE_CORES:
            found.append(f"bridge {row['cores']['bridge']:.2f} cores > {MAX_BRIDGE_CORES:.0f}")
    if mode == "jobs" and abs(row["rss_growth_percent"]) > MAX_GROWTH:
        found.append(f"memory {row['rss_growth_percent']:+.1f} % > {MAX_GROWTH:.0f} %")
    if mode == "scaling" and row["of_linear"] < LINEAR and row["cores"]["machine"] < FULL:
        found.append(f"{row['of_linear']:.2f} of linear < {LINEAR}")
    return found


def table(row: Row) -> str:
    lines = ["| what | figure |", "|---|---|"]
    for name, value in row.items():
        if isinstance(value, dict):
            lines += [f"| {name}: {part} | {figure:.3f} |" for part, figure in value.items()]
        else:
            lines.append(f"| {name} | {value:,.3f} |" if isinstance(value, float) else f"| {name} | {value} |")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = top.add_subparsers(dest="mode", required=True)

    def mode(name: str, *, rate: float, rounds: int = 1) -> argparse.ArgumentParser:
        made = modes.add_parser(name)
        made.add_argument("--rate", type=float, default=rate, help="steps a second of an engine")
        made.add_argument("--threads", type=int, default=64, help="slots of a worker process")
        made.add_argument("--rounds", type=int, default=rounds)
        made.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
        return made

    one = mode("streams", rate=20, rounds=3)
    one.add_argument("--streams", type=int, default=1000)
    one.add_argument("--workers", type=int, help="worker processes (default: as few as the streams need)")
    one.add_argument("--seconds", type=float, default=20, help="of measuring, once all streams are open")
    one = mode("jobs", rate=200)
    one.add_argument("--jobs", type=int, default=100_000)
    one.add_argument("--workers", type=int, default=4)
    one.add_argument("--in-flight", type=int, default=128)
    one = mode("scaling", rate=20, rounds=3)
    one.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8], help="worker processes")
    one.add_argument("--seconds", type=float, default=10)
    one = mode("latency", rate=50, rounds=3)
    one.add_argument("--requests", type=int, default=50)
    one.add_argument("--tokens", type=int, default=20)
    return top


def main(argv: list[str] | None = None) -> int:
    """Returns 1 when a bar is missed."""
    args = parser().parse_args(argv)
    machine = facts()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), file=sys.stderr, flush=True)
    rows = asyncio.run(RUN[args.mode](args))
    shown = rows if args.mode == "scaling" else [middle(rows)]
    missed = [words for row in shown for words in misses(args.mode, row)]
    for row in shown:
        print(table(row), end="\n\n")
    print("missed: " + "; ".join(missed) if missed else "every bar holds")
    if args.json:
        options = {name: value for name, value in vars(args).items() if name != "json"}
        found = {"machine": machine, "options": options, "rounds": rows, "result": shown, "missed": missed}
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
