"""Through the whole stack against the engine in process, in one run: `python -m bench.stack`.

Every round measures each concurrency once through HTTP → control plane → bridge → Celery → worker and back, and once
by calling the same engine in this process; the two take turns, so that a change of the machine's speed meets both.
With `--llama-server BINARY` that server takes a turn as well. Medians over the rounds; ratios are the point.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import httpx

from bench import client
from bench.client import Load
from bench.inprocess import InProcess
from bench.prompts import prompts
from tests.acceptance.stack import MODEL, Stack, eventually, free_port, running

ROOT = Path(__file__).resolve().parent.parent
Runner = Callable[[list[str], int], Load]


@contextlib.contextmanager
def stack_runner(models_dir: Path, slots: int, ctx: int, threads: int) -> Iterator[Runner]:
    os.environ["PENDRA_THREADS"] = str(threads)
    os.environ["PENDRA_CONTEXT_LENGTH"] = str(ctx)
    with tempfile.TemporaryDirectory() as home:
        args = ("--workers", "1", "--slots", str(slots))
        with running(
            Stack(Path(home), models_dir, args=args, keep_env=("PENDRA_THREADS", "PENDRA_CONTEXT_LENGTH"))
        ) as up:
            yield lambda asks, tokens: client.run(f"{up.url}/v1", up.key, MODEL, asks, tokens)


@contextlib.contextmanager
def engine_runner(model: Path, slots: int, ctx: int, threads: int) -> Iterator[Runner]:
    engine = InProcess(model, slots=slots, ctx_per_seq=ctx, threads=threads)
    try:
        yield engine.run
    finally:
        engine.close()


@contextlib.contextmanager
def llama_server_runner(binary: str, model: Path, slots: int, ctx: int, threads: int) -> Iterator[Runner]:
    port = free_port()
    argv = [binary, "-m", str(model), "--port", str(port), "-np", str(slots), "-c", str(slots * ctx)]
    argv += ["-t", str(threads), "-fa", "on", "--no-webui"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{url}/health", timeout=2).status_code == 200
        return False

    try:
        if not eventually(ready, 60, 0.2):
            raise SystemExit("llama-server did not become ready")
        yield lambda asks, tokens: client.run(f"{url}/v1", "none", MODEL, asks, tokens)
    finally:
        process.terminate()
        process.wait(20)


def measure(
    runners: dict[str, Runner], levels: list[int], rounds: int, tokens: int
) -> dict[tuple[str, int], list[Load]]:
    loads: dict[tuple[str, int], list[Load]] = {}
    for runner in runners.values():
        runner(prompts(max(levels)), 8)  # warm up: connections, caches, first Celery message
    for number in range(rounds):
        for level in levels:
            for name, runner in runners.items():
                time.sleep(0.2)
                loads.setdefault((name, level), []).append(runner(prompts(level), tokens))
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return loads


def report(loads: dict[tuple[str, int], list[Load]], levels: list[int], names: list[str]) -> None:
    base = names[0]
    columns = [f"{n} tok/s | {n} TTFT ms" for n in names] + [f"tok/s {base} ÷ {n}" for n in names[1:]]
    columns += [f"TTFT {base} − {n}, ms" for n in names[1:]]
    print("| concurrent | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * (len(names) * 2 + 2 * (len(names) - 1)))
    for level in levels:
        speed = {n: [load.tokens_per_second for load in loads[n, level]] for n in names}
        ttft = {n: [load.ttft_ms for load in loads[n, level]] for n in names}
        row = [f"{median(speed[n]):.1f} | {median(ttft[n]):.0f}" for n in names]
        row += [f"{median(a / b for a, b in zip(speed[base], speed[n], strict=True)):.2f}" for n in names[1:]]
        row += [f"{median(a - b for a, b in zip(ttft[base], ttft[n], strict=True)):.1f}" for n in names[1:]]
        print(f"| {level} | " + " | ".join(row) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--ctx", type=int, default=1024, help="context of each slot, in tokens")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--llama-server", metavar="BINARY", help="measure this llama-server too")
    args = parser.parse_args()
    slots = max(args.levels)
    common = {"slots": slots, "ctx": args.ctx, "threads": args.threads}
    with contextlib.ExitStack() as parts:
        runners: dict[str, Runner] = {
            "stack": parts.enter_context(stack_runner(args.model.parent, **common)),
            "engine": parts.enter_context(engine_runner(args.model, **common)),
        }
        if args.llama_server:
            runners["llama-server"] = parts.enter_context(
                llama_server_runner(args.llama_server, args.model, **common)
            )
        loads = measure(runners, args.levels, args.rounds, args.tokens)
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, {args.threads} threads, ", end=""
    )
    print(
        f"{args.model.stem}, {slots} slots of {args.ctx} tokens, {args.tokens} tokens a request, {args.rounds} rounds"
    )
    report(loads, args.levels, list(runners))


if __name__ == "__main__":
    main()
