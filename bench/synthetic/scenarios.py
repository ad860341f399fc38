"""What `bench.bridge` measures. Each scenario returns plain data; medians are made by the caller."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import Any

from bench.synthetic.engine import SyntheticEngine, Token
from bench.synthetic.fleet import Fleet, running
from bench.synthetic.machine import rss_mib
from bench.synthetic.stream import Latencies, Stream

Row = dict[str, Any]

RAMP_PER_S = 200  # streams opened a second
END_S = 60.0  # more than the last tokens need
JOB_TOKENS = 3


@contextlib.asynccontextmanager
async def fleet_of(workers: int, *, rate: float, threads: int) -> AsyncIterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="pendra-bench-") as home:
        async with running(Path(home), workers=workers, rate=rate, threads=threads) as fleet:
            yield fleet


# ---------------------------------------------------------------- open streams


async def streams(fleet: Fleet, count: int, *, rate: float, seconds: float) -> Row:
    """`count` streams, opened at RAMP_PER_S; everything is measured while all of them are open, for `seconds`."""
    api = fleet.api
    api.latencies.clear()
    ramp_s = count / RAMP_PER_S
    tokens = max(2, round(rate * (2 * ramp_s + seconds + 1)))  # the first one still runs when the window ends
    opened = await _open(fleet, count, tokens)
    await _first_tokens(opened)
    before, tokens_before = fleet.cpu(), api.tokens
    api.latencies.recording = True
    await asyncio.sleep(seconds)
    api.latencies.recording = False
    after, delivered = fleet.cpu(), api.tokens - tokens_before
    await _ends(opened)
    fleet.check()
    cores = after.since(before)
    window = after.at - before.at
    return _account(opened) | {
        "streams": count,
        "workers": fleet.workers,
        "tokens_per_s": delivered / window,
        "asked_per_s": count * rate,
        "latency_p50_ms": api.latencies.percentile(0.5),
        "latency_p99_ms": api.latencies.percentile(0.99),
        "cores": cores,
        "bridge_cpu_ms_per_1000_tokens": 1e6 * cores["bridge"] * window / max(delivered, 1),
        "worker_cpu_ms_per_1000_tokens": 1e6 * cores["workers"] * window / max(delivered, 1),
    }


async def _open(fleet: Fleet, count: int, tokens: int) -> list[Stream]:
    opened = []
    began = time.monotonic()
    for number in range(count):
        opened.append(await fleet.api.start(tokens))
        await asyncio.sleep(max(0.0, began + number / RAMP_PER_S - time.monotonic()))
    return opened


async def _first_tokens(opened: list[Stream]) -> None:
    async with asyncio.timeout(END_S):
        while not all(stream.first_ns or stream.outcome for stream in opened):  # noqa: ASYNC110  # cheaper than events
            await asyncio.sleep(0.02)


async def _ends(opened: list[Stream]) -> None:
    """Until each has its terminal frame; what has none by then is `stuck` in the account."""
    longest = max(stream.tokens for stream in opened)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_S + longest):
            await asyncio.gather(*(stream.done.wait() for stream in opened))


def _account(opened: list[Stream]) -> Row:
    return {
        "lost": sum(stream.lost for stream in opened),
        "doubled": sum(stream.doubled for stream in opened),
        "failed": sum(stream.outcome != "result" for stream in opened if stream.outcome),
        "stuck": sum(not stream.outcome for stream in opened),
    }


# ---------------------------------------------------------------- short jobs


async def jobs(fleet: Fleet, count: int, *, in_flight: int) -> Row:
    """`count` jobs of JOB_TOKENS tokens, `in_flight` at a time. The first tenth warms up; then memory must stay."""
    sizes: list[tuple[int, float]] = []
    api, left, ended = fleet.api, iter(range(count)), []
    before, began, ended_before = fleet.cpu(), time.monotonic(), api.ended

    async def client() -> None:
        for number in left:
            deadline = time.time() + 600 if number % 2 else None
            stream = await api.start(JOB_TOKENS, deadline=deadline)
            async with asyncio.timeout(END_S):
                await stream.done.wait()
            ended.append(_account([stream]))
            api.streams.pop(stream.job_id)

    async def scale() -> None:
        while True:
            sizes.append((api.ended - ended_before, rss_mib(fleet.bridge_pid)))
            await asyncio.sleep(0.25)

    scales = asyncio.create_task(scale())
    try:
        await asyncio.gather(*(client() for _ in range(in_flight)))
    finally:
        scales.cancel()
    seconds, cores = time.monotonic() - began, fleet.cpu().since(before)
    sizes.append((count, rss_mib(fleet.bridge_pid)))
    return (
        {name: sum(row[name] for row in ended) for name in ended[0]}
        | _growth(sizes, count)
        | {
            "jobs": count,
            "jobs_per_s": count / seconds,
            "cores": cores,
            "bridge_cpu_ms_per_job": 1000 * cores["bridge"] * seconds / count,
        }
    )


def _growth(sizes: list[tuple[int, float]], count: int) -> Row:
    """Medians of the bridge's memory in the second and in the last tenth of the jobs."""
    early = [mib for done, mib in sizes if count * 0.1 <= done <= count * 0.2] or [sizes[0][1]]
    late = [mib for done, mib in sizes if done >= count * 0.9]
    return {
        "rss_early_mib": median(early),
        "rss_late_mib": median(late),
        "rss_growth_percent": 100 * (median(late) / median(early) - 1),
    }


