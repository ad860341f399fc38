"""Through the whole stack against the engine in process, in one run: `python -m bench.stack`.

Every round measures each concurrency once through HTTP → control plane → bridge → Celery → worker and back, and once
by calling the same engine in this process; they take turns, so that a change of the machine's speed meets both. With
`--llama-server BINARY` that server takes a turn as well. Medians over the rounds; ratios are the point.

A burst (the default) is one request a client, all at the same moment. `--each 3` is a steady load: each client asks
three times, with replies of different length, so that prompts arrive while others stream.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

from bench import client
from bench.inprocess import InProcess
from bench.load import Load, Series, burst, steady
from bench.servers import SMOLLM, Size, llama_server, stack

Runner = Callable[[list[Series]], Load]
Loads = dict[tuple[str, int], list[Load]]


@contextlib.contextmanager
def engine_runner(model: Path, size: Size) -> Iterator[Runner]:
    engine = InProcess(model, slots=size.slots, ctx_per_seq=size.ctx, threads=size.threads)
    try:
        yield engine.run
    finally:
        engine.close()


def measure(runners: dict[str, Runner], args: argparse.Namespace) -> Loads:
    loads: Loads = {}
    for runner in runners.values():
        runner(burst(max(args.levels), 8))  # warm up: connections, caches, first Celery message
    for number in range(args.rounds):
        for level in args.levels:
            series = steady(level, args.tokens, args.each) if args.each > 1 else burst(level, args.tokens)
            for name, runner in runners.items():
                time.sleep(0.2)
                loads.setdefault((name, level), []).append(runner(series))
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
    return loads


def report(loads: Loads, levels: list[int], names: list[str]) -> None:
    """A row a concurrency; ratios are medians of the ratios within each round."""
    figures: dict[str, Callable[[Load], float]] = {
        "tok/s": lambda load: load.tokens_per_second,
        "TTFT ms": lambda load: load.ttft_ms,
        "gap p99 ms": lambda load: load.gap_p99_ms,
    }
    base, *others = names
    columns = [f"{n} {what}" for what in figures for n in names]
    columns += [f"{what.split()[0]} {base} ÷ {n}" for what in figures for n in others]
    columns += [f"TTFT {base} − {n}, ms" for n in others]
    print("| concurrent | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for level in levels:
        seen = {(n, what): [see(load) for load in loads[n, level]] for what, see in figures.items() for n in names}
        row = [f"{median(seen[n, what]):.1f}" for what in figures for n in names]
        for what in figures:
            row += [f"{_ratio(seen[base, what], seen[n, what]):.2f}" for n in others]
        row += [f"{median(a - b for a, b in _pairs(seen[base, 'TTFT ms'], seen[n, 'TTFT ms'])):.1f}" for n in others]
        print(f"| {level} | " + " | ".join(row) + " |")


def _pairs(ours: list[float], theirs: list[float]) -> Iterator[tuple[float, float]]:
    return zip(ours, theirs, strict=True)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return median(a / b if b else 1.0 for a, b in _pairs(ours, theirs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SMOLLM)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--each", type=int, default=1, help="requests a client, one after the other")
    parser.add_argument("--ctx", type=int, default=1024, help="context of each slot, in tokens")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--llama-server", metavar="BINARY", help="measure this llama-server too")
    parser.add_argument("--no-engine", action="store_true", help="leave out the engine in this process")
    args = parser.parse_args()
    size = Size(max(args.levels), args.ctx, args.threads)
    with contextlib.ExitStack() as parts:
        runners: dict[str, Runner] = {"stack": partial(client.run, parts.enter_context(stack(args.model, size)))}
        if not args.no_engine:
            runners["engine"] = parts.enter_context(engine_runner(args.model, size))
        if args.llama_server:
            target = parts.enter_context(llama_server(args.llama_server, args.model, size))
            runners["llama-server"] = partial(client.run, target)
        loads = measure(runners, args)
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, {args.threads} threads")
    print(
        f"{args.model.stem}, {size.slots} slots of {args.ctx} tokens, about {args.tokens} tokens a request, ", end=""
    )
    print(f"{args.each} a client, {args.rounds} rounds")
    report(loads, args.levels, list(runners))


if __name__ == "__main__":
    main()
