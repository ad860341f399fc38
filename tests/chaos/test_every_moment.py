"""One stream, each of the worst faults at each moment. Minutes long: `make chaos` runs it, CI does not."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tasks import keys
from tests.chaos.cluster import Cluster, Part, a_cluster
from tests.chaos.faults import ZOMBIE_S
from tests.chaos.test_moments import LONG_PROMPT, MOMENTS, PACED, WISH, Moment, asking, before_claim, settled

PATIENCE_S = 60.0


def wake(cluster: Cluster, *but: Part) -> None:
    for part in cluster.workers:
        if part not in but:
            part.signal(signal.SIGCONT)


async def stop_worker(cluster: Cluster, victim: Part) -> None:
    """Longer than its lease; then it wakes, and must write nothing into a stream that went on elsewhere."""
    victim.signal(signal.SIGSTOP)
    wake(cluster, victim)
    await asyncio.sleep(ZOMBIE_S)
    victim.signal(signal.SIGCONT)


async def kill_redis(cluster: Cluster, _victim: Part) -> None:
    await asyncio.to_thread(cluster.redis.kill)
    wake(cluster)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(cluster.redis.start)


async def cut_link(cluster: Cluster, _victim: Part) -> None:
    cluster.wire.cut()
    wake(cluster)


async def silence_link(cluster: Cluster, _victim: Part) -> None:
    cluster.wire.silence()
    wake(cluster)
    await asyncio.sleep(2.0)
    cluster.wire.speak(lose=True)


async def kill_bridge(cluster: Cluster, _victim: Part) -> None:
    bridge = cluster.owner()
    await asyncio.to_thread(bridge.kill)
    wake(cluster)
    await asyncio.sleep(keys.BRIDGE_LEASE_S / 2)
    bridge.start()


Blow = Callable[[Cluster, Part], Awaitable[None]]


@pytest.mark.parametrize("blow", [stop_worker, kill_redis, cut_link, silence_link, kill_bridge])
async def test_the_text_is_whole_whenever_it_happens(tmp_path: Path, blow: Blow) -> None:
    async with a_cluster(tmp_path, workers=2, slots=2, **PACED) as cluster:
        for moment in MOMENTS:
            await struck_at(cluster, moment, blow)


async def struck_at(cluster: Cluster, moment: Moment, blow: Blow) -> None:
    for part in cluster.workers if moment is before_claim else ():
        part.signal(signal.SIGSTOP)
    async with asking(cluster, WISH, before=LONG_PROMPT) as (reading, done):
        await blow(cluster, await moment(cluster, reading))
        await asyncio.wait_for(done, PATIENCE_S)
    assert reading.wrong == "", f"{blow.__name__} at {moment.__name__}"
    await settled(cluster)