# ---------------------------------------------------------------- against the engine itself


async def latency(fleet: Fleet, *, rate: float, requests: int, tokens: int = 20) -> Row:
    """One request at a time, in turns through everything and straight to an engine in this process."""
    stack, direct = _Times(), _Times()
    engine = _Direct(rate)
    try:
        await _through(fleet, tokens, _Times())  # connections, caches
        for _ in range(requests):
            await _through(fleet, tokens, stack)
            await asyncio.to_thread(engine.ask, tokens, direct)
    finally:
        engine.close()
    return (
        {"requests": requests}
        | stack.row("stack")
        | direct.row("direct")
        | {
            "added_first_token_ms": median(stack.first_ms) - median(direct.first_ms),
            "added_first_token_p99_ms": _p99(stack.first_ms) - median(direct.first_ms),
        }
    )


class _Times:
    """Of several requests: milliseconds from asking to the first token, and from a token's making to its arrival."""

    def __init__(self) -> None:
        self.first_ms: list[float] = []
        self.tokens = Latencies()
        self.tokens.recording = True

    def row(self, name: str) -> Row:
        return {
            f"{name}_first_token_ms": median(self.first_ms),
            f"{name}_token_p50_ms": self.tokens.percentile(0.5),
            f"{name}_token_p99_ms": self.tokens.percentile(0.99),
        }


async def _through(fleet: Fleet, tokens: int, times: _Times) -> None:
    fleet.api.latencies = times.tokens
    stream = await fleet.api.start(tokens)
    async with asyncio.timeout(END_S):
        await stream.done.wait()
    if stream.outcome != "result":
        raise RuntimeError(f"a request ended with {stream.outcome}")
    times.first_ms.append((stream.first_ns - stream.sent_ns) / 1e6)
    fleet.api.streams.pop(stream.job_id)


class _Direct:
    """The same engine, called in this process."""

    def __init__(self, rate: float) -> None:
        self._engine = SyntheticEngine(rate, self._took)
        self._times: _Times | None = None
        self._sent_ns = 0
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()

    def ask(self, tokens: int, times: _Times) -> None:
        """Blocks until the last token; not on the event loop."""
        self._times, self._count = times, self._count + 1
        self._done.clear()
        self._sent_ns = time.monotonic_ns()
        self._engine.submit(str(self._count), tokens)
        asyncio.run_coroutine_threadsafe(self._done.wait(), self._loop).result(END_S)

    def close(self) -> None:
        self._engine.close()

    def _took(self, step: list[Token]) -> None:
        now_ns = time.monotonic_ns()
        assert self._times is not None
        for token in step:
            self._times.tokens.add((now_ns - token.made_ns) / 1e6)
            if token.number == 0:
                self._times.first_ms.append((now_ns - self._sent_ns) / 1e6)
            if token.is_last:
                self._loop.call_soon_threadsafe(self._done.set)


def _p99(values: list[float]) -> float:
    return sorted(values)[min(int(0.99 * len(values)), len(values) - 1)]
