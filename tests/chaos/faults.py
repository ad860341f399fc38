"""What can go wrong, done to a cluster: each fault breaks something, waits, and puts the part back.

What is broken comes back within seconds, as under a supervisor; that the fleet must get over it is the point.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from enum import StrEnum

import redis

from tasks import keys
from tests.chaos.cluster import Cluster, Part

ZOMBIE_S = keys.WORKER_LEASE_S + 1.5
_CLOCK_S = (-7200.0, -60.0, 60.0, 7200.0)


class Fault(StrEnum):
    KILL_WORKER = "kill_worker"
    ZOMBIE_WORKER = "zombie_worker"
    DRAIN_WORKER = "drain_worker"
    KILL_REDIS = "kill_redis"
    FREEZE_REDIS = "freeze_redis"
    FULL_REDIS = "full_redis"
    CUT_LINK = "cut_link"
    SILENT_LINK = "silent_link"
    KILL_BRIDGE = "kill_bridge"
    ZOMBIE_BRIDGE = "zombie_bridge"
    CLOCK_JUMP = "clock_jump"


class Moment(StrEnum):
    """When it goes wrong, seen from one stream."""

    BEFORE_CLAIM = "before_claim"
    BEFORE_FIRST_TOKEN = "before_first_token"
    MID_STREAM = "mid_stream"
    LAST_TOKEN = "last_token"


LOSES_WORK = frozenset({Fault.KILL_WORKER, Fault.ZOMBIE_WORKER})
"""Faults after which running streams go on elsewhere, with a pause."""


async def inject(fault: Fault, cluster: Cluster, rng: random.Random) -> str:
    """Break it, and put it back. Returns what was hit."""
    return await _HOW[fault](cluster, rng)


def _some_worker(cluster: Cluster, rng: random.Random) -> Part:
    return rng.choice([part for part in cluster.workers if part.alive])


async def _kill_worker(cluster: Cluster, rng: random.Random) -> str:
    victim = _some_worker(cluster, rng)
    await asyncio.to_thread(victim.kill)
    await asyncio.sleep(rng.choice([0.0, 1.0, keys.WORKER_LEASE_S + 1]))
    victim.start()
    return victim.name


async def _zombie_worker(cluster: Cluster, rng: random.Random) -> str:
    victim = _some_worker(cluster, rng)
    await _stopped(victim, ZOMBIE_S)
    return victim.name


async def _drain_worker(cluster: Cluster, rng: random.Random) -> str:
    """As in a rolling restart."""
    victim = _some_worker(cluster, rng)
    await asyncio.to_thread(victim.end)
    victim.start()
    return victim.name


async def _kill_redis(cluster: Cluster, rng: random.Random) -> str:
    await asyncio.to_thread(cluster.redis.kill)
    await asyncio.sleep(rng.uniform(0.0, 2.0))
    await asyncio.to_thread(cluster.redis.start)
    return "redis"


async def _freeze_redis(cluster: Cluster, rng: random.Random) -> str:
    cluster.redis.freeze()
    await asyncio.sleep(rng.uniform(1.0, keys.WORKER_LEASE_S + 1))
    cluster.redis.thaw()
    return "redis"


async def _full_redis(cluster: Cluster, rng: random.Random) -> str:
    """Every write that needs memory is refused for a while."""
    await asyncio.to_thread(cluster.client.config_set, "maxmemory", "1mb")
    try:
        await asyncio.sleep(rng.uniform(0.5, keys.WORKER_LEASE_S + 1))
    finally:
        with contextlib.suppress(redis.RedisError):
            await asyncio.to_thread(cluster.client.config_set, "maxmemory", "0")
    return "redis"


async def _cut_link(cluster: Cluster, rng: random.Random) -> str:
    cluster.wire.cut()
    return "link"


async def _silent_link(cluster: Cluster, rng: random.Random) -> str:
    cluster.wire.silence()
    await asyncio.sleep(rng.uniform(0.5, 4.0))
    lose = rng.random() < 0.7
    cluster.wire.speak(lose=lose)
    return "link, and what was under way is lost" if lose else "link, and it comes late"


async def _kill_bridge(cluster: Cluster, rng: random.Random) -> str:
    victim = cluster.owner()
    await asyncio.to_thread(victim.kill)
    await asyncio.sleep(rng.uniform(0.0, 1.0))
    victim.start()
    return victim.name


async def _zombie_bridge(cluster: Cluster, rng: random.Random) -> str:
    """It wakes to find that another one has its jobs: it must end itself, and is started again."""
    victim = cluster.owner()
    await _stopped(victim, keys.BRIDGE_LEASE_S + 1.5)
    for _ in range(100):
        if not victim.alive:
            victim.start()
            return victim.name
        await asyncio.sleep(0.05)
    return f"{victim.name}, which lives on"


async def _clock_jump(cluster: Cluster, rng: random.Random) -> str:
    """The clock of one process is set, and put right again."""
    victim = rng.choice(cluster.parts)
    seconds = rng.choice(_CLOCK_S)
    victim.clock.write_text(str(seconds))
    await asyncio.sleep(2.0)
    victim.clock.unlink()
    return f"{victim.name} by {seconds:+.0f} s"


async def _stopped(victim: Part, seconds: float) -> None:
    victim.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        victim.signal(signal.SIGCONT)


_HOW: dict[Fault, Callable[[Cluster, random.Random], Awaitable[str]]] = {
    Fault.KILL_WORKER: _kill_worker,
    Fault.ZOMBIE_WORKER: _zombie_worker,
    Fault.DRAIN_WORKER: _drain_worker,
    Fault.KILL_REDIS: _kill_redis,
    Fault.FREEZE_REDIS: _freeze_redis,
    Fault.FULL_REDIS: _full_redis,
    Fault.CUT_LINK: _cut_link,
    Fault.SILENT_LINK: _silent_link,
    Fault.KILL_BRIDGE: _kill_bridge,
    Fault.ZOMBIE_BRIDGE: _zombie_bridge,
    Fault.CLOCK_JUMP: _clock_jump,
}
