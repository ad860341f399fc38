"""One stream, one fault, at one exact moment; and a client that goes away at each.

The worker is paced so that each moment lasts: a model that loads for a second, a prompt that takes many steps.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tasks import keys
from tests.chaos.cluster import HOST, MODEL, Cluster, Part, a_cluster, eventually
from tests.chaos.readers import Manner, Reading, Wish
from tests.fakes.counting_llama import number

TOKENS = 40
WISH = Wish(start=100, tokens=TOKENS, manner=Manner.STREAM)
LONG_PROMPT = 400  # tokens: several steps


Asking = tuple[Reading, asyncio.Task[None]]


@asynccontextmanager
async def asking(
    cluster: Cluster, wish: Wish, *, before: int = 0
) -> AsyncIterator[tuple[Reading, asyncio.Task[None]]]:
    """One request under way. `before`: tokens of the prompt that mean nothing."""
    reading = Reading(wish, time.monotonic())
    body = wish.body
    body["messages"][0]["content"] = number(500) * before + body["messages"][0]["content"]

    async def read() -> None:
        headers = {"Authorization": f"Bearer {cluster.key}"}
        async with (
            httpx.AsyncClient(base_url=cluster.url, headers=headers, timeout=60) as http,
            http.stream("POST", "/v1/chat/completions", json=body) as response,
        ):
            assert response.status_code == httpx.codes.OK, await response.aread()
            async for line in response.aiter_lines():
                reading.take(line)
        reading.judge()

    task = asyncio.ensure_future(read())
    try:
        yield reading, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def job_of(cluster: Cluster) -> dict[bytes, bytes] | None:
    """The one job in Redis."""
    found = list(cluster.client.scan_iter(keys.job("*")))
    return cluster.client.hgetall(found[0]) if found else None


def holder(cluster: Cluster) -> Part:
    """The worker that the one job was given to."""
    row = job_of(cluster)
    assert row is not None
    return next(part for part in cluster.workers if part.env["PENDRA_CHILD_ID"].encode() == row[b"credit"])


async def before_claim(cluster: Cluster, reading: Reading) -> Part:
    """Given to a worker that does not look (every worker is stopped, so it stays unclaimed)."""
    await eventually(lambda: job_of(cluster))
    return holder(cluster)


async def before_first_token(cluster: Cluster, reading: Reading) -> Part:
    await eventually(lambda: (job_of(cluster) or {}).get(b"worker"))
    assert not reading.times
    return holder(cluster)


async def mid_stream(cluster: Cluster, reading: Reading) -> Part:
    await eventually(lambda: len(reading.times) > 5)
    return holder(cluster)


async def last_token(cluster: Cluster, reading: Reading) -> Part:
    await eventually(lambda: len(reading.text) >= TOKENS - 1)
    return reading_worker(cluster)


def reading_worker(cluster: Cluster) -> Part:
    """Who has the job, or had it: its end may be out by now."""
    return holder(cluster) if job_of(cluster) else cluster.workers[0]


Moment = Callable[[Cluster, Reading], Awaitable[Part]]
MOMENTS = [before_claim, before_first_token, mid_stream, last_token]


PACED = {"CHAOS_STEP_S": "0.05", "PENDRA_N_BATCH": "64"}


async def test_a_worker_that_is_killed_at_every_moment(tmp_path: Path) -> None:
    async with a_cluster(tmp_path, workers=2, slots=2, **PACED) as cluster:
        for moment in MOMENTS:
            await killed_at(cluster, moment)


async def killed_at(cluster: Cluster, moment: Moment) -> None:
    for part in cluster.workers if moment is before_claim else ():
        part.signal(signal.SIGSTOP)
    async with asking(cluster, WISH, before=LONG_PROMPT) as (reading, done):
        victim = await moment(cluster, reading)
        victim.kill()
        for part in cluster.workers:
            part.signal(signal.SIGCONT)
        await asyncio.wait_for(done, 30)
    assert reading.wrong == "", moment.__name__
    victim.start()
    await settled(cluster)


async def test_a_client_that_goes_away_at_every_stage(tmp_path: Path) -> None:
    """Cancelled wherever it is: it never runs (again), and its slot is free."""
    async with a_cluster(tmp_path, workers=2, slots=2, **PACED) as cluster:
        for moment, runs in ((before_claim, 0), (before_first_token, 1), (mid_stream, 1)):
            await left_at(cluster, moment, runs)
        await left_at(cluster, mid_stream, 1, failover=True)


async def left_at(cluster: Cluster, moment: Moment, runs: int, *, failover: bool = False) -> None:
    """`runs`: how many workers should have begun it. `failover`: its worker is killed just before."""
    began = starts(cluster)
    stopped = cluster.workers if moment is before_claim else []
    for part in stopped:
        part.signal(signal.SIGSTOP)
    async with asking(cluster, WISH, before=LONG_PROMPT) as (reading, _):
        victim = await moment(cluster, reading)
        if failover:
            victim.kill()
    await eventually(lambda: failover or job_of(cluster) is None)
    for part in stopped:
        part.signal(signal.SIGCONT)
    if failover:
        victim.start()
    await settled(cluster)
    assert starts(cluster) - began == runs, f"{moment.__name__}: it ran after nobody wanted it"


async def test_a_worker_and_its_bridge_that_die_before_a_cancel_is_done(tmp_path: Path) -> None:
    """The worker never hears of it, and the bridge cannot see that it is gone: its successor frees what it held."""
    async with a_cluster(tmp_path, workers=2, slots=2, **PACED) as cluster:
        async with asking(cluster, WISH, before=LONG_PROMPT) as (reading, _):
            victim = await mid_stream(cluster, reading)
            victim.signal(signal.SIGSTOP)
        owner = cluster.owner()
        await eventually(lambda: owner.says("job.ended"))
        await asyncio.sleep(0.3)  # until it is written down
        assert job_of(cluster)
        for part in (owner, victim):
            part.kill()
        for part in (owner, victim):
            part.start()
        await settled(cluster)


def starts(cluster: Cluster) -> int:
    return sum(part.says("job.started") for part in cluster.workers)


async def test_a_client_that_goes_away_while_its_model_loads(tmp_path: Path) -> None:
    async with a_cluster(tmp_path, workers=1, slots=2, CHAOS_LOAD_S="3", preload=False) as cluster:
        async with asking(cluster, WISH):
            await eventually(lambda: (job_of(cluster) or {}).get(b"worker"))
        await eventually(lambda: job_of(cluster) is None, 2.5, "the load is over before the slot is free:")
        assert cluster.workers[0].says("job.ended") == 1


async def test_busy_cpus_alone_move_no_stream(tmp_path: Path) -> None:
    """Twice as many busy loops as there are CPUs, for longer than a lease."""
    spin = ("-c", "while True: pass")
    async with a_cluster(tmp_path, workers=2, slots=8) as cluster:
        loops = [await burn(*spin) for _ in range(2 * (os.cpu_count() or 1))]
        try:
            wishes = [Wish(100 * n, 100, Manner.STREAM) for n in range(8)]
            await asyncio.gather(*(one_of(cluster, wish) for wish in wishes))
        finally:
            for loop in loops:
                loop.kill()
                await loop.wait()
        assert sum(bridge.says("worker.lapsed") for bridge in cluster.bridges) == 0
        assert sum(part.says("attempt=1") for part in cluster.workers) == 0
        await settled(cluster)


async def burn(*argv: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, *argv)


async def one_of(cluster: Cluster, wish: Wish) -> None:
    async with asking(cluster, wish) as (reading, done):
        await asyncio.wait_for(done, 60)
    assert reading.wrong == ""


async def settled(cluster: Cluster) -> None:
    """Everything is there again, nothing is open, nothing is left."""
    await eventually(cluster.serving)
    await eventually(cluster.idle)
    await eventually(lambda: not cluster.leaks(), 10, f"keys are left: {cluster.leaks()}")
    assert cluster.overview().bridge_id == HOST  # type: ignore[union-attr]
    assert MODEL in {model.id for info in cluster.live().values() for model in info.models}
